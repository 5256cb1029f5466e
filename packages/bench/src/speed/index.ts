/** @file `pnpm bench speed`: what exits save in time, against truncated models, full depth, Transformers.js and PyTorch. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createWordPieceTokenizer, createWordVocabulary } from "@cee/backbone";
import { createEngine, createRng } from "@cee/engine";
import { loadEmbeddedTask } from "../data/embedded.js";
import { loadGlueTask } from "../data/glue.js";
import type { LoadedTask } from "../data/task.js";
import { formatJson } from "../format-json.js";
import { machineOf, versionsOf } from "../glue/versions.js";
import { writeFileWhole } from "../results.js";
import { toMarkdown } from "../table/table.js";
import { measureDecide } from "./decide.js";
import { type ForcedOptions, measureDepths, measureMixed } from "./forced.js";
import { measureFull, measureThroughput } from "./full-depth.js";
import { judge } from "./judge.js";
import { measureMemory } from "./memory.js";
import { createSpeedEncoder, type SpeedSizes } from "./model.js";
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
import { renderSpeedReport, speedPictures } from "./speed-report.js";
import { speedTables } from "./tables.js";
import { startSpeedTorch } from "./torch.js";
import { measureTrained } from "./trained.js";
import { openTransformers } from "./transformers.js";

export interface SpeedHooks {
  readonly signal?: AbortSignal;
  readonly log: (line: string) => void;
}

/** Measures, judges, and writes `speed.json`, `speed.md`, `speed.html` and a picture per chart. */
export async function runSpeed(
  options: SpeedOptions,
  { signal, log }: SpeedHooks,
): Promise<{ readonly results: SpeedResults; readonly files: readonly string[] }> {
  const { widths, depth, length, vocabulary, threads, rounds, batches, seed, parts, out } = options;
  const has = (part: SpeedPartName) => parts.includes(part);
  const engine = await createEngine({
    ...(threads === undefined ? {} : { threads }),
    runtime: options.runtime ?? "auto",
  });
  const notes: string[] = [`Systems of this project: ${engine.description}; threads do not spin.`];
  const depths: DepthPart[] = [];
  const mixed: MixedPart[] = [];
  const full: FullPart[] = [];
  const throughput: ThroughputPart[] = [];
  const decide: DecidePart[] = [];
  let latency: readonly LatencyPart[] = [];
  let memory: MemoryPart | undefined;
  const versions: Record<string, string> = { ...versionsOf(engine) };
  try {
    const task = await taskOf(options);
    const sentences = task.splits.dev.map(({ text }) => text);
    for (const width of widths) {
      const sizes: SpeedSizes = { width, depth, length, vocabulary };
      log(`\n${depth} layers, width ${width}, ${length} tokens, ${engine.threads} threads`);
      const texts = [...task.splits.train, ...task.splits.dev].map(({ text }) => text);
      const tokenizer = createWordPieceTokenizer(
        createWordVocabulary(texts, Math.min(vocabulary, 8192)),
      );
      const encoder = createSpeedEncoder(sizes, { seed, tokenizer });
      const torch =
        options.torch && has("depths")
          ? await startSpeedTorch(encoder, sizes, engine.threads)
          : undefined;
      if (torch && "missing" in torch) note(notes, torch.missing);
      const started = torch && "answer" in torch ? torch : undefined;
      if (started) versions.pytorch = started.version;
      if (started?.warning) note(notes, started.warning);
      const rng = createRng(seed).fork(`order/${width}`);
      const shared: ForcedOptions = {
        engine,
        encoder,
        sizes,
        rounds,
        seed,
        rng,
        torch: started,
        signal,
        log,
      };
      try {
        if (has("depths")) depths.push(...(await measureDepths(shared)));
        if (has("mixed")) mixed.push(...(await measureMixed(shared, batches)));
        if (has("decide")) decide.push(await measureDecide(shared));
      } finally {
        await started?.close();
      }
      if (options.transformers && (has("full") || has("throughput"))) {
        const own = { threads: engine.threads };
        const same = await openTransformers(encoder, { ...own, spinning: false });
        if ("missing" in same) note(notes, same.missing);
        else {
          versions["@huggingface/transformers"] = same.version;
          const spinning = await openTransformers(encoder, { ...own, spinning: true });
          if ("missing" in spinning) throw new Error("internal: found once, not twice");
          const peers = { ...shared, transformers: { same, own: spinning } };
          try {
            if (has("full")) full.push(...(await measureFull(peers, [1, Math.max(...batches)])));
            if (has("throughput")) {
              const data = { name: task.task.title, texts: sentences };
              const turns = Math.max(3, Math.ceil(rounds / 4));
              throughput.push(await measureThroughput(peers, data, turns));
            }
          } finally {
            await same.close();
            await spinning.close();
          }
        }
      }
    }
    if (has("trained")) {
      log(`\nA trained strategy, ${options.backbone}`);
      latency = await measureTrained({
        engine,
        task,
        backbone: options.backbone,
        requests: options.requests,
        seed,
        rng: createRng(seed).fork("trained"),
        threads: engine.threads,
        signal,
        log,
      });
    }
    if (has("memory")) {
      log("\nMemory");
      memory = await measureMemory(options.calls, { threads: engine.threads, signal });
    }
  } finally {
    await engine.dispose();
  }
  const measured = { depths, mixed, full, throughput, decide, memory };
  const results: SpeedResults = {
    format: 1,
    command: options.command,
    date: new Date().toISOString(),
    settings: { depth, length, vocabulary, rounds, batches, seed, parts },
    machine: machineOf(engine),
    versions,
    ...measured,
    latency,
    bars: judge(measured),
    notes,
  };
  return { results, files: await write(out, results) };
}

async function taskOf({ data, limit, seed }: SpeedOptions): Promise<LoadedTask> {
  const limits = { limit: { train: limit }, seed };
  return data === undefined
    ? loadEmbeddedTask("sentiment", { seed, ...(limit === undefined ? {} : { trainRows: limit }) })
    : loadGlueTask(data, "sst-2", limits);
}

function note(notes: string[], line: string): void {
  if (!notes.includes(line)) notes.push(line);
}

async function write(folder: string, results: SpeedResults): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files: [string, string][] = [
    ["speed.json", formatJson(results)],
    ["speed.md", `${speedTables(results).map(toMarkdown).join("\n\n")}\n`],
    ["speed.html", renderSpeedReport(results)],
    ...speedPictures(results).map(({ name, svg }): [string, string] => [`${name}.svg`, svg]),
  ];
  for (const [name, text] of files) await writeFileWhole(join(folder, name), text);
  return files.map(([name]) => join(folder, name));
}
