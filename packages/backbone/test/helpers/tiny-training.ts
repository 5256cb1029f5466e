/** @file A small training with every kind of phase, for tests here and in the child process that they kill. */
import { createRng, type HostParams, softmaxCrossEntropy } from "@cee/engine";
import type {
  ExitRecord,
  Observer,
  PhasePlan,
  TrainingPhase,
  TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { type TinyBertOptions, tinyBert } from "../../src/testing.js";
import type { FitOptions, TrainingRow } from "../../src/train/fit.js";

export const VOCABULARY = 20;

/** Rows whose class is told by one of the tokens; lengths differ. */
export function inventRows(count: number, seed: string, longest = 10): TrainingRow[] {
  const rng = createRng(seed);
  return Array.from({ length: count }, (_, index) => {
    const ids = Int32Array.from({ length: 3 + rng.int(longest - 2) }, () => 2 + rng.int(16));
    const label = rng.int(2);
    ids[1 + rng.int(ids.length - 1)] = 18 + label;
    ids[0] = 1;
    return { id: `${seed}-${index}`, ids, types: new Int32Array(ids.length), label };
  });
}

/** The weighted cross-entropy of all exits. */
export function allExits({ exits, labels, perRow }: TrainingStep): tf.Scalar {
  const losses = exits.map(({ logits }, index) =>
    tf.mul(tf.sum(softmaxCrossEntropy(logits, labels)), (index + 1) / exits.length),
  );
  return tf.mul(
    losses.reduce((a, b) => tf.add(a, b)),
    perRow,
  ) as tf.Scalar;
}

/** The cross-entropy of the last exit. */
export function lastExit({ exits, labels, perRow }: TrainingStep): tf.Scalar {
  const { logits } = exits.at(-1) as (typeof exits)[number];
  return tf.mul(tf.sum(softmaxCrossEntropy(logits, labels)), perRow) as tf.Scalar;
}

/** A learned gate on the pooled state: the probability that this layer's answer is right. */
export const gate: Omit<Observer, "params"> = {
  name: "gate",
  needs: ["pooled"],
  observe: ({ pooled }, { params }) =>
    tf.sigmoid(
      tf.squeeze<tf.Tensor1D>(tf.matMul(pooled as tf.Tensor2D, params.weight as tf.Tensor2D), [1]),
    ),
};

/** Fits the gate to 1 where an exit is right, which `prepare` says. */
export function gateLoss({ exits, side, params, perRow }: TrainingStep): tf.Scalar {
  const losses = exits.map(({ pooled }, index) => {
    const score = tf.squeeze(tf.matMul(pooled, params.weight as tf.Tensor2D), [1]);
    const right = tf.squeeze(tf.gather(side as tf.Tensor2D, tf.tensor1d([index], "int32"), 1), [1]);
    // softplus(s) - right s
    return tf.sum(tf.sub(tf.softplus(score), tf.mul(right, score)));
  });
  return tf.mul(
    losses.reduce((a, b) => tf.add(a, b)),
    perRow,
  ) as tf.Scalar;
}

/** Whether each exit is right, shape `[N, T]`. */
export function rightness({ shape, ids, labels, logits }: ExitRecord) {
  const { depth, classes } = shape;
  const values = new Float32Array(ids.length * depth);
  values.forEach((_, cell) => {
    const own = logits.subarray(cell * classes, (cell + 1) * classes);
    values[cell] = own.indexOf(Math.max(...own)) === labels[Math.floor(cell / depth)] ? 1 : 0;
  });
  return { width: depth, values };
}

/** Mean cross-entropy of the last exit, negative: higher is better. */
export function heldOutScore({ shape, ids, labels, logits }: ExitRecord): number {
  const { depth, classes } = shape;
  let sum = 0;
  for (let row = 0; row < ids.length; row += 1) {
    const at = (row * depth + depth - 1) * classes;
    const own = [...logits.subarray(at, at + classes)];
    const most = Math.max(...own);
    const total = own.reduce((all, value) => all + Math.exp(value - most), 0);
    sum += (own[labels[row] as number] as number) - most - Math.log(total);
  }
  return sum / ids.length;
}

const settings = { batchSize: 4, learningRate: 0.01 } as const;

export const initialise: TrainingPhase = {
  ...settings,
  name: "initialise",
  trains: ["backbone.**", "heads.**"],
  epochs: 4,
  warmup: 0.1,
  weightDecay: 0.01,
  losses: { all: allExits },
  select: "best",
  score: heldOutScore,
};

export const gatePhase: TrainingPhase = {
  ...settings,
  name: "gate",
  trains: ["strategy.**"],
  source: "record",
  epochs: 3,
  losses: { gate: gateLoss },
  prepare: rightness,
};

export const alternate: TrainingPhase = {
  ...settings,
  name: "alternate",
  trains: ["backbone.encoder.**", "heads.*.classifier.*"],
  epochs: 3,
  schedule: "constant",
  losses: { all: allExits, last: lastExit },
  pick: (step) => (step % 2 === 0 ? "all" : "last"),
  // Not a number on purpose: a resumed run must be told the same.
  measure: (record) => ({ score: heldOutScore(record), ratio: Number.NaN }),
};

/** Repeats a phase until a measure says so, as iterative trainings do. */
export function* tinyPlan(): PhasePlan {
  yield initialise;
  yield gatePhase;
  const { measures } = yield alternate;
  if (Number.isNaN(measures.ratio)) yield { ...gatePhase, name: "gate-2", epochs: 4 };
}

/** Rows, model and plan; a run takes 84 steps. */
export function tinyTraining(
  options: TinyBertOptions = {},
): Omit<FitOptions, "engine" | "plan"> & { readonly plan: () => PhasePlan } {
  const model = tinyBert({ depth: 2, hidden: 16, vocabSize: VOCABULARY, ...options });
  return {
    model,
    params: { ...model.params, ...gateParams(model.shape.hidden) },
    plan: tinyPlan,
    observer: gate,
    train: inventRows(24, "train"),
    dev: inventRows(12, "dev"),
    seed: 7,
    recordBatch: 8,
  };
}

export function gateParams(hidden: number): HostParams {
  const data = new Float32Array(hidden);
  return { "strategy.weight": { dtype: "float32", shape: [hidden, 1], data } };
}
