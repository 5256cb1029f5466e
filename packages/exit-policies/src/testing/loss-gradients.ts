/** @file Runs the losses of a training phase on made-up signals and sees what they depend on. B = rows, C = classes. */
import * as tf from "@tensorflow/tfjs";
import type { ExitStrategy, ModelShape, Signals } from "../strategy.js";
import type { TrainingPhase, TrainingStep } from "../training.js";
import { toTensor } from "./fixed-exits.js";
import { gradedLogits, paramsOf, ROWS, range, recordOf, type Subject } from "./subject.js";

export interface LossGradients {
  readonly name: string;
  readonly value: number;
  /** The strategy's own parameters that the loss depends on. */
  readonly params: ReadonlySet<string>;
  /** Whether it depends on any signal. */
  readonly signals: boolean;
}

export async function gradientsOf(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
  phase: TrainingPhase,
): Promise<readonly LossGradients[]> {
  const made = await recordOf(subject, shape, strategy);
  const side = phase.prepare?.(made);
  const host = paramsOf(subject, shape, strategy);
  return Object.entries(phase.losses).map(([name, loss]) => {
    const variables = Object.entries(host)
      .filter(([, { dtype }]) => dtype === "float32")
      .map(([path, tensor]) => [path, tf.variable(toTensor(tensor))] as const);
    const exits = exitVariables(shape);
    try {
      let found: LossGradients | undefined;
      tf.tidy(() => {
        const step: TrainingStep = {
          shape,
          exits: exits.map(signalsOf),
          labels: tf.tensor1d(made.labels),
          params: Object.fromEntries(variables),
          side: side && tf.tensor2d(side.values, [ROWS, side.width]),
          perRow: tf.scalar(1 / ROWS),
          progress: tf.scalar(0),
          step: tf.scalar(0),
          seed: tf.tensor1d([1, 2], "int32"),
        };
        const all = [
          ...variables.map(([, variable]) => variable),
          ...exits.flatMap((exit) => Object.values(exit)),
        ];
        // A loss that reaches no variable at all has no gradient to ask for.
        const { value, grads } = tf.variableGrads(() => {
          const anchor = tf.mul(tf.sum(all[0] as tf.Tensor), 0) as tf.Scalar;
          return tf.add(loss(step), anchor) as tf.Scalar;
        }, all);
        const depends = (variable: tf.Variable) => {
          const gradient = grads[variable.name];
          return gradient !== undefined && [...gradient.dataSync()].some((x) => x !== 0);
        };
        found = {
          name,
          value: value.dataSync()[0] as number,
          params: new Set(variables.filter(([, v]) => depends(v)).map(([path]) => path)),
          signals: exits.some((exit) => Object.values(exit).some(depends)),
        };
      });
      return found as unknown as LossGradients;
    } finally {
      for (const [, variable] of variables) variable.dispose();
      for (const exit of exits) for (const variable of Object.values(exit)) variable.dispose();
    }
  });
}

interface ExitVariables {
  readonly logits: tf.Variable;
  readonly pooled: tf.Variable;
  readonly hidden: tf.Variable;
  readonly features: tf.Variable;
}

function exitVariables(shape: ModelShape): readonly ExitVariables[] {
  const logits = gradedLogits(shape, ROWS, 9);
  return range(shape.depth).map((index) => {
    const own = logits.map((row) => [...(row[index] as readonly number[])]);
    const vector = (seed: number) =>
      tf.tidy(() => tf.variable(tf.randomNormal([ROWS, shape.hidden], 0, 1, "float32", seed)));
    return {
      logits: tf.tidy(() => tf.variable(tf.tensor2d(own))),
      pooled: vector(3 * index + 1),
      hidden: vector(3 * index + 2),
      features: vector(3 * index + 3),
    };
  });
}

function signalsOf({ logits, pooled, hidden, features }: ExitVariables): Signals {
  return {
    logits,
    get probs() {
      return tf.softmax(logits);
    },
    pooled,
    hidden,
    features,
  } as unknown as Signals;
}
