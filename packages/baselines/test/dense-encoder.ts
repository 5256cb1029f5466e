/**
 * @file BERT's encoder once more, dense and in plain tfjs operations on the eager backend, for checking passes that skip.
 *
 * Shapes: B = rows, S = length, H = hidden size, N = heads, D = H / N.
 */
import type { ModelPlan, TokenBatch } from "@cee/backbone";
import * as tf from "@tensorflow/tfjs";

/**
 * Logits of the linear head at layer `last`, row-major.
 * @param between what a layer hands on, from its input and its output
 * @param keysOf 1 for the tokens that a layer may attend to, `[B * S]`; @default the batch's mask
 */
export function denseEncoder(
  { config }: ModelPlan,
  params: Readonly<Record<string, tf.Tensor>>,
  batch: TokenBatch,
  between: (layer: number, before: tf.Tensor, after: tf.Tensor) => tf.Tensor,
  last: number,
  keysOf: (layer: number) => Float32Array = () => batch.mask,
): Float32Array {
  const { rows: B, length: S } = batch;
  const { hidden: H, heads: N } = config;
  const get = (path: string) => params[path] as tf.Tensor;
  const linear = (x: tf.Tensor, path: string) =>
    tf.add(
      tf.reshape(
        tf.matMul(
          tf.reshape(x, [-1, x.shape.at(-1) as number]),
          get(`${path}.weight`) as tf.Tensor2D,
          false,
          true,
        ),
        [...x.shape.slice(0, -1), -1],
      ),
      get(`${path}.bias`),
    );
  const norm = (x: tf.Tensor, path: string) => {
    const { mean, variance } = tf.moments(x, -1, true);
    const plain = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, config.layerNormEps)));
    return tf.add(tf.mul(plain, get(`${path}.weight`)), get(`${path}.bias`));
  };
  const gelu = (x: tf.Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));
  const heads = (x: tf.Tensor) => tf.transpose(tf.reshape(x, [B, S, N, H / N]), [0, 2, 1, 3]);
  return tf.tidy(() => {
    const table = (name: string) => get(`backbone.embeddings.${name}_embeddings.weight`);
    const look = (name: string, ids: ArrayLike<number>) =>
      tf.reshape(tf.gather(table(name), tf.tensor1d(Int32Array.from(ids), "int32")), [B, S, H]);
    const positions = Array.from({ length: B * S }, (_, at) => at % S);
    let hidden: tf.Tensor = norm(
      tf.addN([
        look("word", batch.ids),
        look("token_type", batch.types),
        look("position", positions),
      ]),
      "backbone.embeddings.LayerNorm",
    );
    for (let layer = 1; layer <= last; layer += 1) {
      const path = `backbone.encoder.layer.${layer - 1}`;
      const [q, k, v] = ["query", "key", "value"].map((name) =>
        heads(linear(hidden, `${path}.attention.self.${name}`)),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor];
      const isKey = tf.reshape(tf.tensor1d(keysOf(layer)), [B, 1, 1, S]);
      const scores = tf.div(tf.matMul(q, k, false, true), Math.sqrt(H / N));
      // Written as a choice, and not as an added constant.
      const masked = tf.where(tf.broadcastTo(tf.equal(isKey, 1), scores.shape), scores, -1e30);
      const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(masked), v), [0, 2, 1, 3]), [
        B,
        S,
        H,
      ]);
      const attended = norm(
        tf.add(linear(mixed, `${path}.attention.output.dense`), hidden),
        `${path}.attention.output.LayerNorm`,
      );
      const inner = gelu(linear(attended, `${path}.intermediate.dense`));
      const after = norm(
        tf.add(linear(inner, `${path}.output.dense`), attended),
        `${path}.output.LayerNorm`,
      );
      hidden = between(layer, hidden, after);
    }
    const first = tf.reshape(tf.slice(hidden, [0, 0, 0], [B, 1, H]), [B, H]);
    const pooled = tf.tanh(linear(first, "backbone.pooler.dense"));
    return linear(pooled, `heads.${last}.classifier`).dataSync() as Float32Array;
  });
}
