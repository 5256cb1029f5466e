/** @file Conformance checks of the host side: `start`, `decide` and `decideTensor`. B = rows, K = values per row. */
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
  randomFrom,
  range,
  recordOf,
  type Subject,
  sameNumbers,
  withoutLeaks,
} from "./subject.js";
import { compareForms, contextAt, type Decide } from "./tensor-form.js";

export const decideChecks: readonly Check[] = [
  {
    name: "start gives a state of finite numbers",
    isVital: true,
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
    isVital: true,
    run: (subject) =>
      walk(subject, (verdict) =>
        ensure(!isPromise(verdict), "decide must be synchronous", "a promise", "decide"),
      ),
  },
  {
    name: "decide returns exit and state",
    isVital: true,
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
    isVital: true,
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
    isVital: true,
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
    isVital: true,
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
    isVital: true,
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
    isVital: true,
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
