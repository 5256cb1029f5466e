/** @file Conformance checks of the host side: `start`, `decide` and `decideTensor`. B = rows, K = values per row. */
import * as tf from "@tensorflow/tfjs";
import { isPromise, withOptions } from "../define.js";
import type { ExitRecord } from "../record.js";
import { replay } from "../replay.js";
import type {
  DecideContext,
  ExitStrategy,
  ModelShape,
  RowState,
  Task,
  Verdict,
} from "../strategy.js";
import type { Check } from "./conformance.js";
import {
  ensure,
  everywhere,
  fail,
  ROWS,
  randomFrom,
  range,
  recordOf,
  type Subject,
  sameNumbers,
  withoutLeaks,
} from "./subject.js";

type Decide = (
  observed: Float32Array,
  state: RowState,
  context: DecideContext<ExitStrategy["options"]>,
) => Verdict<RowState>;

export const decideChecks: readonly Check[] = [
  {
    name: "start gives a state of finite numbers",
    run({ definition }) {
      const state: unknown = definition.start();
      ensure(
        isNumbers(state) && Object.values(state).every(Number.isFinite),
        "start must return an object of finite numbers (use a counter or -1 for 'none yet'; {} without state)",
        state,
        "state",
      );
    },
  },
  {
    name: "start gives every row a state of its own",
    run({ definition }) {
      const [a, b] = [definition.start(), definition.start()];
      ensure(
        sameState(a, b),
        "start must return equal states each time",
        `${JSON.stringify(a)} and ${JSON.stringify(b)}`,
        "state",
      );
    },
  },
  {
    name: "decide answers at once",
    run: (subject) =>
      walk(subject, (verdict) =>
        ensure(!isPromise(verdict), "decide must be synchronous", "a promise", "decide"),
      ),
  },
  {
    name: "decide returns exit and state",
    run: (subject) =>
      walk(subject, (verdict) =>
        ensure(
          typeof verdict?.exit === "boolean" && isNumbers(verdict.state),
          "decide must return { exit: boolean, state: an object of numbers }",
          verdict,
          "decide",
        ),
      ),
  },
  {
    name: "decide keeps the keys of the state",
    run: (subject) =>
      walk(subject, (verdict) => {
        const [wanted, got] = [subject.definition.start(), verdict.state].map((state) =>
          Object.keys(state).sort().join(", "),
        );
        ensure(wanted === got, `every state must have the keys of start (${wanted})`, got, "state");
      }),
  },
  {
    name: "decide keeps the state finite",
    run: (subject) =>
      walk(subject, (verdict) =>
        ensure(
          Object.values(verdict.state).every(Number.isFinite),
          "the state must stay finite while observations are",
          verdict.state,
          "state",
        ),
      ),
  },
  {
    name: "decide gives the same verdict for the same arguments",
    run: (subject) =>
      walk(subject, (verdict, again) => {
        // More than once, so that a counter outside the state shows.
        for (const other of [again(), again(), again()])
          ensure(
            verdict.exit === other.exit && sameState(verdict.state, other.state),
            "decide must depend on its arguments alone (keep what rows remember in the state)",
            `${JSON.stringify(verdict)}, then ${JSON.stringify(other)}`,
            "decide",
          );
      }),
  },
  {
    name: "decide changes neither its state nor what was observed",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const decide = strategy.definition.decide as Decide;
        eachRow(
          made,
          (observed, layer, state) => {
            const values = observed.slice();
            const frozen = Object.freeze({ ...state });
            const verdict = decide(values, frozen, contextAt(strategy, shape, layer));
            ensure(
              sameNumbers(values, observed),
              "decide must not write into the observed values",
              [...values],
              "decide",
            );
            return verdict;
          },
          strategy,
        );
      }),
  },
  {
    name: "decide does not care which row it saw before",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const forward = replay(made, strategy);
        const backward = replay(turned(made), strategy);
        ensure(
          sameNumbers(forward.exitLayers, [...backward.exitLayers].reverse()),
          "decide must treat rows alike in any order (keep what rows remember in the state)",
          `exits ${[...forward.exitLayers]} forwards, ${[...backward.exitLayers].reverse()} backwards`,
          "decide",
        );
      }),
  },
  {
    name: "decide keeps a row whose observation is NaN",
    run: (subject) =>
      walk(subject, (_, __, { strategy, observed, state, context }) => {
        const verdict = (strategy.definition.decide as Decide)(
          observed.map(() => Number.NaN),
          state,
          context,
        );
        ensure(
          verdict.exit === false,
          "decide must not exit on NaN (write `exit: value < threshold`, not `!(value >= threshold)`)",
          verdict,
          "ties-and-nan",
        );
      }),
  },
  {
    name: "the given test vectors hold",
    appliesTo: ({ vectors }) => (vectors ?? []).length > 0,
    run(subject) {
      for (const vector of subject.vectors ?? []) {
        const strategy = withOptions(
          subject.configurations[0] as ExitStrategy,
          vector.options ?? {},
        );
        const task = vector.task ?? (subject.definition.tasks[0] as Task);
        const made = recordOfValues(vector.observed, task);
        const layer = replay(made, strategy).exitLayers[0];
        ensure(
          layer === vector.exitLayer,
          `the row "${vector.name}" must exit at layer ${vector.exitLayer}`,
          `layer ${layer}`,
          "test-vectors",
        );
      }
    },
  },
  {
    name: "decideTensor equals decide",
    appliesTo: hasTensorForm,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        compareForms(strategy, made, "decideTensor must decide like decide");
      }),
  },
  {
    name: "decideTensor equals decide on ties with the knob",
    appliesTo: (subject) => hasTensorForm(subject) && subject.definition.knob !== undefined,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const knob = subject.definition.knob;
        const value = knob && strategy.options[knob.option];
        const made = await recordOf(subject, shape, strategy);
        // Where the knob is a threshold on what is observed, these are exact ties.
        const tied = { ...made, observed: made.observed.map(() => value as number) };
        compareForms(
          strategy,
          tied,
          "decideTensor must treat equality like decide (compare with Math.fround(threshold) in decide)",
        );
      }),
  },
  {
    name: "decideTensor keeps a row whose observation is NaN",
    appliesTo: hasTensorForm,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const next = randomFrom(3);
        const spoilt = made.observed.map((value) => (next() < 0.4 ? Number.NaN : value));
        compareForms(
          strategy,
          { ...made, observed: spoilt },
          "decideTensor must keep a row on NaN and leave its state as decide does",
        );
      }),
  },
  {
    name: "decideTensor leaves no tensors behind",
    appliesTo: hasTensorForm,
    run: (subject) =>
      everywhere(subject, (strategy, shape) =>
        withoutLeaks("decideTensor", async () => {
          compareForms(
            strategy,
            await recordOf(subject, shape, strategy),
            "decideTensor equals decide",
          );
        }),
      ),
  },
];

function hasTensorForm({ definition }: Subject): boolean {
  return definition.decideTensor !== undefined;
}

interface Moment {
  readonly strategy: ExitStrategy;
  readonly observed: Float32Array;
  readonly state: RowState;
  readonly context: DecideContext<ExitStrategy["options"]>;
}

/** Takes every decision of every row to full depth, whether it exits or not. */
function walk(
  subject: Subject,
  visit: (verdict: Verdict<RowState>, again: () => Verdict<RowState>, moment: Moment) => void,
): Promise<void> {
  return everywhere(subject, async (strategy, shape) => {
    const made = await recordOf(subject, shape, strategy);
    const decide = strategy.definition.decide as Decide;
    eachRow(
      made,
      (observed, layer, state) => {
        const context = contextAt(strategy, shape, layer);
        const run = () => decide(observed.slice(), { ...state }, context);
        const verdict = run();
        visit(verdict, run, { strategy, observed, state, context });
        return verdict;
      },
      strategy,
    );
  });
}

function eachRow(
  { shape, observed, observedWidth: width, ids }: ExitRecord,
  visit: (observed: Float32Array, layer: number, state: RowState) => Verdict<RowState>,
  strategy: ExitStrategy,
): void {
  for (const row of range(ids.length)) {
    let state: RowState = strategy.definition.start();
    for (let layer = 1; layer < shape.depth; layer += 1) {
      const from = (row * shape.depth + layer - 1) * width;
      state = visit(observed.slice(from, from + width), layer, state)?.state ?? state;
    }
  }
}

function contextAt(strategy: ExitStrategy, shape: ModelShape, layer: number) {
  const site = { layer, depth: shape.depth, task: shape.task, position: 0 };
  return Object.freeze({ site: Object.freeze(site), options: strategy.options });
}

/** Walks all rows through both forms in step, each with its own state. */
function compareForms(strategy: ExitStrategy, made: ExitRecord, expected: string): void {
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

function turned(made: ExitRecord): ExitRecord {
  const { shape, observedWidth, ids } = made;
  const reverse = (data: Float32Array, size: number) => {
    const result = new Float32Array(data.length);
    for (const row of range(ids.length))
      result.set(data.subarray(row * size, (row + 1) * size), (ids.length - 1 - row) * size);
    return result;
  };
  return {
    ...made,
    ids: [...ids].reverse(),
    logits: reverse(made.logits, shape.depth * shape.classes),
    observed: reverse(made.observed, shape.depth * observedWidth),
  };
}

function recordOfValues(
  values: readonly (number | readonly number[])[],
  task: ModelShape["task"],
): ExitRecord {
  const classes = task === "regression" ? 1 : 2;
  const flat = values.map((value) => [value].flat() as number[]);
  return {
    shape: { task, depth: values.length, hidden: 1, classes },
    ids: ["0"],
    labels: new Float32Array(1),
    logits: new Float32Array(values.length * classes),
    observed: Float32Array.from(flat.flat()),
    observedWidth: flat[0]?.length ?? 1,
  };
}

function isNumbers(state: unknown): state is RowState {
  return (
    typeof state === "object" &&
    state !== null &&
    !Array.isArray(state) &&
    Object.values(state).every((value) => typeof value === "number")
  );
}

function sameState(a: RowState, b: RowState): boolean {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => Object.is(a[key], b[key]));
}
