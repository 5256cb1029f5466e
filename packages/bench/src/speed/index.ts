/** @file `pnpm bench speed`: what exits save in time, against truncated models, full depth, Transformers.js and PyTorch. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createWordPieceTokenizer, createWordVocabulary } from "@cee/backbone";
import { createEngine, createRng, type Engine } from "@cee/engine";
import { loadEmbeddedTask } from "../data/embedded.js";
import { loadGlueTask } from "../data/glue.js";
import type { LoadedTask } from "../data/task.js";
import { formatJson } from "../format-json.js";
import { maskDataFolder } from "../glue/options.js";
import type { RunHooks } from "../glue/progress.js";
import { openRunFolder, type RunSettings } from "../glue/run-folder.js";
import { checkStop } from "../glue/stop.js";
import { machineOf, versionsOf } from "../glue/versions.js";
import { writeFileWhole } from "../results.js";
import { toMarkdown } from "../table/table.js";
import { measureDecide } from "./decide.js";
import { type Measured, openFinished } from "./finished.js";
import { type ForcedOptions, measureDepths, measureMixed } from "./forced.js";
import { measureFull, measureThroughput } from "./full-depth.js";
import { judge } from "./judge.js";
import { measureMemory } from "./memory.js";
import { createSpeedEncoder, type SpeedSizes, workOf } from "./model.js";
import type { SpeedOptions, SpeedPartName } from "./options.js";
import type {
  DecidePart,
  DepthPart,
  FullPart,
  LatencyPart,
  MemoryPart,
  MixedPart,
  SpeedResults,
  ThroughputPart,
} from "./results.js";
import { WARM_UP } from "./rounds.js";
import { renderSpeedReport, speedPictures } from "./speed-report.js";
import { speedTables } from "./tables.js";
import { startSpeedTorch } from "./torch.js";
import { measureTrained } from "./trained.js";
import { openTransformers } from "./transformers.js";

const RESULTS = "speed.json";

/**
 * Measures, judges, and writes `speed.json`, `speed.md`, `speed.html` and a picture per chart. Each finished part is on disk
 * before the next one starts.
 * @throws BenchError `STOPPED`, `RUN_MISMATCH`, `BAD_RESULTS`, `WRITE_FAILED`
 */
export async function runSpeed(
  options: SpeedOptions,
  { progress, signal }: RunHooks,
): Promise<{ readonly results: SpeedResults; readonly files: readonly string[] }> {
  const { widths, depth, length, vocabulary, rounds, batches, seed, parts, out } = options;
  const engine = await createEngine({
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    runtime: options.runtime ?? "auto",
  });
  const { threads } = engine;
  try {
    await openRunFolder(out, settingsOf(options, engine), {
      resume: options.resume,
      log: (line) => progress.print(line),
      results: RESULTS,
    });
    const collected = collectParts(out, engine);
    const { versions, note, keep } = collected;
    /** Those that were asked for and are not there yet. */
    const left = <T extends SpeedPartName>(names: readonly T[], width?: number): T[] =>
      names.filter(
        (name) =>
          parts.includes(name) && !(options.resume && collected.restore(partName(name, width))),
      );
    const task = await taskOf(options);
    progress.plan(unitsOf(options));
    for (const width of widths) {
      checkStop(signal);
      const own = left(["depths", "mixed", "decide"], width);
      const beside = options.transformers ? left(["full", "throughput"], width) : [];
      if (own.length === 0 && beside.length === 0) continue;
      progress.print(`${depth} layers, width ${width}, ${length} tokens, ${threads} threads`);
      const sizes: SpeedSizes = { width, depth, length, vocabulary };
      const texts = [...task.splits.train, ...task.splits.dev].map(({ text }) => text);
      const tokenizer = createWordPieceTokenizer(
        createWordVocabulary(texts, Math.min(vocabulary, 8192)),
      );
      const encoder = createSpeedEncoder(sizes, { seed, tokenizer });
      const torch =
        options.torch && own.includes("depths")
          ? await startSpeedTorch(encoder, sizes, threads)
          : undefined;
      if (torch && "missing" in torch) note(torch.missing);
      const started = torch && "answer" in torch ? torch : undefined;
      if (started) versions.pytorch = started.version;
      if (started?.warning) note(started.warning);
      const rng = createRng(seed).fork(`order/${width}`);
      const shared: ForcedOptions = {
        ...{ engine, encoder, sizes, rounds, seed, rng, torch: started, signal, progress },
      };
      try {
        for (const name of own)
          if (name === "depths")
            await keep(partName(name, width), { depths: await measureDepths(shared) });
          else if (name === "mixed")
            await keep(partName(name, width), { mixed: await measureMixed(shared, batches) });
          else await keep(partName(name, width), { decide: [await measureDecide(shared)] });
      } finally {
        await started?.close();
      }
      if (beside.length === 0) continue;
      const closers: (() => Promise<void>)[] = [];
      try {
        const open = async (spinning: boolean) => {
          const opened = await openTransformers(encoder, { threads, spinning });
          if (!("missing" in opened)) closers.push(() => opened.close());
          return opened;
        };
        const same = await open(false);
        if ("missing" in same) {
          note(same.missing);
          continue;
        }
        versions["@huggingface/transformers"] = same.version;
        const spinning = await open(true);
        if ("missing" in spinning) throw new Error("internal: found once, not twice");
        const ownSpinning = await createEngine({ runtime: engine.runtime, threads, spin: true });
        closers.push(() => ownSpinning.dispose());
        const peers = {
          ...{ ...shared, spinning: ownSpinning },
          transformers: { same, own: spinning },
        };
        const data = { name: task.task.title, texts: task.splits.dev.map(({ text }) => text) };
        for (const name of beside)
          if (name === "full")
            await keep(partName(name, width), {
              full: await measureFull(peers, peerBatches(batches)),
            });
          else
            await keep(partName(name, width), {
              throughput: [await measureThroughput(peers, data, turnsOf(rounds))],
            });
      } finally {
        for (const close of closers) await close();
      }
    }
    for (const name of left(["trained", "memory"])) {
      checkStop(signal);
      if (name === "memory") {
        const memory = await measureMemory(options.calls, { threads, signal, progress });
        await keep(name, { memory });
        continue;
      }
      progress.print(`A trained strategy, ${options.backbone}`);
      const { backbone, requests } = options;
      const checkpoint = join(out, "trainings");
      const rng = createRng(seed).fork("trained");
      const latency = await measureTrained({
        ...{ engine, task, backbone, requests, seed, rng, threads, checkpoint, signal, progress },
      });
      await keep(name, { latency });
      // It was there to go on from.
      await rm(checkpoint, { recursive: true, force: true });
    }
    const { measured, notes } = collected;
    const results: SpeedResults = {
      format: 1,
      command: options.command,
      date: new Date().toISOString(),
      settings: { depth, length, vocabulary, rounds, batches, seed, parts },
      machine: machineOf(engine),
      versions,
      ...measured,
      bars: judge(measured),
      notes,
    };
    return { results, files: await write(out, results) };
  } finally {
    progress.stop();
    await engine.dispose();
  }
}

function partName(part: SpeedPartName, width: number | undefined): string {
  return width === undefined ? part : `${part}-${width}`;
}

/** What has been measured, in this run or before it was stopped. */
function collectParts(out: string, engine: Engine) {
  const finished = openFinished(join(out, "parts"));
  const versions: Record<string, string> = { ...versionsOf(engine) };
  const notes: string[] = [
    `Systems of this project: ${engine.description}; threads do not spin, but where it says so.`,
  ];
  const lists = {
    depths: [] as DepthPart[],
    mixed: [] as MixedPart[],
    full: [] as FullPart[],
    throughput: [] as ThroughputPart[],
    decide: [] as DecidePart[],
    latency: [] as LatencyPart[],
  };
  let memory: MemoryPart | undefined;
  const note = (line: string) => {
    if (!notes.includes(line)) notes.push(line);
  };
  const add = (measured: Measured) => {
    const { memory: own, ...more } = measured;
    memory = own ?? memory;
    for (const name of Object.keys(more) as (keyof typeof lists)[])
      (lists[name] as unknown[]).push(...(more[name] ?? []));
  };
  return {
    versions,
    notes,
    note,
    get measured() {
      return { ...lists, memory };
    },
    /** Takes a part from the run that was stopped, if it finished there. */
    restore(name: string): boolean {
      const part = finished.read(name);
      if (!part) return false;
      Object.assign(versions, part.versions);
      for (const line of part.notes) note(line);
      note(`Measured before the run was gone on with: ${name}, ${part.date}.`);
      add(part.measured);
      return true;
    },
    async keep(name: string, measured: Measured): Promise<void> {
      await finished.write(name, { date: new Date().toISOString(), measured, versions, notes });
      add(measured);
    },
  };
}

/** What must be equal for a run to be gone on with; parts and widths may be added. */
function settingsOf(options: SpeedOptions, engine: Engine): RunSettings {
  const { depth, length, vocabulary, rounds, batches, data, limit, backbone } = options;
  const { requests, calls, seed, torch, transformers } = options;
  return {
    ...{ depth, length, vocabulary, rounds, batches: batches.join() },
    data: data === undefined ? "generated" : maskDataFolder(data, process.env.CEE_DATA_DIR),
    limit: limit ?? null,
    ...{ backbone, requests, calls: calls.join(), seed },
    ...{ torch: String(torch), transformers: String(transformers) },
    ...machineOf(engine),
    runtime: engine.runtime,
    node: process.versions.node,
  };
}

/** Work that lies ahead, as each round counts in the progress line. */
function unitsOf({ widths, depth, rounds, batches, parts, transformers }: SpeedOptions): number {
  const rounded: Partial<Record<SpeedPartName, number>> = {
    depths: depth * (rounds + WARM_UP),
    mixed: batches.length * (rounds + WARM_UP),
    ...(transformers
      ? {
          full: peerBatches(batches).length * (rounds + WARM_UP),
          throughput: turnsOf(rounds),
        }
      : {}),
  };
  const each = parts.reduce((sum, part) => sum + (rounded[part] ?? 0), 0);
  return widths.reduce((sum, width) => sum + each * workOf(width), 0);
}

function peerBatches(batches: readonly number[]): number[] {
  return [...new Set([1, Math.max(...batches)])];
}

/** Rounds of the sentences, which take long. */
function turnsOf(rounds: number): number {
  return Math.max(3, Math.ceil(rounds / 4));
}

async function taskOf({ data, limit, seed }: SpeedOptions): Promise<LoadedTask> {
  const limits = { limit: { train: limit }, seed };
  return data === undefined
    ? loadEmbeddedTask("sentiment", { seed, ...(limit === undefined ? {} : { trainRows: limit }) })
    : loadGlueTask(data, "sst-2", limits);
}

async function write(folder: string, results: SpeedResults): Promise<string[]> {
  const files: [string, string][] = [
    [RESULTS, formatJson(results)],
    ["speed.md", `${speedTables(results).map(toMarkdown).join("\n\n")}\n`],
    ["speed.html", renderSpeedReport(results)],
    ...speedPictures(results).map(({ name, svg }): [string, string] => [`${name}.svg`, svg]),
  ];
  for (const [name, text] of files) await writeFileWhole(join(folder, name), text);
  return files.map(([name]) => join(folder, name));
}
