/** @file Conformance checks of what is trained, calibrated and saved. B = rows, C = classes, H = hidden size. */
import { sameJson, withOptions } from "../define.js";
import type { HostParams } from "../host-tensor.js";
import { createRegistry } from "../registry.js";
import { replay } from "../replay.js";
import { sizeOf } from "../safetensors.js";
import { loadStrategy, saveStrategy } from "../save.js";
import type { ExitStrategy, ModelShape } from "../strategy.js";
import type { PhaseReport, TrainingPhase } from "../training.js";
import type { Check } from "./conformance.js";
import { gradientsOf } from "./loss-gradients.js";
import {
  ensure,
  everywhere,
  fail,
  modelOf,
  paramsOf,
  recordOf,
  SEED,
  type Subject,
  sameNumbers,
} from "./subject.js";

/** A plan that asks for more phases than this is taken to have no end. */
const MOST_PHASES = 100;

export const trainingChecks: readonly Check[] = [
  {
    name: "params creates well-formed tensors",
    isVital: true,
    appliesTo: hasParams,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        for (const [name, tensor] of Object.entries(created(subject, strategy, shape, SEED)))
          ensure(
            tensor.data.length === sizeOf(tensor.shape) &&
              tensor.dtype !== "bool" &&
              [...tensor.data].every(Number.isFinite),
            `the parameter "${name}" must be float32 or int32, finite, with as many numbers as its shape says`,
            `${tensor.dtype} [${tensor.shape.join(", ")}] with ${tensor.data.length}`,
            "params",
          );
      }),
  },
  {
    name: "params gives the same numbers for the same seed",
    isVital: true,
    appliesTo: hasParams,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const [a, b] = [
          created(subject, strategy, shape, SEED),
          created(subject, strategy, shape, SEED),
        ];
        for (const [name, tensor] of Object.entries(a))
          ensure(
            sameNumbers(tensor.data, b[name]?.data ?? []),
            "params must give the same numbers for the same seed (no Math.random)",
            `other numbers in "${name}"`,
            "params",
          );
      }),
  },
  {
    name: "params gives the same shapes for every seed",
    appliesTo: hasParams,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const shapes = [1, 2].map((seed) => shapesOf(created(subject, strategy, shape, seed)));
        ensure(
          sameJson(shapes[0], shapes[1]),
          "the seed must not change names or shapes",
          shapes[1],
          "params",
        );
      }),
  },
  {
    name: "params does not depend on the knob",
    appliesTo: (subject) => hasParams(subject) && subject.definition.knob !== undefined,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const knob = subject.definition.knob;
        const shapes = (knob?.grid ?? []).map((value) =>
          shapesOf(
            created(
              subject,
              withOptions(strategy, { [knob?.option as string]: value }),
              shape,
              SEED,
            ),
          ),
        );
        ensure(
          shapes.every((other) => sameJson(other, shapes[0])),
          "the knob must not change the parameters, since it is turned after training",
          shapes.at(-1),
          "params",
        );
      }),
  },
  {
    name: "phases are well-formed",
    isVital: true,
    appliesTo: hasPhases,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const names = new Set<string>();
        for (const phase of await phasesOf(subject, strategy, shape)) {
          const problem = problemOf(phase, names);
          names.add(phase.name);
          ensure(
            problem === undefined,
            `the phase "${phase.name}" must ${problem}`,
            { ...phase, losses: Object.keys(phase.losses) },
            "phases",
          );
        }
      }),
  },
  {
    name: "every loss is finite",
    isVital: true,
    appliesTo: hasPhases,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const phase of await phasesOf(subject, strategy, shape))
          for (const { name, value } of await gradientsOf(subject, strategy, shape, phase))
            ensure(
              Number.isFinite(value),
              `the loss "${name}" of the phase "${phase.name}" must be a finite scalar`,
              value,
              "phases",
            );
      }),
  },
  {
    name: "each phase trains what it says",
    isVital: true,
    appliesTo: hasPhases,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const phase of await phasesOf(subject, strategy, shape)) {
          const losses = await gradientsOf(subject, strategy, shape, phase);
          for (const name of Object.keys(paramsOf(subject, shape, strategy)))
            if (matches(phase.trains, `strategy.${name}`))
              ensure(
                losses.some(({ params }) => params.has(name)),
                `the phase "${phase.name}" trains strategy.${name}, so a loss must depend on it`,
                "no gradient",
                "phases",
              );
          if (phase.trains.some((pattern) => /^(backbone|heads|\*\*)/.test(pattern)))
            ensure(
              losses.some(({ signals }) => signals),
              `the phase "${phase.name}" trains ${phase.trains.join(", ")}, so a loss must depend on the signals`,
              "no gradient",
              "phases",
            );
        }
      }),
  },
  {
    name: "calibrate sets the options that it lists",
    appliesTo: hasCalibrate,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const found = await calibrated(subject, strategy, shape);
        const { calibrated: listed = [] } = subject.definition;
        ensure(
          Object.keys(found).every((option) => (listed as readonly string[]).includes(option)),
          `calibrate may set only what calibrated lists (${listed.join(", ")})`,
          Object.keys(found),
          "calibrate",
        );
      }),
  },
  {
    name: "calibrate gives valid options",
    isVital: true,
    appliesTo: hasCalibrate,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const found = await calibrated(subject, strategy, shape);
        try {
          withOptions(strategy, found);
        } catch (error) {
          fail(
            "the schema must accept what calibrate found",
            `${JSON.stringify(found)}: ${String(error)}`,
            "calibrate",
          );
        }
      }),
  },
  {
    name: "calibrate gives the same options for the same record",
    appliesTo: hasCalibrate,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const [a, b] = [
          await calibrated(subject, strategy, shape),
          await calibrated(subject, strategy, shape),
        ];
        ensure(sameJson(a, b), "calibrate must be a function of its arguments", b, "calibrate");
      }),
  },
  {
    name: "calibrate leaves the record as it was",
    isVital: true,
    appliesTo: hasCalibrate,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const made = await recordOf(subject, shape, strategy);
        const copies = [made.observed, made.logits, made.labels].map((data) => data.slice());
        subject.definition.calibrate?.(made, strategy.options);
        ensure(
          [made.observed, made.logits, made.labels].every((data, index) =>
            sameNumbers(data, copies[index] ?? []),
          ),
          "calibrate must not write into the record",
          "other numbers",
          "calibrate",
        );
      }),
  },
  {
    name: "a saved strategy loads with the same options",
    run: (subject) =>
      saved(subject, (before, after) =>
        ensure(
          sameJson(before.options, after.options),
          "options must be the same after saving and loading",
          after.options,
          "save",
        ),
      ),
  },
  {
    name: "a saved strategy loads with identical exits",
    run: (subject) =>
      saved(subject, async (before, after, shape, params) => {
        const model = modelOf(shape);
        const [a, b] = [
          replay(await recordOf(subject, shape, before, model), before),
          replay(
            await recordOf({ ...subject, trainedParams: () => params }, shape, after, model),
            after,
          ),
        ];
        ensure(
          sameNumbers(a.exitLayers, b.exitLayers) && sameNumbers(a.predictions, b.predictions),
          "exits must be the same after saving and loading (everything trained belongs in params)",
          `${[...a.exitLayers]} before, ${[...b.exitLayers]} after`,
          "save",
        );
      }),
  },
];

function hasParams({ definition }: Subject): boolean {
  return definition.params !== undefined;
}
function hasPhases({ definition }: Subject): boolean {
  return definition.phases !== undefined;
}
function hasCalibrate({ definition }: Subject): boolean {
  return definition.calibrate !== undefined;
}

function created(
  { definition }: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
  seed: number,
): HostParams {
  return definition.params?.(shape, strategy.options, seed) ?? {};
}

function shapesOf(params: HostParams): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(params).map(([name, { dtype, shape }]) => [name, [dtype, ...shape]]),
  );
}

async function calibrated(subject: Subject, strategy: ExitStrategy, shape: ModelShape) {
  const made = await recordOf(subject, shape, strategy);
  const found: Record<string, unknown> =
    subject.definition.calibrate?.(made, strategy.options) ?? {};
  return found;
}

/** Runs the plan with the reports that training might give. */
async function phasesOf(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
): Promise<readonly TrainingPhase[]> {
  const made = await recordOf(subject, shape, strategy);
  const plan = subject.definition.phases?.(shape, strategy.options);
  const phases: TrainingPhase[] = [];
  let next = plan?.next();
  while (plan && next && !next.done) {
    const phase = next.value;
    phases.push(phase);
    if (phases.length > MOST_PHASES)
      fail("phases must come to an end", `more than ${MOST_PHASES}`, "phases");
    const report: PhaseReport = {
      phase: phase.name,
      steps: phase.epochs,
      loss: 1,
      measures: phase.measure?.(made) ?? {},
    };
    next = plan.next(report);
  }
  return phases;
}

function problemOf(phase: TrainingPhase, known: ReadonlySet<string>): string | undefined {
  const { name, trains, epochs, batchSize, learningRate, losses, source, select } = phase;
  if (typeof name !== "string" || name === "" || known.has(name)) return "have a name of its own";
  if (trains.length === 0) return "name the parameters it trains";
  if (trains.some((path) => !/^(backbone|heads|strategy|\*\*?)(\.|$)/.test(path)))
    return "train paths below backbone, heads or strategy";
  if (!Number.isInteger(epochs) || epochs < 1) return "run at least one epoch";
  if (!Number.isInteger(batchSize) || batchSize < 1) return "have a batch size from 1";
  if (!(learningRate > 0)) return "have a learning rate above 0";
  if (Object.keys(losses).length === 0) return "have a loss";
  if (Object.keys(losses).length > 1 && !phase.pick && !phase.combine)
    return "say with pick or combine how its losses are used";
  if (source === "record" && trains.some((path) => !path.startsWith("strategy.")))
    return "train strategy.** only when it reads a record";
  if (select === "best" && !phase.score) return "have a score to select the best epoch by";
  return undefined;
}

/** `*` stands for one segment, `**` for any number. */
function matches(patterns: readonly string[], path: string): boolean {
  return patterns.some((pattern) => {
    const source = pattern
      .split(".")
      .map((part) =>
        part === "**" ? ".*" : part === "*" ? "[^.]*" : part.replace(/[^\w-]/g, "\\$&"),
      )
      .join("\\.");
    return new RegExp(`^${source}$`).test(path);
  });
}

/** Saves every configuration into a temporary folder and loads it again. */
async function saved(
  subject: Subject,
  visit: (
    before: ExitStrategy,
    after: ExitStrategy,
    shape: ModelShape,
    params: HostParams,
  ) => void | Promise<void>,
): Promise<void> {
  const [{ mkdtemp, rm }, { tmpdir }, { join }] = await Promise.all([
    import("node:fs/promises"),
    import("node:os"),
    import("node:path"),
  ]);
  const registry = createRegistry([subject.factory]);
  await everywhere(subject, async (strategy, shape) => {
    const folder = await mkdtemp(join(tmpdir(), "exit-strategy-"));
    try {
      await saveStrategy(folder, {
        strategy,
        params: paramsOf(subject, shape, strategy),
        modelShape: shape,
        phasesCompleted: [],
        seed: SEED,
      });
      const loaded = await loadStrategy(folder, registry);
      await visit(strategy, loaded.strategy, shape, loaded.params);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}
