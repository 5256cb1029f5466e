/** @file Downloads from a server on this machine that speaks the hub's URLs. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { loadExitEncoder, saveExitEncoder } from "../src/encoder-folder.js";
import { BackboneError } from "../src/errors.js";
import { resolveModel } from "../src/hub.js";
import { writeSafetensors } from "../src/safetensors.js";
import { tinyBert } from "../src/testing.js";
import { createWordPieceTokenizer } from "../src/tokenizer.js";
import { openWeights, toHuggingFaceName } from "../src/weights.js";
import { createWordVocabulary } from "../src/word-piece.js";
import { scratchFolder } from "./helpers/scratch.js";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

interface Hub {
  readonly url: string;
  /** `GET path` with its range, in order. */
  readonly log: string[];
  files: Map<string, Buffer>;
  /** Called before the default answer; true means it has answered. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
}

async function startHub(files: Map<string, Buffer>): Promise<Hub> {
  const log: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? "").split("?")[0] as string);
    const { range } = request.headers;
    log.push(range ? `${path} ${range}` : path);
    if (hub.intercept(request, response)) return;
    if (path.startsWith("/api/models/org/tiny/revision/")) {
      const siblings = [...hub.files].map(([rfilename, content]) => ({
        rfilename,
        size: content.length,
        ...(rfilename.endsWith(".safetensors") ? { lfs: { sha256: sha256(content) } } : {}),
      }));
      response.end(JSON.stringify({ id: "org/tiny", sha: COMMIT, siblings }));
      return;
    }
    const content = hub.files.get(path.replace(`/org/tiny/resolve/${COMMIT}/`, ""));
    if (!content) {
      response.writeHead(404).end("not here");
      return;
    }
    const start = range ? Number(/^bytes=(\d+)-$/.exec(range)?.[1]) : 0;
    if (start >= content.length && range) {
      response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
      return;
    }
    const part = content.subarray(start);
    response.writeHead(range ? 206 : 200, {
      "content-length": part.length,
      ...(range
        ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` }
        : {}),
    });
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const hub: Hub = { url: `http://127.0.0.1:${port}`, log, files, intercept: () => false };
  return hub;
}

const sha256 = (content: Buffer) => createHash("sha256").update(content).digest("hex");

async function tinyFiles(): Promise<Map<string, Buffer>> {
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(["a small model"], 100));
  const folder = scratchFolder();
  await saveExitEncoder(tinyBert({ tokenizer }), folder);
  const names = await readdir(folder);
  return new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
}

async function errorOf(promise: Promise<unknown>): Promise<BackboneError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof BackboneError) return error;
  throw new Error("expected a BackboneError", { cause: error });
}

describe("models from the hub", () => {
  it("returns a folder as it is, without any request", async () => {
    const folder = scratchFolder();
    const refuse: typeof fetch = () => Promise.reject(new Error("no network"));
    expect(await resolveModel(folder, { fetch: refuse })).toBe(folder);
  });

  it("downloads a model once, and then loads it offline", async () => {
    const hub = await startHub(await tinyFiles());
    const cacheDir = scratchFolder();
    const progress: string[] = [];
    const folder = await resolveModel("org/tiny", {
      cacheDir,
      hubUrl: `${hub.url}/`,
      onProgress: ({ file, received, total }) => progress.push(`${file} ${received}/${total}`),
    });
    const size = hub.files.get("model.safetensors")?.length;
    expect(progress).toContain(`model.safetensors ${size}/${size}`);
    const model = await loadExitEncoder(folder);
    expect(model.shape.depth).toBe(3);
    expect(model.tokenizer?.encode("a small model").ids.length).toBe(5);

    const count = hub.log.length;
    expect(await resolveModel("org/tiny", { cacheDir, hubUrl: hub.url })).toBe(folder);
    expect(hub.log.slice(count)).toEqual(["/api/models/org/tiny/revision/main"]);
    const offline = { cacheDir, hubUrl: "http://127.0.0.1:1", offline: true };
    expect(await resolveModel("org/tiny", offline)).toBe(folder);
    expect(await resolveModel("org/tiny", { ...offline, revision: COMMIT })).toBe(folder);
    expect((await errorOf(resolveModel("org/tiny", { ...offline, revision: "v2" }))).code).toBe(
      "OFFLINE",
    );
  });

  it("goes on where a broken connection stopped", async () => {
    const hub = await startHub(await tinyFiles());
    const whole = hub.files.get("model.safetensors") as Buffer;
    let breaks = 2;
    hub.intercept = (request, response) => {
      if (!request.url?.endsWith("/model.safetensors") || breaks === 0) return false;
      breaks -= 1;
      const start = Number(/(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(start > 0 ? 206 : 200, {
        "content-length": whole.length - start,
        ...(start > 0
          ? { "content-range": `bytes ${start}-${whole.length - 1}/${whole.length}` }
          : {}),
      });
      response.write(whole.subarray(start, start + 100), () =>
        setTimeout(() => response.destroy(), 50),
      );
      return true;
    };
    const folder = await resolveModel("org/tiny", { cacheDir: scratchFolder(), hubUrl: hub.url });
    expect(readFileSync(join(folder, "model.safetensors")).equals(whole)).toBe(true);
    const requests = hub.log.filter((line) => line.includes("/model.safetensors"));
    expect(requests.map((line) => line.split(" ")[1])).toEqual([
      undefined,
      "bytes=100-",
      "bytes=200-",
    ]);
  });

  it("goes on in a later run, also when only the last rename was missing", async () => {
    const hub = await startHub(await tinyFiles());
    const cacheDir = scratchFolder();
    const folder = join(cacheDir, "models", "org", "tiny", COMMIT);
    mkdirSync(folder, { recursive: true });
    const whole = hub.files.get("model.safetensors") as Buffer;
    writeFileSync(join(folder, "model.safetensors.partial"), whole.subarray(0, 77));
    const config = hub.files.get("config.json") as Buffer;
    writeFileSync(join(folder, "config.json.partial"), config);
    expect(await resolveModel("org/tiny", { cacheDir, hubUrl: hub.url })).toBe(folder);
    expect(readFileSync(join(folder, "model.safetensors")).equals(whole)).toBe(true);
    expect(readFileSync(join(folder, "config.json")).equals(config)).toBe(true);
    expect(hub.log).toContain(`/org/tiny/resolve/${COMMIT}/model.safetensors bytes=77-`);
  });

  it("starts again where the server knows no ranges", async () => {
    const hub = await startHub(await tinyFiles());
    const cacheDir = scratchFolder();
    const folder = join(cacheDir, "models", "org", "tiny", COMMIT);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "model.safetensors.partial"), "old bytes");
    const whole = hub.files.get("model.safetensors") as Buffer;
    hub.intercept = (request, response) => {
      if (!request.url?.endsWith("/model.safetensors")) return false;
      response.end(whole);
      return true;
    };
    await resolveModel("org/tiny", { cacheDir, hubUrl: hub.url });
    expect(readFileSync(join(folder, "model.safetensors")).equals(whole)).toBe(true);
  });

  it("removes a download with another checksum and leaves nothing under its name", async () => {
    const hub = await startHub(await tinyFiles());
    const cacheDir = scratchFolder();
    const whole = hub.files.get("model.safetensors") as Buffer;
    hub.intercept = (request, response) => {
      if (!request.url?.endsWith("/model.safetensors")) return false;
      const bad = Buffer.from(whole);
      bad[bad.length - 1] = (bad[bad.length - 1] as number) ^ 1;
      response.end(bad);
      return true;
    };
    const error = await errorOf(resolveModel("org/tiny", { cacheDir, hubUrl: hub.url }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain("checksum");
    const names = await readdir(join(cacheDir, "models", "org", "tiny", COMMIT));
    expect(names.filter((name) => name.startsWith("model.safetensors"))).toEqual([]);
    expect(names).not.toContain(".complete");
  });

  it("downloads the shards that an index lists", async () => {
    const files = await tinyFiles();
    const folder = scratchFolder();
    const entries = Object.entries(tinyBert({ vocabSize: 100 }).params)
      .filter(([path]) => path.startsWith("backbone."))
      .map(([path, tensor]) => [toHuggingFaceName(path), tensor] as const);
    const map: Record<string, string> = {};
    [entries.slice(0, 20), entries.slice(20)].forEach((part, index) => {
      const name = `model-0000${index + 1}-of-00002.safetensors`;
      writeSafetensors(join(folder, name), Object.fromEntries(part));
      files.set(name, readFileSync(join(folder, name)));
      for (const [tensor] of part) map[tensor] = name;
    });
    files.delete("model.safetensors");
    files.set("model.safetensors.index.json", Buffer.from(JSON.stringify({ weight_map: map })));
    const hub = await startHub(files);
    const local = await resolveModel("org/tiny", { cacheDir: scratchFolder(), hubUrl: hub.url });
    const source = await openWeights(local);
    expect(source.files.size).toBe(entries.length);
    source.close();
  });

  it.each([
    ["a model that does not exist", "org/none", "DOWNLOAD_FAILED", "status 404"],
    ["a path that climbs", "../nope", "BAD_OPTION", "no model name"],
    ["three parts", "a/b/c", "BAD_OPTION", "no model name"],
  ])("refuses %s", async (_, id, code, text) => {
    const hub = await startHub(await tinyFiles());
    const error = await errorOf(
      resolveModel(id, { cacheDir: scratchFolder(), hubUrl: hub.url, attempts: 1 }),
    );
    expect(error).toMatchObject({ code, who: id });
    expect(error.message).toContain(`[${id}] there is no such folder, and `);
    expect(error.message).toContain(text);
  });

  it("says which file a model lacks", async () => {
    const files = await tinyFiles();
    files.delete("model.safetensors");
    files.set("pytorch_model.bin", Buffer.from("pickle"));
    const hub = await startHub(files);
    const error = await errorOf(
      resolveModel("org/tiny", { cacheDir: scratchFolder(), hubUrl: hub.url }),
    );
    expect(error.code).toBe("MISSING_FILE");
    expect(error.message).toContain("model.safetensors");
  });

  it("asks again when the server is busy, and reports one that stays away", async () => {
    const hub = await startHub(await tinyFiles());
    let busy = 1;
    hub.intercept = (_, response) => {
      if (busy === 0) return false;
      busy -= 1;
      response.writeHead(503).end();
      return true;
    };
    const options = { cacheDir: scratchFolder(), hubUrl: hub.url, attempts: 2 };
    await resolveModel("org/tiny", options);
    busy = 2;
    const error = await errorOf(resolveModel("org/tiny", options));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain("503");
  });
});
