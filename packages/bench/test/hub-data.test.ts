/** @file GLUE from the hub: a loopback server that speaks the hub's URLs, with real parquet files. */
import { createHash } from "node:crypto";
import { readdir, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, it, onTestFinished } from "vitest";
import { loadHubTask } from "../src/data/hub.js";
import { temporaryFolder } from "./helpers.js";

type Columns = Record<string, (string | number | bigint)[]>;

function parquet(columns: Columns, label: "INT64" | "FLOAT" = "INT64"): Uint8Array {
  const typeOf = (name: string) =>
    name === "label" ? label : name === "idx" ? ("INT32" as const) : ("STRING" as const);
  const buffer = parquetWriteBuffer({
    columnData: Object.entries(columns).map(([name, data]) => ({ name, data, type: typeOf(name) })),
  });
  return new Uint8Array(buffer);
}

const pairs = (n: number, text = "sentence1", pair = "sentence2"): Columns => ({
  [text]: Array.from({ length: n }, (_, at) => `Text ${at} “quoted”.`),
  [pair]: Array.from({ length: n }, (_, at) => `Pair ${at}.`),
  label: Array.from({ length: n }, (_, at) => BigInt(at % 2)),
  idx: Array.from({ length: n }, (_, at) => at + 100),
});

interface Request {
  readonly url: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** Serves files by their path in the data set; `cut` ends the first answers after so many bytes. */
async function serveHub(
  files: Record<string, Uint8Array>,
  { cut = [] as number[], ranges = true, wrongSum = false, status = 200 } = {},
) {
  const requests: Request[] = [];
  const cuts = [...cut];
  const sum = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const server = createServer((request, response) => {
    const url = decodeURIComponent(request.url ?? "");
    const { range, authorization } = request.headers;
    requests.push({ url, range, authorization });
    if (status !== 200) {
      response.writeHead(status).end();
      return;
    }
    const tree = /^\/api\/datasets\/nyu-mll\/glue\/tree\/main\/([\w-]+)$/.exec(url);
    if (tree) {
      const listed = Object.entries(files)
        .filter(([name]) => name.startsWith(`${tree[1]}/`))
        .map(([name, bytes]) => ({
          type: "file",
          path: name,
          size: bytes.length,
          oid: sum(bytes).slice(0, 40),
          lfs: { oid: wrongSum ? "0".repeat(64) : sum(bytes), size: bytes.length },
        }));
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(listed));
      return;
    }
    const file = /^\/datasets\/nyu-mll\/glue\/resolve\/main\/(.+)$/.exec(url);
    const bytes = file ? files[file[1]!] : undefined;
    if (!bytes) {
      response.writeHead(404).end();
      return;
    }
    const start = ranges && range ? Number(/^bytes=(\d+)-$/.exec(range)![1]) : 0;
    const body = bytes.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": body.length,
      ...(start > 0
        ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` }
        : {}),
    });
    const most = cuts.shift();
    if (most === undefined) response.end(body);
    // The client drops what it has not read when the connection breaks, so it gets a moment.
    else response.write(body.subarray(0, most), () => setTimeout(() => response.destroy(), 100));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { hubUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, requests };
}

const rteFiles = (n = 5) => ({
  "rte/train-00000-of-00001.parquet": parquet(pairs(n)),
  "rte/validation-00000-of-00001.parquet": parquet(pairs(3)),
});

describe("tasks from the hub", () => {
  it("loads a pair task, then works from the cache without the network", async () => {
    const { hubUrl, requests } = await serveHub(rteFiles());
    const cacheDir = await temporaryFolder();
    const loaded = await loadHubTask("RTE", { hubUrl, cacheDir, token: "t" });
    expect(loaded.splits.train).toHaveLength(5);
    expect(loaded.splits.dev[1]).toEqual({
      id: "dev:101#2",
      text: "Text 1 “quoted”.",
      pair: "Pair 1.",
      label: 1,
    });
    expect(requests.map(({ url }) => url)).toEqual([
      "/api/datasets/nyu-mll/glue/tree/main/rte",
      "/datasets/nyu-mll/glue/resolve/main/rte/train-00000-of-00001.parquet",
      "/datasets/nyu-mll/glue/resolve/main/rte/validation-00000-of-00001.parquet",
    ]);
    expect(requests.every(({ authorization }) => authorization === "Bearer t")).toBe(true);

    const unreachable = () => Promise.reject(new Error("the network was used"));
    const again = await loadHubTask("rte", { cacheDir, offline: true, fetch: unreachable });
    expect(again).toEqual(loaded);
    await loadHubTask("rte", { hubUrl, cacheDir });
    expect(requests).toHaveLength(4);
  });

  it("loads single sentences, three classes with a mismatched set, and a regression", async () => {
    const single: Columns = { sentence: ["good", "bad"], label: [1n, 0n], idx: [0, 1] };
    const mnli: Columns = { ...pairs(3, "premise", "hypothesis"), label: [0n, 2n, -1n] };
    const scores: Columns = { ...pairs(2), label: [4.5, 0] };
    const { hubUrl } = await serveHub({
      "sst2/train-00000-of-00001.parquet": parquet(single),
      "sst2/validation-00000-of-00001.parquet": parquet(single),
      "mnli/train-00000-of-00002.parquet": parquet(mnli),
      "mnli/train-00001-of-00002.parquet": parquet(mnli),
      "mnli/validation_matched-00000-of-00001.parquet": parquet(mnli),
      "mnli/validation_mismatched-00000-of-00001.parquet": parquet(mnli),
      "stsb/train-00000-of-00001.parquet": parquet(scores, "FLOAT"),
      "stsb/validation-00000-of-00001.parquet": parquet(scores, "FLOAT"),
    });
    const cacheDir = await temporaryFolder();
    const sst = await loadHubTask("sst-2", { hubUrl, cacheDir });
    expect(sst.splits.dev).toEqual([
      { id: "dev:0#1", text: "good", label: 1 },
      { id: "dev:1#2", text: "bad", label: 0 },
    ]);
    const nli = await loadHubTask("mnli", { hubUrl, cacheDir });
    expect(nli.splits.train.map(({ label }) => label)).toEqual([0, 2, 0, 2]);
    expect(nli.splits.devMismatched).toHaveLength(2);
    expect(nli.problems[0]).toMatchObject({
      count: 1,
      examples: [{ line: 3, problem: "no label" }],
    });
    const sts = await loadHubTask("sts-b", { hubUrl, cacheDir });
    expect(sts.splits.dev.map(({ label }) => label)).toEqual([4.5, 0]);
  });

  it("applies row limits", async () => {
    const { hubUrl } = await serveHub(rteFiles(40));
    const cacheDir = await temporaryFolder();
    const { splits } = await loadHubTask("rte", { hubUrl, cacheDir, limit: { train: 7 }, seed: 2 });
    expect(splits.train).toHaveLength(7);
  });
});

describe("downloads that break off", () => {
  it("go on where they stopped, within a run and in the next one", async () => {
    const files = rteFiles(400);
    const { hubUrl, requests } = await serveHub(files, { cut: [700, 900] });
    const cacheDir = await temporaryFolder();
    // The first run gives up after one attempt, leaving a partial file and no other.
    await expect(loadHubTask("rte", { hubUrl, cacheDir, attempts: 1 })).rejects.toMatchObject({
      code: "DOWNLOAD_FAILED",
      message: expect.stringContaining("rte/train-00000-of-00001.parquet"),
    });
    const folder = path.join(cacheDir, "datasets", "nyu-mll", "glue", "main", "rte");
    const left = (await readdir(folder)).filter((name) => name !== "files.json");
    expect(left).toHaveLength(1);
    expect(left[0]).toMatch(/-train-00000-of-00001\.parquet\.partial$/);
    const have = (await stat(path.join(folder, left[0]!))).size;
    expect(have).toBeGreaterThan(0);

    const { splits } = await loadHubTask("rte", { hubUrl, cacheDir });
    expect(splits.train).toHaveLength(400);
    const ranges = requests.map(({ range }) => range).filter((range) => range !== undefined);
    expect(ranges[0]).toBe(`bytes=${have}-`);
    expect(ranges).toHaveLength(2);
    expect((await readdir(folder)).some((name) => name.endsWith(".partial"))).toBe(false);
  });

  it("start over where the server knows no ranges", async () => {
    const { hubUrl } = await serveHub(rteFiles(400), { cut: [700], ranges: false });
    const { splits } = await loadHubTask("rte", { hubUrl, cacheDir: await temporaryFolder() });
    expect(splits.train).toHaveLength(400);
  });
});

describe("errors", () => {
  it("for a wrong checksum: the download is removed", async () => {
    const { hubUrl } = await serveHub(rteFiles(), { wrongSum: true });
    const cacheDir = await temporaryFolder();
    await expect(loadHubTask("rte", { hubUrl, cacheDir })).rejects.toThrow(
      /expected the checksum 0000/,
    );
    const folder = path.join(cacheDir, "datasets", "nyu-mll", "glue", "main", "rte");
    expect(await readdir(folder)).toEqual(["files.json"]);
  });

  it("for a refusal at once, for a broken server after all attempts", async () => {
    const refusing = await serveHub({}, { status: 404 });
    const cacheDir = await temporaryFolder();
    await expect(loadHubTask("rte", { hubUrl: refusing.hubUrl, cacheDir })).rejects.toThrow(
      /got status 404/,
    );
    expect(refusing.requests).toHaveLength(1);
    const broken = await serveHub({}, { status: 503 });
    await expect(
      loadHubTask("rte", { hubUrl: broken.hubUrl, cacheDir, attempts: 2 }),
    ).rejects.toThrow(/in 2 attempts: status 503/);
    expect(broken.requests).toHaveLength(2);
  });

  it("for missing splits and shards, wrong columns, wrong labels and files that aren't parquet", async () => {
    const good = rteFiles();
    const train = "rte/train-00000-of-00001.parquet";
    const cases: [Record<string, Uint8Array>, RegExp][] = [
      [
        { [train]: good[train] },
        /expected rte\/validation-00000-of-0000N\.parquet, complete, found rte\/train/,
      ],
      [{ "rte/train-00001-of-00002.parquet": good[train] }, /expected rte\/train/],
      [
        { ...good, [train]: parquet({ text: ["a"], label: [0n] }) },
        /expected a column sentence1, found text, label/,
      ],
      [
        { ...good, [train]: parquet({ ...pairs(2), label: [0n, 5n] }) },
        /row 2, column label: expected a class from 0 to 1, found 5/,
      ],
      [
        { ...good, [train]: new TextEncoder().encode("not parquet at all") },
        /expected a parquet file/,
      ],
    ];
    for (const [files, message] of cases) {
      const { hubUrl } = await serveHub(files);
      const cacheDir = await temporaryFolder();
      await expect(loadHubTask("rte", { hubUrl, cacheDir })).rejects.toThrow(message);
    }
  });

  it("for a cached file that was damaged: another size is fetched again", async () => {
    const { hubUrl, requests } = await serveHub(rteFiles());
    const cacheDir = await temporaryFolder();
    await loadHubTask("rte", { hubUrl, cacheDir });
    const folder = path.join(cacheDir, "datasets", "nyu-mll", "glue", "main", "rte");
    const train = (await readdir(folder)).find((name) => name.includes("train"))!;
    await writeFile(path.join(folder, train), "short");
    await loadHubTask("rte", { hubUrl, cacheDir });
    expect(
      requests.filter(({ url }) => url.endsWith("rte/train-00000-of-00001.parquet")),
    ).toHaveLength(2);
  });

  it("for offline without a cache, and names that leave the cache", async () => {
    const cacheDir = await temporaryFolder();
    await expect(loadHubTask("rte", { cacheDir, offline: true })).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
    await expect(loadHubTask("rte", { cacheDir, revision: ".." })).rejects.toMatchObject({
      code: "BAD_OPTION",
    });
  });
});
