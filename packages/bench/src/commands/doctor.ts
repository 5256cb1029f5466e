/** @file `cee doctor`: what this machine computes with, how fast, and what would make it faster. */
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism, cpus, freemem, homedir, totalmem } from "node:os";
import path from "node:path";
import { createEngine, type EngineOptions, type HostTensor, useBackend } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { type Args, createReader } from "../glue/options.js";
import type { CeeCommand } from "./command.js";

const help = (cee: string) => `Usage: ${cee} doctor [options]

Says what this machine computes with: the runtimes that load, each tried on a small product and timed, execution providers,
threads, memory and the folder of downloads; and what to install for more speed.

  --threads <n>   (default: all processors)
  --json          prints one JSON object

Exit codes: 0 models can be run, 1 no runtime works, 2 the command line was wrong.
`;

interface RuntimeFound {
  readonly name: string;
  readonly works: boolean;
  /** What was loaded, or why nothing was. */
  readonly description: string;
  /** Billions of multiplications and additions a second, in a product of two square matrices. */
  readonly gflops?: number;
}

export interface Diagnosis {
  readonly node: { readonly version: string; readonly isSupported: boolean };
  readonly machine: {
    readonly platform: string;
    readonly processor: string;
    readonly processors: number;
    readonly memoryGiB: number;
    readonly freeGiB: number;
  };
  /** In the order in which `auto` takes them. */
  readonly runtimes: readonly RuntimeFound[];
  /** Execution providers that the native runtime brings along. */
  readonly providers: readonly string[];
  readonly cache: {
    readonly folder: string;
    readonly megabytes: number;
    readonly isWritable: boolean;
    readonly freeGiB: number | null;
  };
  readonly advice: readonly string[];
}

const RUNTIMES = ["onnxruntime-node", "onnxruntime-web", "eager"] as const;
const SIZE = 256;
const GIB = 2 ** 30;

export const doctorCommand: CeeCommand = {
  help,
  flags: ["json"],
  lists: [],
  async run(args: Args): Promise<number> {
    const threads = createReader(args, ["threads", "json"]).whole("threads", 1);
    const found = await diagnose(threads);
    process.stdout.write(args.json === true ? `${JSON.stringify(found)}\n` : describe(found));
    return found.runtimes.some(({ works }) => works) ? 0 : 1;
  },
};

async function diagnose(threads: number | undefined): Promise<Diagnosis> {
  const runtimes: RuntimeFound[] = [];
  for (const runtime of RUNTIMES)
    runtimes.push(await tryRuntime(runtime, threads === undefined ? {} : { threads }));
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const isSupported = major > 20 || (major === 20 && minor >= 19);
  const cache = await cacheFolder();
  return {
    node: { version: process.versions.node, isSupported },
    machine: {
      platform: `${process.platform} ${process.arch}`,
      processor: cpus()[0]?.model.trim() || "unknown",
      processors: availableParallelism(),
      memoryGiB: round(totalmem() / GIB),
      freeGiB: round(freemem() / GIB),
    },
    runtimes,
    providers: await providersOf(),
    cache,
    advice: await adviceFor(runtimes, isSupported, cache),
  };
}

/** Computes a product with the runtime, and times it. */
async function tryRuntime(
  runtime: (typeof RUNTIMES)[number],
  options: EngineOptions,
): Promise<RuntimeFound> {
  try {
    const engine = await createEngine({ ...options, runtime });
    try {
      const product = engine.compile(({ x }) => ({ y: tf.matMul(x, x) }), {
        name: "doctor",
        inputs: { x: { dtype: "float32", shape: [SIZE, SIZE] } },
      });
      const x = {
        dtype: "float32" as const,
        shape: [SIZE, SIZE],
        data: new Float32Array(SIZE * SIZE).fill(0.5),
      };
      let best = Number.POSITIVE_INFINITY;
      for (let round = 0; round < 5; round += 1) {
        const start = performance.now();
        const { y } = (await product.run({ x })) as { readonly y: HostTensor };
        best = Math.min(best, performance.now() - start);
        if (y.data[SIZE] !== SIZE / 4) throw new Error(`a product gave ${y.data[SIZE]}`);
      }
      await product.dispose();
      const gflops = round((2 * SIZE ** 3) / best / 1e6);
      return { name: runtime, works: true, description: engine.description, gflops };
    } finally {
      await engine.dispose();
    }
  } catch (cause) {
    return { name: runtime, works: false, description: messageOf(cause) };
  }
}

/** Execution providers of the ONNX Runtime that the engine loads. */
async function providersOf(): Promise<readonly string[]> {
  try {
    const engine = createRequire(
      createRequire(import.meta.url).resolve("@cee/engine/package.json"),
    );
    const { listSupportedBackends } = engine("onnxruntime-node") as {
      listSupportedBackends(): readonly { readonly name: string; readonly bundled: boolean }[];
    };
    // The others ask for libraries that are not in the package.
    return listSupportedBackends().flatMap(({ name, bundled }) => (bundled ? [name] : []));
  } catch {
    return [];
  }
}

async function cacheFolder(): Promise<Diagnosis["cache"]> {
  const folder = process.env.CEE_CACHE ?? path.join(homedir(), ".cache", "cee");
  let existing = folder;
  while (!existsSync(existing) && path.dirname(existing) !== existing)
    existing = path.dirname(existing);
  let isWritable = true;
  try {
    accessSync(existing, constants.W_OK);
  } catch {
    isWritable = false;
  }
  const space = await statfs(existing).catch(() => undefined);
  return {
    folder,
    megabytes: round(existsSync(folder) ? sizeOf(folder) / 1e6 : 0),
    isWritable,
    freeGiB: space ? round((space.bavail * space.bsize) / GIB) : null,
  };
}

function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0);
}

async function adviceFor(
  runtimes: readonly RuntimeFound[],
  isSupported: boolean,
  cache: Diagnosis["cache"],
): Promise<readonly string[]> {
  const works = (name: string) => runtimes.some((one) => one.name === name && one.works);
  const advice: string[] = [];
  if (!isSupported) advice.push("Node 20.19 or newer is needed.");
  if (!works("onnxruntime-node"))
    advice.push(
      "The native runtime is missing, which is several times as fast: ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node@1.30.0 (npm drops it where its script can't download more).",
    );
  if (!works("onnxruntime-node") && !works("onnxruntime-web")) {
    const backend = await useBackend("auto").catch(() => undefined);
    if (backend) advice.push(`Without ONNX Runtime models run eagerly: ${backend.description}`);
  }
  const limit = memoryLimit();
  if (limit !== undefined && limit < totalmem())
    advice.push(
      `This process may use ${round(limit / GIB)} GiB of the machine's memory; training a large encoder may need more.`,
    );
  if (!cache.isWritable)
    advice.push(`${cache.folder} can't be written to. Set CEE_CACHE to a folder that can.`);
  return advice;
}

/** Of the container, where there is one. */
function memoryLimit(): number | undefined {
  try {
    const text = readFileSync("/sys/fs/cgroup/memory.max", "utf8").trim();
    const bytes = Number(text);
    return Number.isFinite(bytes) ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function describe({ node, machine, runtimes, providers, cache, advice }: Diagnosis): string {
  const lines: readonly (readonly [string, string])[] = [
    ["Node", `${node.version}${node.isSupported ? "" : " (too old)"}`],
    ["machine", `${machine.platform}, ${machine.processor}, ${machine.processors} processors`],
    ["memory", `${machine.freeGiB} GiB free of ${machine.memoryGiB}`],
    ...runtimes.map(
      ({ name, works, description, gflops }) =>
        [
          name,
          works ? `works, ${gflops} GFLOP/s (${description})` : `missing: ${description}`,
        ] as const,
    ),
    ["providers", providers.join(", ") || "none but those of onnxruntime-web"],
    [
      "downloads",
      `${cache.folder}, ${cache.megabytes} MB${cache.freeGiB === null ? "" : `, ${cache.freeGiB} GiB free`}`,
    ],
  ];
  const taken = runtimes.find(({ works }) => works);
  const width = Math.max(...lines.map(([name]) => name.length));
  return [
    ...lines.map(([name, text]) => `${name.padEnd(width)}  ${text}`),
    "",
    taken ? `Models run on ${taken.name}.` : "No runtime works: reinstall @cee/engine.",
    ...advice,
    "",
  ].join("\n");
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n")[0] as string;
}
