/** @file A run whose data and backbone both come from a hub: a loopback server that speaks its URLs. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import {
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  saveExitEncoder,
} from "@cee/backbone";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterEach, expect, it, onTestFinished, vi } from "vitest";
import { bench } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

afterEach(() => void vi.unstubAllEnvs());

const MODEL = "tests/tiny-bert";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

function rte(rows: number): Uint8Array {
  const numbers = Array.from({ length: rows }, (_, row) => row);
  const buffer = parquetWriteBuffer({
    columnData: [
      { name: "sentence1", data: numbers.map((row) => `a film number ${row}`), type: "STRING" },
      {
        name: "sentence2",
        data: numbers.map((row) => (row % 2 ? "dull" : "lovely")),
        type: "STRING",
      },
      { name: "label", data: numbers.map((row) => BigInt(row % 2)), type: "INT64" },
      { name: "idx", data: numbers, type: "INT32" },
    ],
  });
  return new Uint8Array(buffer);
}

async function modelFiles(): Promise<Record<string, Uint8Array>> {
  const folder = await temporaryFolder();
  const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "dull", "lovely"];
  const encoder = createExitEncoder({
    config: createBertConfig({ vocabSize: 16, hidden: 16, depth: 2, heads: 2, maxPositions: 16 }),
    classes: 2,
    seed: 1,
    tokenizer: createWordPieceTokenizer(words, { lowercase: true }),
  });
  await saveExitEncoder(encoder, folder);
  const names = await readdir(folder);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(path.join(folder, name))])),
  );
}

async function serve(data: Record<string, Uint8Array>, model: Record<string, Uint8Array>) {
  const requests: string[] = [];
  const sum = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const server = createServer((request, response) => {
    const url = decodeURIComponent(request.url ?? "");
    requests.push(url);
    const json = (value: unknown) =>
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
    if (url === "/api/datasets/nyu-mll/glue/tree/main/rte")
      return json(
        Object.entries(data).map(([name, bytes]) => ({
          type: "file",
          path: name,
          size: bytes.length,
          oid: sum(bytes).slice(0, 40),
          lfs: { oid: sum(bytes), size: bytes.length },
        })),
      );
    if (url.startsWith(`/api/models/${MODEL}/revision/main`))
      return json({
        sha: COMMIT,
        siblings: Object.keys(model).map((rfilename) => ({ rfilename })),
      });
    const bytes =
      data[url.replace("/datasets/nyu-mll/glue/resolve/main/", "")] ??
      model[url.replace(`/${MODEL}/resolve/${COMMIT}/`, "")];
    if (!bytes) return response.writeHead(404).end();
    return response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

it("downloads data and backbone once, and runs", async () => {
  vi.stubEnv("CEE_CACHE", await temporaryFolder());
  const data = {
    "rte/train-00000-of-00001.parquet": rte(24),
    "rte/validation-00000-of-00001.parquet": rte(12),
  };
  const { url, requests } = await serve(data, await modelFiles());
  const out = path.join(await temporaryFolder(), "run");
  const words = [
    "--data=hub",
    "--tasks=rte",
    "--methods=entropy",
    `--hub-url=${url}`,
    `--backbone=${MODEL}`,
    `--out=${out}`,
  ];
  const { results } = await bench(words);
  expect(results).toMatchObject({
    backbone: MODEL,
    data: { source: "hub", tasks: { rte: { train: 24, dev: 12, malformed: 0 } } },
  });
  expect(results.rows.some(({ method }) => method === "entropy")).toBe(true);
  expect(requests.some((request) => request.endsWith("model.safetensors"))).toBe(true);

  const before = requests.length;
  await bench(words);
  const again = requests.slice(before);
  expect(again.filter((request) => request.includes("/resolve/"))).toEqual([]);
});

it("lists every training of the paper's preset with its cost, and the same command runs them", async () => {
  vi.stubEnv("CEE_CACHE", await temporaryFolder());
  const data = {
    "rte/train-00000-of-00001.parquet": rte(24),
    "rte/validation-00000-of-00001.parquet": rte(12),
  };
  const { url } = await serve(data, await modelFiles());
  const out = path.join(await temporaryFolder(), "run");
  const words = [
    "--preset=paper",
    "--data=hub",
    "--tasks=rte",
    "--methods=full,entropy,consistentee",
    `--hub-url=${url}`,
    `--backbone=${MODEL}`,
    `--out=${out}`,
  ];
  const { table } = await bench([...words, "--dry-run"]);
  const listed = table.split("\n").filter((line) => line.startsWith("| rte |"));
  // Full depth's own, the shared one, and one per price of a layer.
  expect(listed).toHaveLength(1 + 1 + 12);
  expect(listed[0]).toMatch(/\| full depth .* \| full \| \d+ \| .* \|/);
  for (const line of listed) expect(line).toMatch(/\| \d+ \| \d+ (s|min).* \|$/);
  expect(table).toContain("Nothing was written.");
  expect(existsSync(out)).toBe(false);

  const { results, failures } = await bench(words);
  expect(failures).toEqual([]);
  expect(results.preset).toBe("paper");
  expect(await readdir(path.join(out, "trainings"))).toHaveLength(listed.length);
  const alphas = results.rows.filter(
    ({ method, operatingPoint }) => method === "consistentee" && operatingPoint === "curve",
  );
  expect(alphas).toHaveLength(12);
}, 180_000);

it("says what could not be downloaded, with nothing left behind", async () => {
  vi.stubEnv("CEE_CACHE", await temporaryFolder());
  const { url } = await serve({}, {});
  const folder = await temporaryFolder();
  const run = (...words: string[]) =>
    bench(["--data=hub", `--hub-url=${url}`, `--out=${path.join(folder, "run")}`, ...words]);
  await expect(run("--tasks=rte")).rejects.toThrow("rte/train-00000-of-0000N.parquet");
  const model = bench([
    "--tasks=sentiment",
    "--backbone=tests/nothing",
    `--hub-url=${url}`,
    `--out=${path.join(folder, "run")}`,
  ]);
  await expect(model).rejects.toMatchObject({ code: "DOWNLOAD_FAILED", who: "tests/nothing" });
  const mistyped = [
    "--tasks=sentiment",
    "--backbone=mni",
    `--hub-url=${url}`,
    `--out=${folder}/run`,
  ];
  await expect(bench(mistyped)).rejects.toThrow('Did you mean "mini"?');
  expect(await readdir(folder)).toEqual([]);
});
