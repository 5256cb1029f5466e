/**
 * @file Lays small tensors of a record end to end, so that an optimiser passes over one vector instead of hundreds.
 *
 * An encoder has hundreds of parameters, most of them small: updating each by itself is thousands of operations whose
 * overhead outweighs their arithmetic.
 */
import * as tf from "@tensorflow/tfjs";

/** Larger tensors stay by themselves: copying them costs more than an operation does. */
const LARGEST_FLAT = 2 ** 18;

export interface FlatLayout {
  /** Paths laid into each vector, in order. */
  readonly groups: readonly (readonly string[])[];
}

/**
 * Groups the paths of a record: small tensors with the same `kind` share a vector, large ones stay alone.
 */
export function layOut(
  paths: readonly string[],
  sizeOf: (path: string) => number,
  kind: (path: string) => string,
): FlatLayout {
  const shared = new Map<string, string[]>();
  const alone: string[][] = [];
  for (const path of paths) {
    if (sizeOf(path) > LARGEST_FLAT) alone.push([path]);
    else {
      const group = shared.get(kind(path)) ?? [];
      group.push(path);
      shared.set(kind(path), group);
    }
  }
  return { groups: [...shared.values(), ...alone] };
}

/** The tensors of a group end to end; a single one as it is. */
export function join(
  record: Readonly<Record<string, tf.Tensor>>,
  group: readonly string[],
): tf.Tensor {
  if (group.length === 1) return record[group[0] as string] as tf.Tensor;
  return tf.concat(group.map((path) => tf.reshape(record[path] as tf.Tensor, [-1]) as tf.Tensor1D));
}

/** Takes {@link join} apart, into the shapes of `like`. */
export function part(
  joined: tf.Tensor,
  group: readonly string[],
  like: Readonly<Record<string, tf.Tensor>>,
): Record<string, tf.Tensor> {
  if (group.length === 1) return { [group[0] as string]: joined };
  const tensors = group.map((path) => like[path] as tf.Tensor);
  const pieces = tf.split(
    joined,
    tensors.map((tensor) => tensor.size),
  );
  return Object.fromEntries(
    group.map((path, index) => [
      path,
      tf.reshape(pieces[index] as tf.Tensor, (tensors[index] as tf.Tensor).shape),
    ]),
  );
}
