/** @file ONNX Runtime: finding it, and sessions shared by equal graphs. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { totalmem } from "node:os";
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import { EngineError } from "./errors.js";
import type { GraphCache, SessionMaker } from "./graph-cache.js";
import type { DType, HostTensor, Runtime } from "./types.js";

/** The part of ONNX Runtime's packages that is used here; both have it. */
export interface OrtModule {
  readonly InferenceSession: {
    create(
      model: Uint8Array | string,
      options?: InferenceSession.SessionOptions,
    ): Promise<InferenceSession>;
  };
  readonly Tensor: new (
    type: DType | "int64",
    data: HostTensor["data"] | BigInt64Array,
    dims: readonly number[],
  ) => OrtTensor;
  /** Execution providers of this build; the WebAssembly runtime has no such list. */
  readonly listSupportedBackends?: () => readonly { readonly name: string }[];
  readonly env: {
    logLevel?: string;
    wasm?: { numThreads?: number };
    readonly versions?: { readonly node?: string };
  };
}

export interface OrtRuntime {
  readonly name: Exclude<Runtime, "eager">;
  readonly module: OrtModule;
}

const packages = ["onnxruntime-node", "onnxruntime-web"] as const;

/** Loads the first ONNX Runtime that there is; says why each one was not. */
export async function loadOrt(
  wanted: "auto" | Exclude<Runtime, "eager">,
  load: (name: string) => Promise<unknown> = (name) => import(name),
): Promise<{ readonly runtime: OrtRuntime | undefined; readonly reasons: readonly string[] }> {
  const reasons: string[] = [];
  for (const name of packages) {
    if (wanted !== "auto" && wanted !== name) continue;
    try {
      const loaded = (await load(name)) as OrtModule & { readonly default?: OrtModule };
      const module = loaded.InferenceSession ? loaded : (loaded.default as OrtModule);
      module.env.logLevel = "fatal";
      return { runtime: { name, module }, reasons };
    } catch (cause) {
      reasons.push(`${name}: ${firstLine(cause)}`);
    }
  }
  return { runtime: undefined, reasons };
}

function firstLine(cause: unknown): string {
  return String(cause instanceof Error ? cause.message : cause).split("\n")[0] ?? "";
}

export interface SessionOptions {
  readonly providers: readonly string[];
  readonly threads: number;
  /** Whether threads spin while a graph runs. */
  readonly spin: boolean;
  /** What the file names of profiles start with. */
  readonly profile?: string | undefined;
}

export interface SessionUse {
  /** Whether it may be kept on disk: not with weights, which no other training has. */
  readonly isKept?: boolean;
  /** Whether its temporaries have memory of their own. @default true */
  readonly ownMemory?: boolean;
}

interface Shared {
  readonly session: Promise<InferenceSession>;
  readonly bytes: number;
  users: number;
}

/** Sessions that nobody uses but somebody may soon ask for again, at most. */
const IDLE_SESSIONS = 12;
/** Larger models hold weights of their own: they are rarely asked for twice and cost memory. */
const LARGEST_IDLE = 4 * 2 ** 20;

/** Of the machine's memory, what a process may hold before no session is kept idle. */
const SHARE_WITH_IDLE = 0.25;

/** Whether this process holds so much that it should keep nothing that may never be asked for again. */
function isMemoryTight(): boolean {
  const allowed = Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
  return process.memoryUsage.rss() > SHARE_WITH_IDLE * allowed;
}

/** Sessions of one engine, by the content of their graphs. */
export class SessionCache {
  readonly #shared = new Map<string, Shared>();
  #disposed = false;

  constructor(
    readonly runtime: OrtRuntime,
    readonly options: SessionOptions,
    readonly graphs?: GraphCache | undefined,
    readonly isTight: () => boolean = isMemoryTight,
  ) {}

  /**
   * Runs one after the other on the WebAssembly runtime, which has one heap and no queue of its own; the native one
   * takes concurrent runs.
   */
  inTurn<T>(run: () => Promise<T>): Promise<T> {
    if (this.runtime.name === "onnxruntime-node") return run();
    const next = this.#last.then(run, run);
    this.#last = next.catch(() => undefined);
    return next;
  }
  #last: Promise<unknown> = Promise.resolve();

  /** @throws EngineError `DISPOSED` */
  checkAlive(name: string): void {
    if (this.#disposed)
      throw new EngineError(
        "DISPOSED",
        `[${name}] the engine of this function was disposed of. Create another and compile again.`,
      );
  }

  get size(): number {
    return this.#shared.size;
  }

  /** Borrows the session of a model; give it back with {@link release}. Another use has another key. */
  borrow(
    key: string,
    name: string,
    model: () => Uint8Array | string,
    { isKept = false, ownMemory = true }: SessionUse = {},
  ): Promise<InferenceSession> {
    this.checkAlive(name);
    let shared = this.#shared.get(key);
    if (!shared) {
      const source = model();
      // A file that somebody chose to open by its path is a large one.
      const bytes = typeof source === "string" ? Number.POSITIVE_INFINITY : source.length;
      const graphs = isKept ? this.graphs : undefined;
      const session = this.#create(name, source, ownMemory, (make) =>
        graphs ? graphs.session(key, bytes, make) : make.make(),
      );
      shared = { session, bytes, users: 0 };
      this.#shared.set(key, shared);
      shared.session.catch(() => this.#shared.delete(key));
    }
    shared.users += 1;
    return shared.session;
  }

  /**
   * Gives a session back. Creating one takes seconds where running it takes milliseconds, so the last few that nobody
   * uses stay: a sweep that trains the same graph again and again creates it once. Each holds the temporaries of its
   * largest run, a gigabyte where twelve layers train on long rows, so none stays that the machine has no room for.
   */
  async release(key: string): Promise<void> {
    const shared = this.#shared.get(key);
    if (!shared) return;
    shared.users -= 1;
    if (shared.users > 0) return;
    // Moves it to the end: idle sessions are ended in the order in which they were last used.
    this.#shared.delete(key);
    if (shared.bytes > LARGEST_IDLE) {
      await (await shared.session).release();
      return;
    }
    this.#shared.set(key, shared);
    const idle = [...this.#shared].filter(([, { users }]) => users === 0);
    for (const [index, [old, one]] of idle.entries()) {
      const isOneTooMany = idle.length - index > IDLE_SESSIONS || this.isTight();
      // Borrowed again, or ended by another call, while an older one was being ended.
      if (!isOneTooMany || one.users > 0 || this.#shared.get(old) !== one) continue;
      this.#shared.delete(old);
      await (await one.session).release();
    }
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    const all = [...this.#shared.values()];
    this.#shared.clear();
    for (const { session } of all) {
      const ended = await session.catch(() => undefined);
      await ended?.release();
    }
  }

  async #create(
    name: string,
    source: Uint8Array | string,
    ownMemory: boolean,
    choose: (maker: SessionMaker<InferenceSession>) => Promise<InferenceSession>,
  ): Promise<InferenceSession> {
    const { providers, threads, spin, profile } = this.options;
    const isWeb = this.runtime.name === "onnxruntime-web";
    if (isWeb && this.runtime.module.env.wasm) this.runtime.module.env.wasm.numThreads = 1;
    try {
      // The runtime leaves out a provider it does not know, and computes on the processor instead.
      const known = this.runtime.module.listSupportedBackends?.().map((backend) => backend.name);
      const unknown = known && providers.find((provider) => !known.includes(provider));
      if (unknown !== undefined)
        throw new Error(`there is no provider "${unknown}" here, only ${known?.join(", ")}`);
      const model = await readModel(source, isWeb);
      const settings: InferenceSession.SessionOptions = {
        executionProviders: isWeb ? ["wasm"] : [...providers],
        graphOptimizationLevel: "all",
        executionMode: "sequential",
        logSeverityLevel: 4,
        intraOpNumThreads: isWeb ? 1 : threads,
        interOpNumThreads: 1,
        enableCpuMemArena: ownMemory || isWeb,
        ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
        // Threads that went on spinning behind a run would starve the next session where several run in turn.
        extra: {
          session: {
            intra_op: { allow_spinning: spin ? "1" : "0" },
            inter_op: { allow_spinning: "0" },
            force_spinning_stop: "1",
          },
        },
      };
      const { InferenceSession: sessions } = this.runtime.module;
      return await choose({
        // It was optimised before it was kept.
        load: (optimised) =>
          sessions.create(optimised, { ...settings, graphOptimizationLevel: "disabled" }),
        make: (path) =>
          sessions.create(model, {
            ...settings,
            ...(path === undefined ? {} : { optimizedModelFilePath: path }),
          }),
      });
    } catch (cause) {
      throw new EngineError(
        "RUN_FAILED",
        `[${name}] ${this.runtime.name} refused the graph on ${providers.join(", ")}: ${firstLine(cause)}. Try other providers, or runtime "eager".`,
        { cause },
      );
    }
  }
}

/** The native runtime reads files itself; the WebAssembly one has none. */
async function readModel(
  source: Uint8Array | string,
  isWeb: boolean,
): Promise<Uint8Array | string> {
  return typeof source === "string" && isWeb ? new Uint8Array(await readFile(source)) : source;
}

export function hashOf(model: Uint8Array): string {
  return createHash("sha256").update(model).digest("hex");
}
