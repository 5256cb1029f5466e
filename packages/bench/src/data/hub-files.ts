/**
 * @file Files of a data set on the Hugging Face hub, or a mirror with its URLs: listed, downloaded into a cache with
 * resumption, checked, and only then given their final name.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { BenchError } from "../errors.js";
import { writeFileWhole } from "../results.js";

export interface DownloadProgress {
  readonly file: string;
  /** Bytes there so far, those of an earlier attempt included. */
  readonly received: number;
  readonly total: number;
}

export interface HubFilesOptions {
  /** @default `$CEE_CACHE`, else `~/.cache/cee` */
  readonly cacheDir?: string | undefined;
  /** @default `$HF_ENDPOINT`, else "https://huggingface.co" */
  readonly hubUrl?: string | undefined;
  /** Branch, tag or commit. @default "main" */
  readonly revision?: string | undefined;
  /** Uses what was downloaded before and never the network. @default false */
  readonly offline?: boolean | undefined;
  /** Sent as a bearer token, to `hubUrl` only. */
  readonly token?: string | undefined;
  readonly fetch?: typeof fetch | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Attempts per file; each goes on where the one before broke off. @default 4 */
  readonly attempts?: number | undefined;
}

/** A file as the hub lists it. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** Changes with the content. */
  readonly oid: string;
  readonly sha256: string | undefined;
}

export interface HubFolder {
  readonly files: readonly HubFile[];
  /** Downloads a listed file unless it is there, and returns its place in the cache. */
  get(file: HubFile): Promise<string>;
}

const NAME = /^[\w-][\w.-]*$/;

/** Lists a folder of a data set. @throws BenchError `DOWNLOAD_FAILED`, `BAD_OPTION`, or `MISSING_FILE` when offline */
export async function openHubFolder(
  repo: string,
  folder: string,
  options: HubFilesOptions = {},
): Promise<HubFolder> {
  const { revision = "main", offline = false } = options;
  for (const part of [...repo.split("/"), ...revision.split("/"), folder]) {
    if (NAME.test(part) && !part.includes("..")) continue;
    const message = `expected a data set, revision and folder name, got ${JSON.stringify(part)}.`;
    throw new BenchError("BAD_OPTION", "hub", message);
  }
  const hub = (options.hubUrl ?? process.env.HF_ENDPOINT ?? "https://huggingface.co").replace(
    /\/+$/,
    "",
  );
  const cache =
    options.cacheDir ?? process.env.CEE_CACHE ?? path.join(os.homedir(), ".cache", "cee");
  const place = path.join(
    cache,
    "datasets",
    ...repo.split("/"),
    encodeURIComponent(revision),
    folder,
  );
  const listing = path.join(place, "files.json");
  const request = createRequest(options);
  const at = encodeURIComponent(revision);

  let text: string;
  const url = `${hub}/api/datasets/${repo}/tree/${at}/${folder}`;
  if (offline) {
    try {
      text = await readFile(listing, "utf8");
    } catch (cause) {
      const message = `${repo} at ${revision} has not been downloaded. Run once without offline.`;
      throw new BenchError("MISSING_FILE", listing, message, { cause });
    }
  } else {
    text = await withAttempts(url, options, async () => {
      const response = await request(url, {});
      await checkStatus(response, url);
      return response.text();
    });
  }
  const files = parseListing(text, offline ? listing : url);
  if (!offline) await writeFileWhole(listing, text);

  return {
    files,
    async get(file) {
      const name = path.posix.basename(file.path);
      // The content's name is part of the file's, so that a moved branch can't be mistaken for the old one.
      const final = path.join(place, `${file.oid.slice(0, 16)}-${name}`);
      if (await hasSize(final, file.size)) return final;
      if (offline) {
        const message = `${file.path} has not been downloaded. Run once without offline.`;
        throw new BenchError("MISSING_FILE", final, message);
      }
      await mkdir(place, { recursive: true });
      const source = `${hub}/datasets/${repo}/resolve/${at}/${file.path}`;
      const partial = `${final}.partial`;
      await withAttempts(source, options, () => receive(request, source, partial, file, options));
      await checkSum(partial, file, source);
      await rename(partial, final);
      return final;
    },
  };
}

type Request = (url: string, headers: Record<string, string>) => Promise<Response>;

function createRequest(options: HubFilesOptions): Request {
  const { token } = options;
  return (url, headers) => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    return (options.fetch ?? fetch)(url, { headers: { ...headers, ...authorization } });
  };
}

/** Refusals are final and thrown as they are; anything else is tried again. */
async function withAttempts<T>(
  url: string,
  { attempts = 4 }: HubFilesOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  let last: unknown;
  for (let count = 0; count < attempts; count++) {
    if (count > 0) await setTimeout(250 * 2 ** (count - 1));
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof BenchError) throw error;
      last = error;
    }
  }
  const { message: reason, cause } = last as Error;
  const inner = cause instanceof Error ? ` (${cause.message})` : "";
  throw new BenchError(
    "DOWNLOAD_FAILED",
    url,
    `could not be downloaded in ${attempts} attempts: ${reason}${inner}. What is there is kept: run again to go on, or use --data <folder>.`,
    { cause: last },
  );
}

async function checkStatus(response: Response, url: string): Promise<void> {
  if (response.ok) return;
  await response.body?.cancel();
  const { status } = response;
  if (status >= 500 || status === 429 || status === 408) throw new Error(`status ${status}`);
  const message = `expected the file, got status ${status}. Check the data set, its revision and the hub's address.`;
  throw new BenchError("DOWNLOAD_FAILED", url, message);
}

/** Fetches what is missing of a file. */
async function receive(
  request: Request,
  url: string,
  partial: string,
  { path: name, size }: HubFile,
  { onProgress }: HubFilesOptions,
): Promise<void> {
  let have = await sizeOf(partial);
  if (have > size) {
    await rm(partial, { force: true });
    have = 0;
  }
  if (have === size && have > 0) return;
  const headers: Record<string, string> = { "accept-encoding": "identity" };
  if (have > 0) headers.range = `bytes=${have}-`;
  const response = await request(url, headers);
  if (response.status === 416) {
    await rm(partial, { force: true });
    throw new Error(`the ${have} bytes on disk do not belong to this file`);
  }
  await checkStatus(response, url);
  // A server without ranges answers 200 with the whole file.
  const start = response.status === 206 ? have : 0;
  const range = /^bytes (\d+)-\d+\//.exec(response.headers.get("content-range") ?? "");
  if (response.status === 206 && Number(range?.[1]) !== start) {
    await response.body?.cancel();
    throw new Error(`the server sent another range than from byte ${start}`);
  }
  let received = start;
  let handle: FileHandle | undefined;
  try {
    handle = await open(partial, start > 0 ? "a" : "w");
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      received += chunk.byteLength;
      if (received > size) break;
      await handle.writeFile(chunk);
      onProgress?.({ file: name, received, total: size });
    }
    await handle.sync();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EACCES" || code === "EROFS" || code === "EDQUOT") {
      const message = `can't be written: ${(cause as Error).message}. Free some space or set CEE_CACHE.`;
      throw new BenchError("WRITE_FAILED", partial, message, { cause });
    }
    throw cause;
  } finally {
    await handle?.close();
  }
  if (received > size) {
    await rm(partial, { force: true });
    throw new Error(`the server sent more than the ${size} bytes that it listed`);
  }
  if (received < size) throw new Error(`got ${received} bytes of ${size}`);
}

async function checkSum(file: string, { sha256 }: HubFile, url: string): Promise<void> {
  if (sha256 === undefined) return;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  const found = hash.digest("hex");
  if (found === sha256) return;
  await rm(file, { force: true });
  const message = `expected the checksum ${sha256}, got ${found}. The download was removed: run again.`;
  throw new BenchError("DOWNLOAD_FAILED", url, message);
}

function parseListing(text: string, who: string): HubFile[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (!Array.isArray(json)) {
    const message = `expected a JSON list of files, got "${text.slice(0, 60)}". Check the hub's address.`;
    throw new BenchError("DOWNLOAD_FAILED", who, message);
  }
  const files: HubFile[] = [];
  for (const entry of json as Record<string, unknown>[]) {
    if (entry?.type !== "file" || typeof entry.path !== "string") continue;
    const lfs = (entry.lfs ?? {}) as { oid?: unknown; size?: unknown };
    const { size } = entry;
    const oid = lfs.oid ?? entry.oid;
    if (!Number.isSafeInteger(size) || (size as number) < 0 || !isHex(oid)) {
      const message = `${entry.path}: expected a size and an object id, got ${JSON.stringify([size, oid])}.`;
      throw new BenchError("DOWNLOAD_FAILED", who, message);
    }
    const sha256 = isHex(lfs.oid) && lfs.oid.length === 64 ? lfs.oid : undefined;
    files.push({ path: entry.path, size: size as number, oid, sha256 });
  }
  return files;
}

function isHex(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{16,64}$/.test(value);
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

async function hasSize(file: string, size: number): Promise<boolean> {
  return stat(file).then(
    (entry) => entry.isFile() && entry.size === size,
    () => false,
  );
}
