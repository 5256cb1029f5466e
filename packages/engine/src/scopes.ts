/** @file Moves tensors between the scopes of `tf.tidy`. */
import * as tf from "@tensorflow/tfjs";

/** The part of TensorFlow.js's scope bookkeeping that is used here. */
interface Scope {
  readonly id: number;
  readonly track: tf.Tensor[];
}

function activeScope(): Scope | null {
  return tf.engine().state.activeScope as Scope | null;
}

/**
 * Remembers the scope that is current now and returns a function that moves tensors there from a scope inside it.
 *
 * A value that is computed on first use and used again later must not die with whichever `tf.tidy` asked for it first.
 */
export function rememberScope(): <TTensor extends tf.Tensor>(tensor: TTensor) => TTensor {
  const home = activeScope();
  return (tensor) => {
    const current = activeScope();
    if (!current || current === home) return tensor;
    const place = current.track.indexOf(tensor);
    if (place < 0) return tensor;
    current.track.splice(place, 1);
    if (home) {
      tensor.scopeId = home.id;
      home.track.push(tensor);
    }
    return tensor;
  };
}
