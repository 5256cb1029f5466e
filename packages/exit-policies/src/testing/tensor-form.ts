/** @file Compares `decideTensor` with `decide`. B = rows, K = values observed per row. */
import * as tf from "@tensorflow/tfjs";
import type { ExitRecord } from "../record.js";
import type { DecideContext, ExitStrategy, ModelShape, RowState, Verdict } from "../strategy.js";
import { fail, ROWS, range, sameNumbers } from "./subject.js";

export type Decide = (
  observed: Float32Array,
  state: RowState,
  context: DecideContext<ExitStrategy["options"]>,
) => Verdict<RowState>;

/** Walks all rows through both forms in step, each with its own state. */
export function compareForms(strategy: ExitStrategy, made: ExitRecord, expected: string): void {
  const { definition, options } = strategy;
  const { shape, observedWidth: width } = made;
  const decide = definition.decide as Decide;
  const states: RowState[] = range(ROWS).map(() => definition.start());
  tf.tidy(() => {
    let tensors = stacked(states);
    const scalars = Object.fromEntries(
      Object.entries(options)
        .filter(([, value]) => typeof value === "number" || Array.isArray(value))
        .map(([name, value]) => [
          name,
          tf.tensor(value as number | number[], undefined, "float32"),
        ]),
    );
    for (let layer = 1; layer < shape.depth; layer += 1) {
      const values = range(ROWS).map((row) => {
        const from = (row * shape.depth + layer - 1) * width;
        return made.observed.slice(from, from + width);
      });
      const site = { layer, depth: shape.depth, task: shape.task };
      const joint = tf.tensor2d(Float32Array.from(values.flatMap((v) => [...v])), [ROWS, width]);
      const both = definition.decideTensor?.(joint, tensors, { site, options: scalars as never });
      if (!both) return;
      if (both.exit.dtype !== "bool" || both.exit.shape.join() !== String(ROWS))
        fail(
          "decideTensor must return exit as bool [B]",
          `${both.exit.dtype} [${both.exit.shape.join(", ")}]`,
          "decide-tensor",
        );
      const exits = both.exit.dataSync();
      for (const row of range(ROWS)) {
        const value = values[row] as Float32Array;
        const state = states[row] as RowState;
        const context = contextAt(strategy, shape, layer);
        const verdict = decide(value.slice(), state, context);
        if (verdict.exit !== Boolean(exits[row]) && !isOnEdge(decide, value, state, context))
          fail(
            expected,
            `${Boolean(exits[row])} from the tensor form and ${verdict.exit} from decide for [${value.join(", ")}] at layer ${layer}`,
            "decide-tensor",
          );
        for (const [key, own] of Object.entries(verdict.state)) {
          const theirs = both.state[key]?.dataSync()[row] as number;
          if (!sameNumbers([theirs], [own], 1e-5))
            fail(
              expected,
              `the state ${key} = ${theirs} from the tensor form and ${own} from decide at layer ${layer}`,
              "decide-tensor",
            );
        }
        states[row] = verdict.state;
      }
      tensors = both.state as typeof tensors;
    }
  });
}

/** Whether rounding alone may turn this decision: float32 and float64 differ in the last digits of exp and log. */
function isOnEdge(
  decide: Decide,
  observed: Float32Array,
  state: RowState,
  context: DecideContext<ExitStrategy["options"]>,
): boolean {
  // A rule on one number has no arithmetic to round: there, ties must be equal.
  if (observed.length === 1) return false;
  const at = (by: number) =>
    decide(
      observed.map((value) => value + by * Math.max(1, Math.abs(value))),
      state,
      context,
    ).exit;
  const scaled = (by: number) =>
    decide(
      observed.map((value) => value * (1 + by)),
      state,
      context,
    ).exit;
  return at(1e-6) !== at(-1e-6) || scaled(1e-6) !== scaled(-1e-6);
}

function stacked(states: readonly RowState[]): Record<string, tf.Tensor1D> {
  return Object.fromEntries(
    Object.keys(states[0] ?? {}).map((key) => [
      key,
      tf.tensor1d(
        states.map((state) => state[key] as number),
        "float32",
      ),
    ]),
  );
}

/** What `decide` is given at a layer. */
export function contextAt(strategy: ExitStrategy, shape: ModelShape, layer: number) {
  const site = { layer, depth: shape.depth, task: shape.task, position: 0 };
  return Object.freeze({ site: Object.freeze(site), options: strategy.options });
}
