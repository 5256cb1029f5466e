/**
 * @file A real exit model over numbers that a test wrote down: no weights, but every host and observer runs for real.
 *
 * N = rows of the fixture, B = live rows, T = layers, C = classes, H = hidden size, K = values observed per row.
 */
import * as tf from "@tensorflow/tfjs";
import type { HostTensor } from "../host-tensor.js";
import type {
  ExitModel,
  ExitPass,
  ExitRunner,
  FullOutput,
  LayerOutput,
  Observer,
} from "../model.js";
import type { Carry, ModelShape, Signals, Task } from "../strategy.js";

/** Numbers by row, layer and position. */
export type Fixture = readonly (readonly (readonly number[])[])[];

export interface FixedExitsOptions {
  /** @default "classification" */
  readonly task?: Task;
  /** Signals `[N][T][H]` besides the logits; left out, they are made from row, layer and position. */
  readonly pooled?: Fixture;
  readonly hidden?: Fixture;
  readonly features?: Fixture;
  /** H of the signals that are made. @default 4 */
  readonly width?: number;
}

/** Input of {@link fixedExits}: which rows of the fixture make up the batch. */
export type FixtureRows = readonly number[];

/**
 * A model whose exits give these logits, shape `[N][T][C]`. It runs `observe` eagerly on the `cpu` backend of
 * TensorFlow.js, which it selects when opened.
 */
export function fixedExits(
  logits: Fixture,
  { task = "classification", pooled, hidden, features, width = 4 }: FixedExitsOptions = {},
): ExitModel<FixtureRows> {
  const depth = logits[0]?.length ?? 1;
  const classes = logits[0]?.[0]?.length ?? 1;
  const shape: ModelShape = {
    task,
    depth,
    hidden: (hidden ?? pooled)?.[0]?.[0]?.length ?? width,
    classes,
  };
  const made = (salt: number) => (row: number, layer: number) =>
    Array.from({ length: shape.hidden }, (_, index) => madeUp(row, layer, index, salt));
  const from = (fixture: Fixture | undefined, salt: number) =>
    fixture ? (row: number, layer: number) => at(fixture, row, layer) : made(salt);
  const sources = {
    logits: from(logits, 0),
    hidden: from(hidden, 1),
    pooled: from(pooled, 2),
    features: from(features ?? pooled, 2),
  };
  const signalsAt = (rows: FixtureRows, layer: number): Signals => {
    const tensor = (name: keyof typeof sources) => {
      const values = rows.map((row) => sources[name](row, layer));
      const size = values[0]?.length ?? (name === "logits" ? classes : shape.hidden);
      return tf.tensor2d(Float32Array.from(values.flat()), [rows.length, size], "float32");
    };
    return lazily({
      logits: () => tensor("logits"),
      probs: (now) => tf.softmax(now.logits) as tf.Tensor2D,
      pooled: () => tensor("pooled"),
      hidden: () => tensor("hidden"),
      features: () => tensor("features"),
    });
  };
  return {
    shape,
    async open(observer) {
      await tf.setBackend("cpu");
      return fixtureRunner(shape, observer, signalsAt);
    },
  };
}

type SignalsAt = (rows: FixtureRows, layer: number) => Signals;

function fixtureRunner(
  shape: ModelShape,
  observer: Observer,
  signalsAt: SignalsAt,
): ExitRunner<FixtureRows> {
  const params = Object.fromEntries(
    Object.entries(observer.params).map(([name, tensor]) => [name, toTensor(tensor)]),
  );
  const step = (rows: FixtureRows, layer: number, carry: Carry | undefined) =>
    observeLayer(shape, observer, params, signalsAt, rows, layer, carry);
  return {
    shape,
    async full(rows): Promise<FullOutput> {
      const layers: LayerOutput[] = [];
      let carry: Carry | undefined;
      try {
        for (let layer = 1; layer <= shape.depth; layer += 1) {
          const output = step(rows, layer, carry);
          disposeCarry(carry);
          carry = output.carry;
          layers.push(output);
        }
      } finally {
        disposeCarry(carry);
      }
      const width = layers[0]?.observedWidth ?? 1;
      if (layers.some(({ observedWidth }) => observedWidth !== width))
        throw new Error(
          `[${observer.name}] observe must give the same number of values at every layer, got ${layers.map((layer) => layer.observedWidth).join(", ")}.`,
        );
      return {
        rows: rows.length,
        observed: interleave(
          layers.map(({ observed }) => observed),
          rows.length,
          width,
        ),
        observedWidth: width,
        logits: interleave(
          layers.map((layer) => layer.logits),
          rows.length,
          shape.classes,
        ),
      };
    },
    async begin(rows) {
      return fixturePass(rows, shape, step);
    },
    async dispose() {
      tf.dispose(params);
    },
  };
}

type Step = (
  rows: FixtureRows,
  layer: number,
  carry: Carry | undefined,
) => LayerOutput & { readonly carry: Carry | undefined };

function fixturePass(input: FixtureRows, shape: ModelShape, step: Step): ExitPass {
  let live = input.map((_, index) => index);
  let layer = 0;
  let carry: Carry | undefined;
  let isDisposed = false;
  return {
    get liveRows() {
      return live;
    },
    get layer() {
      return layer;
    },
    async advance() {
      if (isDisposed) throw new Error("[fixed-exits] the pass was disposed. Begin another.");
      if (layer === shape.depth)
        throw new Error(`[fixed-exits] all ${shape.depth} layers have run. Stop at the last one.`);
      const rows = live.map((index) => input[index] as number);
      const output = step(rows, layer + 1, carry);
      layer += 1;
      disposeCarry(carry);
      carry = output.carry;
      return output;
    },
    keep(rows) {
      const positions = rows.map((row) => live.indexOf(row));
      if (positions.includes(-1))
        throw new Error(`[fixed-exits] rows ${rows.join(", ")} are not all live. Keep live rows.`);
      const before = carry;
      if (before !== undefined)
        carry = tf.tidy(() =>
          mapCarry(before, (leaf) => tf.gather(leaf, tf.tensor1d(positions, "int32"))),
        ) as Carry;
      disposeCarry(before);
      live = [...rows];
    },
    dispose() {
      disposeCarry(carry);
      carry = undefined;
      isDisposed = true;
    },
  };
}

function observeLayer(
  shape: ModelShape,
  observer: Observer,
  params: Readonly<Record<string, tf.Tensor>>,
  signalsAt: SignalsAt,
  rows: FixtureRows,
  layer: number,
  carry: Carry | undefined,
): LayerOutput & { readonly carry: Carry | undefined } {
  let observed = new Float32Array(0);
  let observedWidth = 1;
  let logits = new Float32Array(0);
  const next = tf.tidy(() => {
    const now = signalsAt(rows, layer);
    const site = { layer, depth: shape.depth, task: shape.task };
    const made = observer.observe(now, { site, params, carry });
    const plain = made instanceof tf.Tensor ? { values: made } : made;
    observed = plain.values.dataSync<"float32">().slice();
    observedWidth = plain.values.shape[1] ?? 1;
    const answer = ("logits" in plain ? plain.logits : undefined) ?? now.logits;
    logits = answer.dataSync<"float32">().slice();
    const after = "carry" in plain ? plain.carry : undefined;
    // Copies: the observer may hand on tensors that belong to this layer's signals or to the carry before.
    return after === undefined ? [] : [mapCarry(after, (leaf) => tf.clone(leaf))];
  }) as readonly Carry[];
  return { observed, observedWidth, logits, carry: next[0] };
}

function mapCarry(carry: Carry, fn: (leaf: tf.Tensor) => tf.Tensor): tf.TensorContainer {
  if (carry instanceof tf.Tensor) return fn(carry);
  if (Array.isArray(carry)) return carry.map((child: Carry) => mapCarry(child, fn));
  return Object.fromEntries(
    Object.entries(carry as Record<string, Carry>).map(([key, child]) => [
      key,
      mapCarry(child, fn),
    ]),
  );
}

function disposeCarry(carry: Carry | undefined): void {
  if (carry !== undefined) tf.dispose(carry as tf.TensorContainer);
}

/** Computes each signal when it is first read. */
function lazily(compute: { [K in keyof Signals]: (now: Signals) => Signals[K] }): Signals {
  const known: Partial<Record<keyof Signals, tf.Tensor2D>> = {};
  const now = {} as Signals;
  for (const name of Object.keys(compute) as (keyof Signals)[])
    Object.defineProperty(now, name, {
      enumerable: true,
      get() {
        known[name] ??= compute[name](now);
        return known[name];
      },
    });
  return now;
}

/** T arrays `[N, width]` to one array `[N, T, width]`. */
function interleave(layers: readonly Float32Array[], rows: number, width: number): Float32Array {
  const data = new Float32Array(rows * layers.length * width);
  layers.forEach((layer, index) => {
    for (let row = 0; row < rows; row += 1)
      data.set(
        layer.subarray(row * width, (row + 1) * width),
        (row * layers.length + index) * width,
      );
  });
  return data;
}

function at(fixture: Fixture, row: number, layer: number): readonly number[] {
  const values = fixture[row]?.[layer - 1];
  if (!values) throw new Error(`[fixed-exits] the fixture has no row ${row} at layer ${layer}.`);
  return values;
}

/** A number in [-1, 1) that depends on nothing but where it stands. */
function madeUp(row: number, layer: number, index: number, salt: number): number {
  let bits = Math.imul(row + 1, 0x9e3779b1) ^ Math.imul(layer, 0x85ebca77);
  bits ^= Math.imul(index + 1, 0xc2b2ae3d) ^ Math.imul(salt + 1, 0x27d4eb2f);
  bits = Math.imul(bits ^ (bits >>> 15), 0x2c1b3c6d);
  bits = Math.imul(bits ^ (bits >>> 12), 0x297a2d39);
  return ((bits ^ (bits >>> 15)) >>> 0) / 2 ** 31 - 1;
}

export function toTensor({ data, shape, dtype }: HostTensor): tf.Tensor {
  return tf.tensor(data, [...shape], dtype);
}
