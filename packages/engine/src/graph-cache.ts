/**
 * @file Optimised graphs on disk. Creating a session is mostly ONNX Runtime's work on the graph; what it made of one is kept,
 * and other processes load that instead. A cache is only ever a saving: whatever is wrong with it, sessions are created without.
 */
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { cpus, homedir } from "node:os";
import { join } from "node:path";
import type { EngineOptions } from "./types.js";

/** Part of every key: another way of writing files makes others. */
const FORMAT = 1;
/** What all files of a folder may take; the ones not used for longest go first. */
const LARGEST_FOLDER = 256 * 2 ** 20;
/** A larger graph holds data of its own, which the next training changes. */
const LARGEST_GRAPH = 8 * 2 ** 20;
/** Whoever left an unfinished file behind this long ago has ended. */
const STALE_MS = 3_600_000;
const DIGEST_BYTES = 32;
const SUFFIX = ".graph";

/** How a session is created, with and without a file. */
export interface SessionMaker<TSession> {
  /** From what was kept. */
  load(optimised: Uint8Array): Promise<TSession>;
  /** From the graph itself; with a path, leaves there what the runtime made of it. */
  make(path?: string): Promise<TSession>;
}

/** Kept graphs of one runtime with one set of options. */
export interface GraphCache {
  /** @param key what the graph is, in hexadecimal */
  session<T>(key: string, bytes: number, maker: SessionMaker<T>): Promise<T>;
}

export interface GraphCacheOptions {
  readonly folder: string;
  /** Whatever else decides what the runtime makes of a graph. */
  readonly setting: readonly string[];
  /** @default 256 MiB */
  readonly limit?: number;
}

/** The folder that the options or the environment name; `undefined` where the cache is off. */
export function graphFolder(option: EngineOptions["graphCache"]): string | undefined {
  if (typeof option === "string") return option;
  if (!(option ?? process.env.CEE_GRAPH_CACHE !== "off")) return undefined;
  return join(process.env.CEE_CACHE ?? join(homedir(), ".cache", "cee"), "graphs");
}

/** The processor: optimised graphs have its vector width in their layouts. */
export function processorOf(): string {
  const model = cpus()[0]?.model ?? "";
  let flags = "";
  try {
    flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  } catch {
    // Not a Linux; the model says enough.
  }
  return `${process.platform} ${process.arch} ${model} ${flags}`;
}

export function createGraphCache(options: GraphCacheOptions): GraphCache {
  const { folder, setting, limit = LARGEST_FOLDER } = options;
  let writes = true;
  return {
    async session(key, bytes, { load, make }) {
      if (bytes > LARGEST_GRAPH) return make();
      const name = createHash("sha256")
        .update(JSON.stringify([FORMAT, key, ...setting]))
        .digest("hex");
      const file = join(folder, `${name}${SUFFIX}`);
      const kept = await readWhole(file);
      if (kept) {
        try {
          return await load(kept);
        } catch {
          // Made again below, in its place.
        }
      }
      if (!writes) return make();
      const unfinished = `${file}.${randomUUID()}.tmp`;
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 });
        const session = await make(unfinished);
        await finish(unfinished, file).then(
          () => prune(folder, limit),
          () => undefined,
        );
        return session;
      } catch {
        // Either the graph is refused, which the next line says, or the folder is no good, which shall not be tried again.
        const session = await make();
        writes = false;
        return session;
      } finally {
        await rm(unfinished, { force: true }).catch(() => undefined);
      }
    },
  };
}

/** A file's graph; `undefined` where there is none or its digest is another. */
async function readWhole(file: string): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readFile(file);
    const end = bytes.length - DIGEST_BYTES;
    if (end <= 0 || !digestOf(bytes.subarray(0, end)).equals(bytes.subarray(end))) return undefined;
    const now = new Date();
    // Says when it was last used; one that is not ours to touch is as good.
    await utimes(file, now, now).catch(() => undefined);
    return new Uint8Array(bytes.subarray(0, end));
  } catch {
    return undefined;
  }
}

/** Adds the digest and gives the file its name, at once for every process that looks. */
async function finish(unfinished: string, file: string): Promise<void> {
  await appendFile(unfinished, digestOf(await readFile(unfinished)));
  await rename(unfinished, file);
}

/** Deletes what was not used for longest until the rest fits. Other processes may be deleting the same. */
async function prune(folder: string, limit: number): Promise<void> {
  const found = await Promise.all(
    (await readdir(folder)).map(async (name) => {
      const path = join(folder, name);
      const about = await stat(path).catch(() => undefined);
      return { path, name, size: about?.size ?? 0, usedMs: about?.mtimeMs ?? 0 };
    }),
  );
  const oldest = Date.now() - STALE_MS;
  const stale = found.filter(({ name, usedMs }) => name.endsWith(".tmp") && usedMs < oldest);
  const graphs = found
    .filter(({ name }) => name.endsWith(SUFFIX))
    .sort((a, b) => b.usedMs - a.usedMs);
  let total = 0;
  const tooMany = graphs.filter(({ size }) => {
    total += size;
    return total > limit;
  });
  for (const { path } of [...stale, ...tooMany]) await rm(path, { force: true });
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
