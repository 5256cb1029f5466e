/** @file Models by name: downloaded from the Hugging Face hub, or a mirror with its URLs, into a folder once. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { BackboneError } from "./errors.js";
import { exists, parseJson, readJson, reason, writeAtomically } from "./files.js";
import { INDEX_FILE, shardNames, WEIGHTS_FILE } from "./weights.js";

export interface DownloadProgress {
  readonly file: string;
  /** Bytes there so far, those of an earlier attempt included. */
  readonly received: number;
  /** `undefined` where the server does not say. */
  readonly total: number | undefined;
}

export interface ResolveModelOptions {
  /** @default `$CEE_CACHE`, else `~/.cache/cee` */
  readonly cacheDir?: string;
  /** @default `$HF_ENDPOINT`, else "https://huggingface.co" */
  readonly hubUrl?: string;
  /** Branch, tag or commit. @default "main" */
  readonly revision?: string;
  /** Uses what was downloaded before and never the network. @default false */
  readonly offline?: boolean;
  /** Sent as a bearer token, to `hubUrl` only. */
  readonly token?: string;
  readonly fetch?: typeof fetch;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Attempts per file; each goes on where the one before broke off. @default 4 */
  readonly attempts?: number;
  readonly signal?: AbortSignal;
}

const PART = /^[\w-][\w.-]*$/;
const OPTIONAL = [
  "tokenizer_config.json",
  "vocab.txt",
  "tokenizer.json",
  "cee.json",
  "exits.safetensors",
  // A strategy of @cee/exit-policies, beside the model or in a folder of its own.
  ...["", "strategy/"].flatMap((folder) => [
    `${folder}exit-strategy.json`,
    `${folder}exit-strategy.safetensors`,
  ]),
];

/**
 * Returns the folder of a model: `idOrFolder` itself where that is a folder, else a cached download of `owner/name`.
 * A file is in the folder under its name only when it is complete.
 * @throws BackboneError `BAD_OPTION`, `MISSING_FILE`, `DOWNLOAD_FAILED`, `OFFLINE`
 */
export async function resolveModel(
  idOrFolder: string,
  options: ResolveModelOptions = {},
): Promise<string> {
  if (await isFolder(idOrFolder)) return idOrFolder;
  const { revision = "main", offline = false } = options;
  checkId(idOrFolder, revision);
  const hub = (options.hubUrl ?? process.env.HF_ENDPOINT ?? "https://huggingface.co").replace(
    /\/+$/,
    "",
  );
  const root = options.cacheDir ?? process.env.CEE_CACHE ?? join(homedir(), ".cache", "cee");
  const model = join(root, "models", ...idOrFolder.split("/"));
  const pointer = join(model, "refs", `${encodeURIComponent(revision)}.json`);
  if (offline) return cachedFolder(model, pointer, idOrFolder, revision);

  const client = createClient(hub, options);
  const info = await client.info(idOrFolder, revision).catch((cause: unknown) => {
    if (!(cause instanceof BackboneError)) throw cause;
    const { code, who, message } = cause;
    const found = `${who} ${message.slice(who.length + 3)}`;
    const problem = `there is no such folder, and no such model could be found: ${found}`;
    throw new BackboneError(code, idOrFolder, problem, { cause });
  });
  const folder = join(model, info.commit);
  const marker = join(folder, ".complete");
  if (!(await exists(marker))) {
    const get = (file: string) =>
      client.download(
        `${hub}/${idOrFolder}/resolve/${info.commit}/${file}`,
        join(folder, file),
        file,
        info.sha256.get(file),
      );
    for (const file of await neededFiles(info.files, folder, get, idOrFolder)) await get(file);
    await writeAtomically(marker, "");
  }
  await writeAtomically(pointer, `${JSON.stringify({ commit: info.commit })}\n`);
  return folder;
}

interface ModelInfo {
  readonly commit: string;
  readonly files: ReadonlySet<string>;
  /** Checksums of large files. */
  readonly sha256: ReadonlyMap<string, string>;
}

function checkId(id: string, revision: string): void {
  const parts = id.split("/");
  if (parts.length > 2 || !parts.every((part) => PART.test(part) && !part.includes(".."))) {
    throw new BackboneError(
      "BAD_OPTION",
      id,
      'there is no such folder, and it is no model name either. Give a folder, or a name such as "owner/model".',
    );
  }
  if (!revision.split("/").every((part) => PART.test(part) && !part.includes(".."))) {
    throw new BackboneError(
      "BAD_OPTION",
      "revision",
      `must be a branch, tag or commit, got ${JSON.stringify(revision)}.`,
    );
  }
}

async function cachedFolder(
  model: string,
  pointer: string,
  id: string,
  revision: string,
): Promise<string> {
  const named = (await exists(pointer)) ? await readJson(pointer) : { commit: revision };
  const commit = (named as { commit?: unknown } | null)?.commit;
  if (typeof commit === "string" && PART.test(commit)) {
    const folder = join(model, commit);
    if (await exists(join(folder, ".complete"))) return folder;
  }
  throw new BackboneError(
    "OFFLINE",
    id,
    `revision ${revision} has not been downloaded into ${model}. Run once without offline.`,
  );
}

/** Which files to get; shards are only known once their index is there. */
async function neededFiles(
  files: ReadonlySet<string>,
  folder: string,
  get: (file: string) => Promise<void>,
  id: string,
): Promise<string[]> {
  const missing = (what: string): never => {
    throw new BackboneError(
      "MISSING_FILE",
      id,
      `has no ${what}. Choose a BERT model with safetensors weights, or convert it.`,
    );
  };
  if (!files.has("config.json")) missing("config.json");
  if (!files.has("tokenizer.json") && !files.has("vocab.txt")) {
    missing("tokenizer.json or vocab.txt");
  }
  const wanted = ["config.json", ...OPTIONAL.filter((file) => files.has(file))];
  if (files.has(WEIGHTS_FILE)) return [...wanted, WEIGHTS_FILE];
  if (!files.has(INDEX_FILE)) missing(WEIGHTS_FILE);
  await get(INDEX_FILE);
  const path = join(folder, INDEX_FILE);
  const shards = shardNames(await readJson(path), path);
  for (const shard of shards) if (!files.has(shard)) missing(shard);
  return [...wanted, ...shards];
}

function createClient(hub: string, options: ResolveModelOptions) {
  const { token, onProgress, attempts = 4, signal } = options;
  const request = async (url: string, headers: Record<string, string>): Promise<Response> => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const init: RequestInit = { headers: { ...headers, ...authorization } };
    if (signal) init.signal = signal;
    // Node's fetch drops the authorization header when a redirect leaves the origin.
    return (options.fetch ?? fetch)(url, init);
  };

  const withRetries = async <T>(url: string, attempt: () => Promise<T>): Promise<T> => {
    let last: unknown;
    for (let count = 0; count < attempts; count += 1) {
      if (count > 0) await pause(250 * 2 ** (count - 1), signal);
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof BackboneError || signal?.aborted) throw error;
        last = error;
      }
    }
    throw new BackboneError(
      "DOWNLOAD_FAILED",
      url,
      `could not be downloaded in ${attempts} attempts: ${explain(last)}. What is there is kept; run again to go on, or give a local folder.`,
      { cause: last },
    );
  };

  return {
    async info(id: string, revision: string): Promise<ModelInfo> {
      const url = `${hub}/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
      const text = await withRetries(url, async () => {
        const response = await request(url, {});
        await checkStatus(response, url);
        return response.text();
      });
      return parseInfo(parseJson(text, url), url);
    },

    async download(url: string, path: string, file: string, sha256?: string): Promise<void> {
      if (await exists(path)) return;
      await mkdir(dirname(path), { recursive: true });
      const partial = `${path}.partial`;
      await withRetries(url, async () => {
        const have = await stat(partial).then(
          ({ size }) => size,
          () => 0,
        );
        const headers: Record<string, string> = { "accept-encoding": "identity" };
        if (have > 0) headers.range = `bytes=${have}-`;
        const response = await request(url, headers);
        // 416: the part on disk is already as long as the file, or belongs to another one.
        if (response.status === 416) {
          const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
          if (total !== undefined && Number(total) === have) return;
          await rm(partial, { force: true });
          throw new Error(`the ${have} bytes on disk do not belong to this file`);
        }
        await checkStatus(response, url);
        await receive(response, partial, have, (received, total) =>
          onProgress?.({ file, received, total }),
        );
      });
      await finish(partial, path, url, sha256);
    },
  };
}

async function receive(
  response: Response,
  partial: string,
  have: number,
  report: (received: number, total: number | undefined) => void,
): Promise<void> {
  // A server without ranges answers 200 with the whole file.
  const start = response.status === 206 ? have : 0;
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
  if (response.status === 206 && Number(range?.[1]) !== start) {
    await response.body?.cancel();
    throw new Error(`the server sent another range than from byte ${start}`);
  }
  // A length counts compressed bytes where the server compresses all the same.
  const length = response.headers.has("content-encoding")
    ? null
    : response.headers.get("content-length");
  const total = range ? Number(range[2]) : length === null ? undefined : start + Number(length);
  let file: FileHandle | undefined;
  let received = start;
  try {
    file = await open(partial, start > 0 ? "a" : "w");
    report(received, total);
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      await file.writeFile(chunk);
      received += chunk.byteLength;
      report(received, total);
    }
    await file.sync();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EACCES" || code === "EROFS" || code === "EDQUOT") {
      throw new BackboneError("WRITE_FAILED", partial, `could not be written: ${reason(cause)}.`, {
        cause,
      });
    }
    throw cause;
  } finally {
    await file?.close();
  }
  if (total !== undefined && received !== total) {
    if (received > total) await rm(partial, { force: true });
    throw new Error(`got ${received} bytes of ${total}`);
  }
}

async function finish(
  partial: string,
  path: string,
  url: string,
  sha256: string | undefined,
): Promise<void> {
  if (sha256 !== undefined) {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(partial)) hash.update(chunk as Uint8Array);
    const found = hash.digest("hex");
    if (found !== sha256) {
      await rm(partial, { force: true });
      throw new BackboneError(
        "DOWNLOAD_FAILED",
        url,
        `must have the checksum ${sha256}, got ${found}. The download was removed; run again.`,
      );
    }
  }
  await rename(partial, path);
}

/** Refusals are final; a busy or broken server may answer the next time. */
async function checkStatus(response: Response, url: string): Promise<void> {
  if (response.ok) return;
  await response.body?.cancel();
  const { status } = response;
  if (status >= 500 || status === 429 || status === 408) throw new Error(`status ${status}`);
  const advice =
    status === 401 || status === 403
      ? "The model may be private or not exist; check its name, or pass a token."
      : "Check the model's name and revision.";
  throw new BackboneError(
    "DOWNLOAD_FAILED",
    url,
    `must answer with the file, got status ${status}. ${advice}`,
  );
}

function parseInfo(json: unknown, url: string): ModelInfo {
  const { sha, siblings } = (json ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== "string" || !PART.test(sha) || !Array.isArray(siblings)) {
    throw new BackboneError(
      "DOWNLOAD_FAILED",
      url,
      "must answer with the commit and files of the model, got something else. Check hubUrl.",
    );
  }
  const files = new Set<string>();
  const sha256 = new Map<string, string>();
  for (const entry of siblings as { rfilename?: unknown; lfs?: { sha256?: unknown } | null }[]) {
    if (typeof entry?.rfilename !== "string") continue;
    files.add(entry.rfilename);
    const sum = entry.lfs?.sha256;
    if (typeof sum === "string") sha256.set(entry.rfilename, sum);
  }
  return { commit: sha, files, sha256 };
}

function explain(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause !== undefined ? cause.cause : undefined;
  return inner === undefined ? reason(cause) : `${reason(cause)} (${reason(inner)})`;
}

async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  const { setTimeout } = await import("node:timers/promises");
  await setTimeout(milliseconds, undefined, signal ? { signal } : {});
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
}
