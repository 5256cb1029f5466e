/**
 * @file Decoders for the trainer: every token that is to be learned is a row of its own.
 *
 * Padding and prompts give no rows, so no loss, reward or mean can count them. A row has the states of the token before
 * the one that it is to give, which are those that the same decision is taken on when a text is generated.
 *
 * Shapes: B = texts, S = padded length, M = rows of a batch, N = rows of a data set, L = layers, H = hidden size,
 * V = vocabulary, K = values observed per row.
 */
import {
  type CompiledFunction,
  type Engine,
  type HostParams,
  type HostTensor,
  type HostTree,
  softmaxCrossEntropy,
  type TensorParams,
} from "@cee/engine";
import type { Carry, ModelShape, Observer, Signals } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "../../errors.js";
import { llamaBlock, llamaEmbed, llamaFrame } from "../../llama.js";
import { compileClearly } from "../../runner/compile.js";
import { withStrategy } from "../../runner/layer.js";
import { observeAt } from "../../runner/observation.js";
import { type RecordedSignal, specsOf } from "../../runner/open.js";
import { memoise, strategyParams } from "../../runner/signals.js";
import { planPass } from "../../train/batches.js";
import { disposeStates, type Recording } from "../../train/recording.js";
import { createStateStore, type StateStore } from "../../train/state-store.js";
import type { Recorder, RecorderOptions, TrainingSubject } from "../../train/subject.js";
import type { CausalDecoder } from "../decoder.js";
import { signalsOf } from "../programs.js";
import { type Lora, loraAdapter } from "./lora.js";

/** A text to learn from. */
export interface DecoderText {
  readonly id: string;
  /** At least two tokens. */
  readonly ids: Int32Array;
  /** The first token, counted from 0, that is to be learned; from 1 on, since the first one stands behind nothing. */
  readonly from: number;
}

/** What of a decoder a training needs. */
export type DecoderPlan = Pick<CausalDecoder, "config" | "shape" | "heads">;

type Batch = Readonly<Record<"ids" | "positions" | "places" | "labels", tf.Tensor>>;

export function decoderSubject(
  plan: DecoderPlan,
  lora: Lora | undefined,
): TrainingSubject<DecoderText> {
  const { config, shape, heads } = plan;
  return {
    shape,
    head: { name: heads },
    identity: [shape, heads, config, lora ?? null],
    inputs: {
      ids: { dtype: "int32", shape: ["batch", "length"] },
      positions: { dtype: "int32", shape: ["length"] },
      places: { dtype: "int32", shape: ["rows"] },
    },
    rowAxis: "rows",
    check: (text) => checkText(text, plan),
    digest: ({ id, ids, from }) => [JSON.stringify([id, from, ids.length]), ids],
    length: ({ ids }) => ids.length,
    labels: ({ ids, from }) => Float32Array.from(ids.subarray(from)),
    feed: (texts) => feedOf(texts, config.maxPositions),
    signals: (params, batch, seed) =>
      decoderSignals(plan, params, batch as unknown as Batch, lora, seed),
    signalsOfStates(params, hidden) {
      const at = (index: number) =>
        tf.squeeze<tf.Tensor2D>(tf.gather(hidden, tf.tensor1d([index], "int32"), 1), [1]); // [B, H]
      return Array.from({ length: shape.depth }, (_, index) =>
        signalsOf(plan, params, index + 1, () => at(index)),
      );
    },
    // Logits of every token and layer would be as large as a vocabulary; losses and answers stand for them.
    recorded: (needs) => needs,
    recorder: (engine, params, observer, signals) =>
      decoderRecorder(engine, plan, lora, params, observer, signals),
    trainedHeads(before, _params, isReached) {
      const layers = Array.from({ length: shape.depth }, (_, index) => index + 1);
      if (heads === "shared" && ["backbone.", "lora."].some(isReached)) return layers;
      return layers.filter(
        (layer) => before?.heads.includes(layer) || isReached(`heads.${layer}.`),
      );
    },
  };
}

function checkText({ id, ids, from }: DecoderText, { config }: DecoderPlan): void {
  const refuse = (message: string): never => {
    throw new BackboneError("BAD_INPUT", id, message);
  };
  if (ids.length > config.maxPositions)
    refuse(
      `a text has ${ids.length} tokens, the model has positions for ${config.maxPositions}. Cut it to ${config.maxPositions} tokens.`,
    );
  if (!(Number.isInteger(from) && from >= 1 && from < ids.length))
    refuse(
      `the first token to learn must be one from 1 to ${ids.length - 1}, got ${from}. Leave texts without such tokens out.`,
    );
  for (const token of ids)
    if (token < 0 || token >= config.vocabSize)
      refuse(
        `token ids must be from 0 to ${config.vocabSize - 1}, got ${token}. Use the tokenizer that belongs to the model.`,
      );
}

/** Texts padded on the right, which no token looks at, and the places of the rows in `[B S]`. */
function feedOf(
  texts: readonly DecoderText[],
  maxPositions: number,
): Readonly<Record<string, HostTensor>> {
  const longest = Math.max(...texts.map(({ ids }) => ids.length));
  // Fewer distinct lengths spare the runtime's memory planner.
  const S = Math.min(Math.ceil(longest / 8) * 8, Math.max(longest, maxPositions));
  const ids = new Int32Array(texts.length * S);
  const places: number[] = [];
  texts.forEach((text, row) => {
    ids.set(text.ids, row * S);
    for (let token = text.from; token < text.ids.length; token += 1)
      places.push(row * S + token - 1);
  });
  return {
    ids: { dtype: "int32", shape: [texts.length, S], data: ids },
    positions: { dtype: "int32", shape: [S], data: Int32Array.from({ length: S }, (_, at) => at) },
    places: { dtype: "int32", shape: [places.length], data: Int32Array.from(places) },
  };
}

/** Signals of the rows at every layer; reading layer t runs the blocks up to t. */
function decoderSignals(
  plan: DecoderPlan,
  params: TensorParams,
  { ids, positions, places }: Batch,
  lora: Lora | undefined,
  seed: tf.Tensor1D | undefined,
): readonly Signals[] {
  const { config } = plan;
  const memo = memoise();
  const frame = () =>
    memo("frame", () => {
      const S = positions.shape[0] as number;
      const [later, earlier] = [tf.reshape(positions, [S, 1]), tf.reshape(positions, [1, S])];
      const mask = tf.expandDims(tf.cast(tf.greaterEqual(later, earlier), "float32"), 0); // [1, S, S]
      const shared = llamaFrame(
        { positions: earlier as tf.Tensor2D, mask: mask as tf.Tensor3D },
        config,
      );
      return lora ? { ...shared, adapt: loraAdapter(params, lora, seed) } : shared;
    });
  const blocks = (layer: number): tf.Tensor3D =>
    memo(`block.${layer}`, () =>
      layer === 0
        ? llamaEmbed(params, ids as tf.Tensor2D)
        : llamaBlock(params, layer, blocks(layer - 1), undefined, frame(), config).hidden,
    );
  const rows = (layer: number): tf.Tensor2D =>
    memo(`rows.${layer}`, () => {
      const hidden = blocks(layer);
      const [B, S, H] = hidden.shape;
      return tf.gather(tf.reshape(hidden, [B * S, H]), places as tf.Tensor1D) as tf.Tensor2D; // [M, H]
    });
  return Array.from({ length: plan.shape.depth }, (_, index) =>
    signalsOf(plan, params, index + 1, () => rows(index + 1)),
  );
}

type RecordResult = {
  readonly [key: string]: HostTree;
  readonly losses: HostTensor[];
  readonly answers: HostTensor[];
  readonly values: HostTensor[];
  readonly extra: { readonly [name: string]: HostTensor[] };
};

function decoderRecorder(
  engine: Engine,
  plan: DecoderPlan,
  lora: Lora | undefined,
  params: HostParams,
  observer: Observer,
  extra: readonly RecordedSignal[],
): Recorder<DecoderText> {
  const { shape } = plan;
  const all = withStrategy(params, observer);
  const program = compileClearly(
    engine,
    ({ params: weights, ...batch }) => {
      const tensors = batch as unknown as Batch;
      const signals = decoderSignals(plan, weights as TensorParams, tensors, lora, undefined);
      const own = strategyParams(weights as TensorParams);
      let carry: Carry | undefined;
      const values = signals.map((now, index) => {
        const observed = observeAt(observer, plan, index + 1, now, own, carry);
        carry = observed.carry;
        return observed.values;
      });
      return {
        values,
        losses: signals.map(({ logits }) =>
          softmaxCrossEntropy(logits, tensors.labels as tf.Tensor1D),
        ),
        answers: signals.map(({ logits }) => tf.cast(tf.argMax(logits, 1), "float32")),
        extra: Object.fromEntries(extra.map((name) => [name, signals.map((now) => now[name])])),
      };
    },
    {
      name: "record tokens",
      inputs: {
        ids: { dtype: "int32", shape: ["batch", "length"] },
        positions: { dtype: "int32", shape: ["length"] },
        places: { dtype: "int32", shape: ["rows"] },
        labels: { dtype: "float32", shape: ["rows"] },
        params: specsOf(all),
      },
    },
  );
  return {
    run: (weights, texts, options) =>
      recordTokens(program, shape, withoutOthers(weights, all), texts, extra, {
        ...options,
        maxPositions: plan.config.maxPositions,
      }),
    dispose: () => program.dispose(),
  };
}

function withoutOthers(params: HostParams, wanted: HostParams): HostParams {
  return Object.fromEntries(Object.entries(params).filter(([path]) => path in wanted));
}

async function recordTokens(
  program: CompiledFunction,
  shape: ModelShape,
  params: HostParams,
  texts: readonly DecoderText[],
  extra: readonly RecordedSignal[],
  {
    batchSize,
    folder,
    memoryLimit,
    log,
    onProgress,
    maxPositions,
  }: RecorderOptions & { readonly maxPositions: number },
): Promise<Recording> {
  const { depth } = shape;
  const starts = [0];
  for (const { ids, from } of texts) starts.push((starts.at(-1) as number) + ids.length - from);
  const rows = starts.at(-1) as number;
  const losses = new Float32Array(rows * depth);
  const answers = new Float32Array(rows * depth);
  let observed = new Float32Array(0);
  let observedWidth = 1;
  const states: Partial<Record<RecordedSignal, StateStore>> = {};
  let done = 0;
  try {
    const lengths = texts.map(({ ids }) => ids.length);
    for (const batch of planPass(lengths, batchSize)) {
      const own = batch.map((index) => texts[index] as DecoderText);
      const labels = Float32Array.from(own.flatMap(({ ids, from }) => [...ids.subarray(from)]));
      const output = await program.run<RecordResult>({
        ...feedOf(own, maxPositions),
        labels: { dtype: "float32", shape: [labels.length], data: labels },
        params,
      });
      /** Where each row of the batch belongs among all rows. */
      const targets = batch.flatMap((text) => {
        const [start, end] = [starts[text] as number, starts[text + 1] as number];
        return Array.from({ length: end - start }, (_, index) => start + index);
      });
      const scatter = (tensors: readonly HostTensor[], into: Float32Array, width: number) =>
        tensors.forEach((tensor, layer) => {
          const data = tensor.data as Float32Array;
          targets.forEach((row, index) => {
            into.set(
              data.subarray(index * width, (index + 1) * width),
              (row * depth + layer) * width,
            );
          });
        });
      if (observed.length === 0) {
        observedWidth = (output.values[0] as HostTensor).shape[1] as number;
        observed = new Float32Array(rows * depth * observedWidth);
      }
      scatter(output.losses, losses, 1);
      scatter(output.answers, answers, 1);
      scatter(output.values, observed, observedWidth);
      for (const name of extra) {
        const layers = output.extra[name] as HostTensor[];
        const width = (layers[0] as HostTensor).shape[1] as number;
        states[name] ??= createStateStore({
          rows,
          width: depth * width,
          folder: folder && `${folder}/${name}`,
          memoryLimit,
          log,
        });
        const one = new Float32Array(depth * width);
        for (const [index, row] of targets.entries()) {
          layers.forEach(({ data }, layer) => {
            const values = data as Float32Array;
            one.set(values.subarray(index * width, (index + 1) * width), layer * width);
          });
          states[name].put(row, one);
        }
      }
      done += batch.length;
      onProgress?.(done, texts.length);
    }
  } catch (error) {
    disposeStates(states);
    throw error;
  }
  return {
    record: {
      shape,
      ids: texts.flatMap(({ id, ids, from }) =>
        Array.from({ length: ids.length - from }, (_, index) => `${id}:${from + index}`),
      ),
      labels: Float32Array.from(texts.flatMap(({ ids, from }) => [...ids.subarray(from)])),
      logits: new Float32Array(0),
      tokens: { losses, answers },
      observed,
      observedWidth,
    },
    states,
  };
}
