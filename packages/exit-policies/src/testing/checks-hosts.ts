/** @file Conformance checks of a strategy inside the hosts: live and replayed exits, batches, ends of the knob. */
import { withOptions } from "../define.js";
import { nearTies } from "../near-ties.js";
import { checkHost, type ExitOutcome } from "../outcome.js";
import { replay, replaySweep } from "../replay.js";
import type { ExitStrategy, ModelShape, Task } from "../strategy.js";
import type { Check } from "./conformance.js";
import type { Fixture } from "./fixed-exits.js";
import {
  ensure,
  ensureThrows,
  everywhere,
  gradedLogits,
  liveOf,
  modelOf,
  ROWS,
  range,
  recordOf,
  type Subject,
  sameNumbers,
  withoutLeaks,
} from "./subject.js";

export const hostChecks: readonly Check[] = [
  {
    name: "live exits equal replayed exits",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const seed of [1, 2, 3]) await compareHosts(subject, strategy, shape, seed);
      }),
  },
  {
    name: "live exits equal replayed exits when rows are dropped late",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const compactEvery of [2, 3, shape.depth])
          await compareHosts(subject, strategy, shape, 4, { compactEvery });
      }),
  },
  {
    name: "live exits equal replayed exits under a depth budget",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const maxLayer of [1, 2, shape.depth - 1])
          await compareHosts(subject, strategy, shape, 5, { maxLayer });
      }),
  },
  {
    name: "live exits equal replayed exits with many classes",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        if (shape.task === "regression") return;
        await compareHosts(subject, strategy, { ...shape, classes: 7 }, 6);
      }),
  },
  {
    name: "a row alone exits as it does in a batch",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const model = modelOf(shape);
        const together = await liveOf(subject, shape, strategy, model, range(ROWS));
        const ties = new Set(nearTies(await recordOf(subject, shape, strategy, model), strategy));
        for (const row of range(ROWS)) {
          if (ties.has(row)) continue;
          const alone = await liveOf(subject, shape, strategy, model, [row]);
          ensure(
            alone.exitLayers[0] === together.exitLayers[row],
            "a row must exit where it does alone, whatever else is in its batch",
            `row ${row}: layer ${alone.exitLayers[0]} alone, ${together.exitLayers[row]} among ${ROWS}`,
            "batches",
          );
        }
      }),
  },
  {
    name: "the order of a batch does not matter",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const model = modelOf(shape);
        const order = range(ROWS).reverse();
        const plain = await liveOf(subject, shape, strategy, model, range(ROWS));
        const reversed = await liveOf(subject, shape, strategy, model, order);
        const ties = new Set(nearTies(await recordOf(subject, shape, strategy, model), strategy));
        ensure(
          order.every(
            (row, index) => ties.has(row) || reversed.exitLayers[index] === plain.exitLayers[row],
          ),
          "rows must exit alike in any order",
          `${[...plain.exitLayers]} and ${[...reversed.exitLayers].reverse()}`,
          "batches",
        );
      }),
  },
  {
    name: "an empty batch gives an empty answer",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const done = await liveOf(subject, shape, strategy, modelOf(shape), []);
        ensure(done.rows === 0, "a batch without rows must work", done.rows, "batches");
      }),
  },
  {
    name: "a model of one layer answers there",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const shallow = { ...shape, depth: 1 };
        const done = await liveOf(subject, shallow, strategy, modelOf(shallow), range(ROWS));
        ensure(
          done.exitLayers.every((layer) => layer === 1),
          "at depth 1 every row must be answered at layer 1",
          [...done.exitLayers],
          "batches",
        );
      }),
  },
  {
    name: "a model of one class works",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        await compareHosts(subject, strategy, { ...shape, classes: 1 }, 7);
      }),
  },
  ...[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map(
    (bad): Check => ({
      name: `no row exits on a logit of ${bad}`,
      run: (subject) =>
        everywhere(subject, async (strategy, shape) => {
          const layer = Math.min(3, shape.depth - 1);
          const logits = spoil(gradedLogits(shape, ROWS, 8), layer, bad);
          const model = modelOf(shape, { logits });
          const done = await liveOf(subject, shape, strategy, model, range(ROWS));
          ensure(
            !done.exitLayers.includes(layer) || layer === shape.depth,
            `no row may exit at a layer whose logits hold ${bad}`,
            [...done.exitLayers],
            "ties-and-nan",
          );
          compare(done, replay(await recordOf(subject, shape, strategy, model), strategy));
        }),
    }),
  ),
  {
    name: "a model of NaN alone is answered at the last layer",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const logits = range(ROWS).map(() =>
          range(shape.depth).map(() => range(shape.classes).map(() => Number.NaN)),
        );
        const model = modelOf(shape, { logits });
        const done = await liveOf(subject, shape, strategy, model, range(ROWS));
        ensure(
          done.exitLayers.every((layer) => layer === shape.depth) &&
            done.nonFinite === ROWS * shape.depth,
          "rows of NaN must run to the last layer and be counted",
          `exits ${[...done.exitLayers]}, ${done.nonFinite} counted`,
          "ties-and-nan",
        );
      }),
  },
  {
    name: "a live run leaves no tensors behind",
    isVital: true,
    run: (subject) =>
      everywhere(subject, (strategy, shape) =>
        withoutLeaks("an early-stopping run", async () => {
          await liveOf(subject, shape, strategy, modelOf(shape), range(ROWS));
        }),
      ),
  },
  {
    name: "a replay leaves the record as it was",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const [observed, logits] = [made.observed.slice(), made.logits.slice()];
        replay(made, strategy);
        ensure(
          sameNumbers(observed, made.observed) && sameNumbers(logits, made.logits),
          "decide must not write into the record",
          "other numbers",
          "decide",
        );
      }),
  },
  {
    name: "replaying twice gives the same exits",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const [a, b] = [replay(made, strategy), replay(made, strategy)];
        ensure(
          sameNumbers(a.exitLayers, b.exitLayers),
          "decide must not remember earlier runs",
          `${[...a.exitLayers]}, then ${[...b.exitLayers]}`,
          "decide",
        );
      }),
  },
  {
    name: "tasks that are not declared are refused",
    appliesTo: ({ definition }) => definition.tasks.length < 3,
    run({ definition, configurations, shapes }) {
      const tasks: readonly Task[] = ["classification", "regression", "generation"];
      for (const task of tasks.filter((candidate) => !definition.tasks.includes(candidate)))
        for (const strategy of configurations)
          ensureThrows(
            () => checkHost(strategy, { ...(shapes[0] as ModelShape), task }),
            ["TASK_UNSUPPORTED"],
            `a host must refuse ${task}, which tasks does not list`,
            "define",
          );
    },
  },
  {
    name: "a sweep gives what single runs give",
    appliesTo: hasKnob,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const knob = subject.definition.knob;
        if (!knob) return;
        const made = await recordOf(subject, shape, strategy);
        for (const point of replaySweep(made, strategy, knob.grid))
          compare(point, replay(made, withOptions(strategy, { [knob.option]: point.value })));
      }),
  },
  {
    name: "the mean exit layer follows the knob's direction",
    appliesTo: hasKnob,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const means = await meansAlong(subject, strategy, shape);
        ensure(
          means.every((mean, index) => index === 0 || mean <= (means[index - 1] as number) + 1e-9),
          `a ${subject.definition.knob?.direction === "higher-is-faster" ? "higher" : "lower"} knob must never exit later on average, as knob.direction says`,
          means.map((mean) => mean.toFixed(2)).join(", "),
          "knob",
        );
      }),
  },
  {
    name: "the knob changes where rows exit",
    appliesTo: hasKnob,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const means = await meansAlong(subject, strategy, shape);
        ensure(
          (means.at(-1) as number) < (means[0] as number),
          "the fastest value of the knob's grid must exit earlier than the slowest",
          means.map((mean) => mean.toFixed(2)).join(", "),
          "knob",
        );
      }),
  },
  {
    name: "at the slowest end of the knob nobody exits early",
    appliesTo: (subject) => hasKnob(subject) && subject.knobEnds !== undefined,
    run: (subject) => atKnob(subject, subject.knobEnds?.slowest as number, (shape) => shape.depth),
  },
  {
    name: "at the fastest end of the knob everybody leaves at the earliest exit",
    appliesTo: (subject) => hasKnob(subject) && subject.knobEnds?.fastest !== undefined,
    run: async (subject) => {
      const fastest = subject.knobEnds?.fastest;
      if (fastest) await atKnob(subject, fastest.value, () => fastest.layer);
    },
  },
];

function hasKnob({ definition }: Subject): boolean {
  return definition.knob !== undefined;
}

async function compareHosts(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
  seed: number,
  options: { readonly compactEvery?: number; readonly maxLayer?: number } = {},
): Promise<void> {
  const model = modelOf(shape, { seed });
  const made = await recordOf(subject, shape, strategy, model);
  const { compactEvery: _, ...host } = options;
  const live = await liveOf(subject, shape, strategy, model, range(ROWS), options);
  // The batch shrinks as rows leave, so matrix kernels may round otherwise: near ties may differ.
  compare(live, replay(made, strategy, host), new Set(nearTies(made, strategy)));
}

function compare(a: ExitOutcome, b: ExitOutcome, ties: ReadonlySet<number> = new Set()): void {
  for (const row of range(a.rows))
    ensure(
      ties.has(row) ||
        (a.exitLayers[row] === b.exitLayers[row] &&
          Object.is(a.predictions[row], b.predictions[row])),
      "every host must give a row the same exit and answer (decide may depend on its arguments alone, observe on its row alone)",
      `row ${row}: layer ${a.exitLayers[row]} with answer ${a.predictions[row]}, and layer ${b.exitLayers[row]} with ${b.predictions[row]}`,
      "hosts",
    );
}

/** Mean exit layers along the grid, slowest value first. */
async function meansAlong(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
): Promise<readonly number[]> {
  const knob = subject.definition.knob;
  if (!knob) return [];
  const made = await recordOf(subject, shape, strategy, modelOf(shape, { rows: 40 }), range(40));
  const values = knob.direction === "higher-is-faster" ? knob.grid : [...knob.grid].reverse();
  return replaySweep(made, strategy, values).map(
    ({ exitLayers }) => exitLayers.reduce((sum, layer) => sum + layer, 0) / exitLayers.length,
  );
}

function atKnob(
  subject: Subject,
  value: number,
  layerOf: (shape: ModelShape) => number,
): Promise<void> {
  return everywhere(subject, async (strategy, shape) => {
    const knob = subject.definition.knob;
    if (!knob) return;
    // One answer throughout, so that rules that wait for agreement may leave as early as they can.
    const logits = range(ROWS).map(() =>
      range(shape.depth).map(() => range(shape.classes).map((k) => (k === 0 ? 0.5 : 0))),
    );
    const turned = withOptions(strategy, { [knob.option]: value });
    const made = await recordOf(subject, shape, turned, modelOf(shape, { logits }));
    const { exitLayers } = replay(made, turned);
    ensure(
      exitLayers.every((layer) => layer === layerOf(shape)),
      `with ${knob.option} = ${value} every row must exit at layer ${layerOf(shape)}`,
      [...exitLayers],
      "knob",
    );
  });
}

function spoil(logits: Fixture, layer: number, bad: number): Fixture {
  return logits.map((row) =>
    row.map((values, index) => (index === layer - 1 ? [bad, ...values.slice(1)] : values)),
  );
}
