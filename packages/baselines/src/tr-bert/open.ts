/**
 * @file Runs TR-BERT for real: three stretches of layers, and between them the tokens that a selector drops are gone.
 *
 * Shapes: B = rows, S = length of a stretch, H = hidden size, C = classes.
 */
import {
  attentionBias,
  batchInputs,
  batchSpecs,
  block,
  checkBatch,
  embed,
  type ModelPlan,
} from "@cee/backbone";
import type { CompiledFunction, Engine, HostParams, HostTensor, TensorParams } from "@cee/engine";
import { predictionOf } from "@cee/exit-policies";
import type * as tf from "@tensorflow/tfjs";
import { partOf, type TokenwiseModel } from "../hashee/open.js";
import { layers } from "../losses.js";
import { answer } from "../own-forward.js";
import { lengthsOf } from "../token-batch.js";
import { droppedTokenMacs } from "../token-cost.js";
import { checkTrBert, keepProbability, selectorLayers } from "./selector.js";

type Stretch = {
  readonly hidden: HostTensor;
  /** Of the selector behind the stretch, `[B, S]`. */
  readonly keep: HostTensor;
};

/**
 * Compiles the model, weights and selectors baked in.
 * @throws BackboneError `BAD_OPTION` for a regression, or for fewer than four layers
 */
export function openTrBert(engine: Engine, model: ModelPlan, params: HostParams): TokenwiseModel {
  checkTrBert(model);
  const { config, shape } = model;
  const { depth, classes, task, hidden: H } = shape;
  const [first, second] = selectorLayers(depth);
  const context = { config };
  const states = { dtype: "float32", shape: ["batch", "length", H] } as const;
  const selectorOf = (selector: 1 | 2): HostParams =>
    Object.fromEntries(
      Object.entries(params).filter(([path]) => path.startsWith(`strategy.selector${selector}.`)),
    );

  const stretch = (from: number, to: number, selector: 1 | 2): CompiledFunction =>
    engine.compile(
      ({ params: weights, mask, hidden: before, ...tokens }) => {
        const bias = attentionBias(mask);
        let hidden: tf.Tensor3D =
          before ?? embed(weights as TensorParams, { ...tokens, mask }, context);
        for (const layer of layers(from, to)) hidden = block(weights, layer, hidden, bias, context);
        return { hidden, keep: keepProbability(weights, selector, hidden) };
      },
      {
        name: `tr-bert ${from}-${to}`,
        inputs: from === 1 ? batchSpecs : { hidden: states, mask: batchSpecs.mask },
        constants: {
          params: {
            ...partOf(params, layers(from, to), from === 1, undefined),
            ...selectorOf(selector),
          },
        },
      },
    );
  const programs = [
    stretch(1, first, 1),
    stretch(first + 1, second, 2),
    engine.compile(
      ({ params: weights, mask, hidden: before }) => {
        const bias = attentionBias(mask);
        let hidden: tf.Tensor3D = before;
        for (const layer of layers(second + 1, depth))
          hidden = block(weights, layer, hidden, bias, context);
        return answer(model, { weights, context }, hidden, mask, depth);
      },
      {
        name: `tr-bert ${second + 1}-${depth}`,
        inputs: { hidden: states, mask: batchSpecs.mask },
        constants: { params: partOf(params, layers(second + 1, depth), false, depth) },
      },
    ),
  ] as const;

  return {
    async classify(batch) {
      checkBatch(batch, config, "tr-bert");
      const { rows } = batch;
      const lengths = [lengthsOf(batch)];
      const one = await programs[0].run<Stretch>(batchInputs(batch));
      const short = dropTokens(one, batchInputs(batch).mask);
      lengths.push(short.lengths);
      const two = await programs[1].run<Stretch>({ hidden: short.hidden, mask: short.mask });
      const shorter = dropTokens(two, short.mask);
      lengths.push(shorter.lengths);
      const { data } = await programs[2].run<HostTensor>({
        hidden: shorter.hidden,
        mask: shorter.mask,
      });
      const logits = data as Float32Array;
      const active = new Int32Array(rows * depth);
      for (let row = 0; row < rows; row += 1)
        for (const layer of layers(1, depth))
          active[row * depth + layer - 1] = (
            lengths[layer <= first ? 0 : layer <= second ? 1 : 2] as Int32Array
          )[row] as number;
      return {
        logits,
        predictions: Float32Array.from({ length: rows }, (_, row) =>
          predictionOf(task, logits, row * classes, classes),
        ),
        active,
        macs: Float64Array.from({ length: rows }, (_, row) =>
          trBertMacs(active.subarray(row * depth, (row + 1) * depth), model, params),
        ),
      };
    },
    async dispose() {
      for (const program of programs) await program.dispose();
    },
  };
}

/** Multiply-adds of a row: its blocks on the tokens they see, and both selectors on the tokens they are shown. */
function trBertMacs(present: Int32Array, { config, shape }: ModelPlan, params: HostParams): number {
  const width = params["strategy.selector1.inner.weight"]?.shape[0] ?? 0;
  const [first, second] = selectorLayers(shape.depth);
  const shown = (present[first - 1] as number) + (present[second - 1] as number);
  return droppedTokenMacs(present, config) + shown * (shape.hidden * width + width);
}

/**
 * Leaves out what is kept with a probability below 0.5; the first token always stays. Rows are padded to the longest of
 * them, and the padding is masked.
 */
// Deviates from the released code: it keeps the same number of tokens, the best, in every row of a batch, so that a row's
// answer depends on its neighbours; here a row keeps exactly its own.
function dropTokens({ hidden, keep }: Stretch, mask: HostTensor) {
  const [rows, length, width] = hidden.shape as [number, number, number];
  const kept = Array.from({ length: rows }, (_, row) =>
    Array.from({ length }, (_, at) => at).filter(
      (at) =>
        mask.data[row * length + at] === 1 &&
        (at === 0 || (keep.data[row * length + at] as number) >= 0.5),
    ),
  );
  const longest = Math.max(1, ...kept.map((own) => own.length));
  const states = new Float32Array(rows * longest * width);
  const present = new Float32Array(rows * longest);
  kept.forEach((own, row) => {
    own.forEach((at, place) => {
      const from = (row * length + at) * width;
      states.set(
        (hidden.data as Float32Array).subarray(from, from + width),
        (row * longest + place) * width,
      );
      present[row * longest + place] = 1;
    });
  });
  return {
    hidden: { dtype: "float32", shape: [rows, longest, width], data: states } satisfies HostTensor,
    mask: { dtype: "float32", shape: [rows, longest], data: present } satisfies HostTensor,
    lengths: Int32Array.from(kept, (own) => own.length),
  };
}
