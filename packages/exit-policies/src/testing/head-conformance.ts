/**
 * @file The conformance kit for exit heads.
 *
 * Shapes: B = rows, S = sequence, H = hidden size, F = features, C = classes.
 */
import * as tf from "@tensorflow/tfjs";
import type { ExitHead, ExitHeadInput, ExitHeadOutput } from "../head.js";
import type { HostParams } from "../host-tensor.js";
import { messageOf } from "../observer.js";
import { sizeOf } from "../safetensors.js";
import type { Carry, ModelShape } from "../strategy.js";
import type { ConformanceCheck } from "./conformance.js";
import { guideTo } from "./guide.js";
import { CheckFailure, ensure, randomFrom, range, sameNumbers, withoutLeaks } from "./subject.js";

export interface HeadConformanceOptions {
  /** Sizes of the fixture model. @default { depth: 4, hidden: 6, classes: 3 } */
  readonly shape?: Partial<Pick<ModelShape, "depth" | "hidden" | "classes">>;
}

interface HeadCheck {
  readonly name: string;
  run(head: ExitHead, shape: ModelShape): void | Promise<void>;
}

const [ROWS, LENGTH, SEED] = [3, 5, 7];
/** Float32 results of another batch size may differ in the last digits. */
const CLOSE = 1e-5;

/**
 * The checks for one exit head, for any runner:
 * `for (const check of headConformance(myHead)) it(check.name, check.run);`
 *
 * They run on the `cpu` backend of TensorFlow.js, for classification and for regression.
 */
export function headConformance(
  head: ExitHead,
  { shape = {} }: HeadConformanceOptions = {},
): readonly ConformanceCheck[] {
  const sizes = { depth: 4, hidden: 6, classes: 3, ...shape };
  const shapes: readonly ModelShape[] = [
    { ...sizes, task: "classification" },
    { ...sizes, task: "regression", classes: 1 },
  ];
  return checks.map(({ name, run }) => ({
    name: `head: ${name}`,
    isVital: true,
    async run() {
      try {
        await tf.setBackend("cpu");
        for (const one of shapes) await run(head, one);
      } catch (error) {
        const message =
          error instanceof CheckFailure
            ? error.message
            : `the head must run without throwing, got ${messageOf(error)}`;
        throw new Error(`[${head.name}] ${name}: ${message}. ${guideTo("heads")}`, {
          cause: error,
        });
      }
    },
  }));
}

const checks: readonly HeadCheck[] = [
  {
    name: "params creates well-formed tensors at every layer",
    run(head, shape) {
      for (const layer of layersOf(shape))
        for (const [name, tensor] of Object.entries({
          ...head.params(shape, layer, SEED),
          ...head.shared?.(shape, SEED),
        }))
          ensure(
            tensor.data.length === sizeOf(tensor.shape) &&
              tensor.dtype === "float32" &&
              [...tensor.data].every(Number.isFinite),
            `the parameter "${name}" of layer ${layer} must be float32, finite, with as many numbers as its shape says`,
            `${tensor.dtype} [${tensor.shape.join(", ")}] with ${tensor.data.length}`,
            "heads",
          );
    },
  },
  {
    name: "params gives the same numbers for the same seed, and others for another",
    run(head, shape) {
      const [a, b, c] = [SEED, SEED, SEED + 1].map((seed) => flat(head.params(shape, 2, seed)));
      ensure(
        sameNumbers(a ?? [], b ?? []),
        "params must give the same numbers for the same seed (no Math.random)",
        "other numbers",
        "heads",
      );
      ensure(
        (a ?? []).every((value) => value === 0) || !sameNumbers(a ?? [], c ?? []),
        "the seed must change what is random",
        "the same numbers",
        "heads",
      );
    },
  },
  {
    name: "apply gives logits [B, C], pooled [B, H] and features [B, F]",
    run: (head, shape) =>
      pass(head, shape, rowsOf(shape, range(ROWS)), (outputs) => {
        for (const [index, { logits, pooled, features }] of outputs.entries()) {
          const expected = [
            [ROWS, shape.classes],
            [ROWS, shape.hidden],
          ];
          ensure(
            logits?.shape?.join() === expected[0]?.join() &&
              pooled?.shape?.join() === expected[1]?.join() &&
              features?.rank === 2 &&
              features.shape[0] === ROWS,
            `apply must return logits [${expected[0]}], pooled [${expected[1]}] and features [${ROWS}, F] at layer ${index + 1}`,
            `logits [${logits?.shape}], pooled [${pooled?.shape}], features [${features?.shape}]`,
            "heads",
          );
        }
      }),
  },
  {
    name: "apply gives finite numbers",
    run: (head, shape) =>
      pass(head, shape, rowsOf(shape, range(ROWS)), (outputs) => {
        for (const { logits } of outputs)
          ensure(
            logits.dataSync().every(Number.isFinite),
            "logits must be finite for ordinary states",
            [...logits.dataSync()],
            "heads",
          );
      }),
  },
  {
    name: "apply treats each row by itself",
    run(head, shape) {
      const together = logitsOf(head, shape, rowsOf(shape, range(ROWS)));
      for (const row of range(ROWS))
        ensure(
          sameNumbers(
            together.flatMap((rows) => [...(rows[row] as readonly number[])]),
            logitsOf(head, shape, rowsOf(shape, [row])).flatMap((rows) => [...(rows[0] ?? [])]),
            CLOSE,
          ),
          "apply must treat each row by itself (no mean, maximum or softmax over the first axis)",
          `other logits for row ${row} alone than among ${ROWS}`,
          "heads",
        );
    },
  },
  {
    name: "apply does not see padding",
    run(head, shape) {
      const own = rowsOf(shape, range(ROWS));
      const [plain, padded] = [own, { ...own, padding: 3 }].map((rows) =>
        logitsOf(head, shape, rows).flat(2),
      );
      ensure(
        sameNumbers(plain ?? [], padded ?? [], CLOSE),
        "padding must not change the logits: leave out positions whose mask is 0",
        "other logits with three positions of padding",
        "heads",
      );
    },
  },
  {
    name: "a head that says readsFirstToken reads no other",
    run(head, shape) {
      if (head.readsFirstToken !== true) return;
      const whole = rowsOf(shape, range(ROWS));
      const [all, first] = [whole, { ...whole, length: 1 }].map((rows) =>
        logitsOf(head, shape, rows).flat(2),
      );
      ensure(
        sameNumbers(all ?? [], first ?? [], CLOSE),
        "with readsFirstToken the logits must depend on the first token only, or training on recorded states goes wrong",
        `other logits for the first token alone than among ${LENGTH}`,
        "heads",
      );
    },
  },
  {
    name: "the logits depend on the parameters and on the states",
    run: (head, shape) =>
      pass(head, shape, rowsOf(shape, range(ROWS)), (_, { params, hidden }) => {
        for (const layer of layersOf(shape)) {
          const tensors = params[layer - 1] as Readonly<Record<string, tf.Tensor>>;
          const names = Object.keys(tensors).sort();
          const gradients = tf.grads((...all: tf.Tensor[]) => {
            const given = Object.fromEntries(names.map((name, index) => [name, all[index]]));
            const state = all.at(-1) as tf.Tensor3D;
            // What the logits never read has no gradient to ask for, but for this.
            const anchors = all.map((tensor) => tf.mul(tf.sum(tensor), 0));
            const logits = runLayers(head, shape, params, state, hidden.mask, given, layer);
            return tf.addN([tf.sum(tf.square(logits)), ...anchors]);
          })([...names.map((name) => tensors[name] as tf.Tensor), hidden.states]);
          for (const [index, name] of [...names, "hidden"].entries())
            ensure(
              gradients[index]?.dataSync().some((value) => value !== 0) === true,
              `the logits of layer ${layer} must depend on ${name === "hidden" ? "the states" : `the parameter "${name}"`}, or training can't reach it`,
              "no gradient",
              "heads",
            );
        }
      }),
  },
  {
    name: "apply leaves no tensors behind",
    run: (head, shape) =>
      withoutLeaks("apply", () => {
        logitsOf(head, shape, rowsOf(shape, range(ROWS)));
      }),
  },
  {
    name: "a carry has a row per row, and is declared",
    run: (head, shape) =>
      pass(head, shape, rowsOf(shape, range(ROWS)), (outputs) => {
        for (const { carry } of outputs) {
          if (carry === undefined) continue;
          ensure(
            head.carries === true,
            "a head that returns a carry must say carries: true",
            head.carries ?? "nothing",
            "heads",
          );
          for (const leaf of leavesOf(carry))
            ensure(
              leaf.shape[0] === ROWS,
              `the first axis of every tensor of the carry must be the row (${ROWS})`,
              `[${leaf.shape}]`,
              "heads",
            );
        }
      }),
  },
  {
    name: "apply works on one row and one token",
    run(head, shape) {
      const logits = logitsOf(head, shape, { rows: [0], length: 1, padding: 0 });
      ensure(
        logits.flat(2).every(Number.isFinite),
        "apply must work on one row of one token",
        logits,
        "heads",
      );
    },
  },
];

interface Rows {
  readonly rows: readonly number[];
  readonly length: number;
  /** Masked positions after the tokens, filled with large numbers. */
  readonly padding: number;
}

function rowsOf(_: ModelShape, rows: readonly number[]): Rows {
  return { rows, length: LENGTH, padding: 0 };
}

interface Given {
  readonly params: readonly Readonly<Record<string, tf.Tensor>>[];
  readonly hidden: { readonly states: tf.Tensor3D; readonly mask: tf.Tensor2D };
}

/** Runs the head at every layer and hands out what it gave, freed afterwards. */
function pass(
  head: ExitHead,
  shape: ModelShape,
  rows: Rows,
  visit: (outputs: readonly ExitHeadOutput[], given: Given) => void,
): void {
  tf.tidy(() => {
    const hidden = statesOf(shape, rows);
    const shared = prefixed(tensorsOf(head.shared?.(shape, SEED) ?? {}));
    const params = layersOf(shape).map((layer) => ({
      ...tensorsOf(head.params(shape, layer, SEED)),
      ...shared,
    }));
    const outputs: ExitHeadOutput[] = [];
    for (const layer of layersOf(shape))
      outputs.push(
        head.apply(
          params[layer - 1] as Readonly<Record<string, tf.Tensor>>,
          inputAt(shape, layer, hidden.states, hidden.mask),
          outputs.at(-1)?.carry,
        ),
      );
    visit(outputs, { params, hidden });
  });
}

/** Logits of `layer` with its own parameters replaced by `given`. */
function runLayers(
  head: ExitHead,
  shape: ModelShape,
  params: Given["params"],
  states: tf.Tensor3D,
  mask: tf.Tensor2D,
  given: Readonly<Record<string, tf.Tensor | undefined>>,
  layer: number,
): tf.Tensor2D {
  let carry: Carry | undefined;
  for (let below = 1; below < layer; below += 1)
    carry = head.apply(
      params[below - 1] as Readonly<Record<string, tf.Tensor>>,
      inputAt(shape, below, states, mask),
      carry,
    ).carry;
  return head.apply(
    given as Readonly<Record<string, tf.Tensor>>,
    inputAt(shape, layer, states, mask),
    carry,
  ).logits;
}

function logitsOf(head: ExitHead, shape: ModelShape, rows: Rows): number[][][] {
  let result: number[][][] = [];
  pass(head, shape, rows, (outputs) => {
    result = outputs.map(({ logits }) => logits.arraySync());
  });
  return result;
}

function inputAt(
  shape: ModelShape,
  layer: number,
  states: tf.Tensor3D,
  mask: tf.Tensor2D,
): ExitHeadInput {
  const [rows, , width] = states.shape;
  return {
    hidden: states,
    mask,
    layer,
    shape,
    pooled: () => tf.tanh(tf.reshape(tf.slice(states, [0, 0, 0], [rows, 1, width]), [rows, width])),
    dropout: (x) => x,
  };
}

/** The same numbers for a row whatever else is in the batch. */
function statesOf({ hidden }: ModelShape, { rows, length, padding }: Rows): Given["hidden"] {
  const states = rows.map((row) => {
    const next = randomFrom(100 + row);
    const tokens = range(length).map(() => range(hidden).map(() => 2 * next() - 1));
    return [...tokens, ...range(padding).map(() => range(hidden).map(() => 50))];
  });
  const mask = rows.map(() => range(length + padding).map((at) => (at < length ? 1 : 0)));
  return { states: tf.tensor3d(states), mask: tf.tensor2d(mask) };
}

function layersOf({ depth }: ModelShape): readonly number[] {
  return range(depth).map((index) => index + 1);
}

function tensorsOf(params: HostParams): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(params).map(([name, { data, shape, dtype }]) => [
      name,
      tf.tensor(data, [...shape], dtype),
    ]),
  );
}

function prefixed(params: Readonly<Record<string, tf.Tensor>>): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(params).map(([name, tensor]) => [`shared.${name}`, tensor]),
  );
}

function flat(params: HostParams): number[] {
  return Object.keys(params)
    .sort()
    .flatMap((name) => [...(params[name]?.data ?? [])]);
}

function leavesOf(carry: Carry): readonly tf.Tensor[] {
  if (carry instanceof tf.Tensor) return [carry];
  return Object.values(carry as Readonly<Record<string, Carry>>).flatMap(leavesOf);
}
