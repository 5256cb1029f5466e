/** @file The examples run: one trains a model on the table that comes with them, and the others use what it saved. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { needs, pathOf } from "./needs.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const example = (...path: string[]) => join(root, "examples", ...path);

/** Where the examples find their model as ./model. */
let folder = "";
let trained = "";
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "cee-examples-"));
  const { code, stdout, stderr } = await start(example("train", "main.ts"), [
    example("reviews.csv"),
    join(folder, "model"),
  ]).done;
  expect(code, stderr).toBe(0);
  expect(stderr).toBe("");
  trained = stdout;
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Started {
  readonly child: ChildProcess;
  readonly printed: () => string;
  readonly done: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** Runs a program of an example from its source, in the folder with the model. */
function start(file: string, words: readonly string[] = [], cwd = folder): Started {
  const args = ["--conditions=@cee/source", "--import", import.meta.resolve("tsx"), file, ...words];
  const { CEE_DEBUG: _, ...env } = process.env;
  const child = spawn(process.execPath, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const done = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
    child.on("close", (code) => resolve({ code, stdout, stderr })),
  );
  return { child, printed: () => stdout, done };
}

const answer = /^(good|bad) \([01]\.\d\d\) at layer (\d+) of 12/;

it("train: learns from a table, keeps a guarantee, saves, loads and answers", () => {
  const [note, first, second] = trained.trim().split("\n") as [string, string, string];
  expect(note).toMatch(/^threshold .*confidence 0\.9, from 55 held-out rows\.$/);
  expect(first).toMatch(/^good /);
  expect(second).toMatch(/^bad /);
  for (const line of [first, second]) expect(Number(answer.exec(line)?.[2])).toBeLessThan(12);
});

describe("classify", () => {
  it("shows the six lines of the README", () => {
    const shown = [
      ...readFileSync(join(root, "README.md"), "utf8").matchAll(/```ts\n([\s\S]*?)```/g),
    ].flatMap(([, code]) => (code?.includes("fromPretrained(") ? [code] : []));
    expect(shown).toHaveLength(1);
    const [comment, ...lines] = readFileSync(example("classify", "main.ts"), "utf8").split("\n");
    expect(comment).toContain("@file");
    expect(lines.join("\n")).toBe(shown[0]);
  });

  it("exits early", async () => {
    const { code, stdout, stderr } = await start(example("classify", "main.ts")).done;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [, label, layer] = answer.exec(stdout.trim()) ?? [];
    expect(label).toBe("good");
    expect(Number(layer)).toBeLessThan(12);
  });
});

describe("plugin", { timeout: 180_000 }, () => {
  it("decides for a trained model", async () => {
    const { code, stdout, stderr } = await start(example("plugin", "main.ts")).done;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const layers = [...stdout.matchAll(/^good at layer (\d+) of 12: /gm)].map(([, layer]) =>
      Number(layer),
    );
    expect(layers).toHaveLength(2);
    expect(Math.min(...layers)).toBeGreaterThanOrEqual(2);
    expect(Math.max(...layers)).toBeLessThan(12);
  });

  it("stands in a benchmark beside the others", async () => {
    const words =
      "bench glue --strategy ./lead.ts --tasks sentiment --methods entropy --backbone fresh:3x16 --limit 32 --dev-limit 16 --epochs 1 --max-length 16 --threads 1 --workers 1";
    const out = join(folder, "runs");
    const { code, stderr } = await start(
      join(root, "packages/bench/src/bin.ts"),
      [...words.split(" "), "--out", out],
      example("plugin"),
    ).done;
    expect(code, stderr).toBe(0);
    const { rows } = JSON.parse(readFileSync(join(out, "results.json"), "utf8")) as {
      readonly rows: readonly { readonly method: string }[];
    };
    expect(new Set(rows.map(({ method }) => method))).toEqual(new Set(["full", "entropy", "lead"]));
  });
});

describe.runIf(needs("chromium"))("browser", { timeout: 180_000 }, () => {
  it("draws each text's path through the layers, in light and dark and on a phone", async () => {
    const built = await start(example("browser", "build.ts"), ["model", "site"]).done;
    expect(built.code, built.stderr).toBe(0);
    const served = start(example("browser", "serve.ts"), ["site", "0"]);
    onTestFinished(() => void served.child.kill("SIGKILL"));
    await expect.poll(served.printed, { timeout: 30_000 }).toContain("Look at");
    const address = /http:\S+/.exec(served.printed())?.[0] as string;
    expect((await fetch(`${address}/..%2fmodel%2fconfig.json`)).status).toBe(404);

    const browser = await chromium.launch({
      executablePath: pathOf("chromium") as string,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
    });
    onTestFinished(() => browser.close());
    for (const [width, colorScheme] of [
      [1000, "light"],
      [390, "dark"],
    ] as const) {
      const viewport = { width, height: 900 };
      const page = await (await browser.newContext({ viewport, colorScheme })).newPage();
      const problems: string[] = [];
      page.on("console", (message) => problems.push(`${message.type()}: ${message.text()}`));
      page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
      page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith(address) && !url.startsWith("data:")) problems.push(`request: ${url}`);
      });
      await page.goto(address);
      await page.waitForSelector("html[data-ready=true]", { timeout: 60_000, state: "attached" });
      const cards = () =>
        page.evaluate(() =>
          [...document.querySelectorAll("article")].map((card) => ({
            text: card.querySelector("h2")?.textContent,
            said: card.querySelector("p")?.textContent,
            passed: card.querySelectorAll("li:not(.skipped)").length,
            skipped: card.querySelectorAll("li.skipped").length,
            exit: [...card.querySelectorAll("li")].findIndex((li) => li.className === "exit") + 1,
          })),
        );
      const drawn = await cards();
      expect(drawn).toHaveLength(4);
      for (const { said, passed, skipped, exit } of drawn) {
        expect(Number(answer.exec(said as string)?.[2])).toBe(passed);
        expect(exit).toBe(passed);
        expect(passed + skipped).toBe(12);
      }
      expect(drawn.map(({ said }) => said?.split(" ")[0])).toEqual(["good", "good", "bad", "bad"]);
      expect(drawn[0]?.passed).toBeLessThan(12);
      // No entropy is below 0: at this end of the knob every layer runs. Nor is a text ever markup.
      const text = "<img src=x onerror=alert(1)> a joy";
      await page.fill("#texts", `${text}\n\n`);
      await page.fill("#knob", "0");
      await page.click("button");
      await expect.poll(async () => (await cards())[0]?.passed).toBe(12);
      expect((await cards()).map((one) => one.text)).toEqual([text]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      expect(problems).toEqual([]);
    }
  });
});

describe("service", { timeout: 120_000 }, () => {
  /** The service on a free port; `maxWait` is how long a request waits for company. */
  async function serve(maxWait: number) {
    const service = start(example("service", "main.ts"), [
      ...["./model", "--port", "0"],
      ...["--max-wait", String(maxWait)],
    ]);
    onTestFinished(() => void service.child.kill("SIGKILL"));
    await expect
      .poll(service.printed, { timeout: 60_000 })
      .toMatch(/Serving on http:\/\/127\.0\.0\.1:\d+\n/);
    const address = /http:\S+/.exec(service.printed())?.[0] as string;
    const post = (body: string | object, signal?: AbortSignal) =>
      fetch(`${address}/classify`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...(signal && { signal }),
      });
    const get = (path: string) => fetch(`${address}${path}`);
    return { ...service, post, get };
  }
  type Service = Awaited<ReturnType<typeof serve>>;

  const waiting = async ({ get }: Service) =>
    ((await (await get("/health")).json()) as { readonly waiting: number }).waiting;

  /** One metric's value, summed over its attributes that hold `part`. */
  async function metric({ get }: Service, name: string, part = ""): Promise<number> {
    const lines = (await (await get("/metrics")).text()).split("\n");
    return lines
      .filter((line) => line.startsWith(`${name}{`) && line.includes(part))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf("} ") + 2).split(" ")[0]), 0);
  }

  it("answers requests together, refuses what it cannot read, and counts both", async () => {
    const service = await serve(50);
    const texts = Array.from({ length: 24 }, (_, index) =>
      index % 2 === 0 ? "A charming and often moving script." : "A dull and often tiresome ending.",
    );
    const answered = await Promise.all(
      texts.map(async (text) => (await service.post({ inputs: [text], maxLayer: 6 })).json()),
    );
    const labels = answered.map(({ answers }) => answers[0].label);
    expect(labels).toEqual(texts.map((_, index) => (index % 2 === 0 ? "good" : "bad")));
    for (const { answers } of answered) expect(answers[0].exitLayer).toBeLessThanOrEqual(6);

    for (const [body, status, code, message] of [
      ["{", 400, "BAD_REQUEST", "not JSON"],
      [{ texts: ["a"] }, 400, "BAD_REQUEST", "inputs"],
      [{ inputs: [] }, 400, "BAD_REQUEST", "inputs"],
      [{ inputs: [5] }, 400, "BAD_REQUEST", "inputs.0"],
      [{ inputs: [""] }, 400, "BAD_INPUT", "at least one token"],
      [{ inputs: ["a"], maxLayer: 0 }, 400, "BAD_REQUEST", "maxLayer"],
      [{ inputs: ["a ".repeat(6_000)] }, 400, "BAD_REQUEST", "inputs.0"],
      ["x".repeat(65 * 1024), 413, "TOO_LARGE", "65536 bytes"],
    ] as const) {
      const response = await service.post(body);
      const { error } = await response.json();
      expect({ status: response.status, code: error.code }).toEqual({ status, code });
      expect(error.message).toContain(message);
    }
    expect((await service.get("/nowhere")).status).toBe(404);

    const health = await service.get("/health");
    expect(health.status).toBe(200);
    expect(await health.json()).toMatchObject({ status: "ready", state: "early-exit", layers: 12 });
    expect(await metric(service, "gen_ai_server_request_duration_count")).toBe(24);
    expect(await metric(service, "cee_exit_layer_count")).toBe(24);
    // More than one ran at a time: batches are fewer than requests.
    expect(await metric(service, "cee_batch_size_bucket", 'le="1"')).toBeLessThan(24);
  });

  it("gives up a request whose client has gone, and nobody else's", async () => {
    const service = await serve(1500);
    const gone = new AbortController();
    const dropped = service.post({ inputs: ["A charming and often moving script."] }, gone.signal);
    dropped.catch(() => undefined);
    const kept = service.post({ inputs: ["A dull and often tiresome ending."] });
    await expect.poll(() => waiting(service), { timeout: 10_000 }).toBe(2);
    gone.abort();
    await expect(dropped).rejects.toThrow();
    expect((await (await kept).json()).answers[0].label).toBe("bad");
    const name = "gen_ai_server_request_duration_count";
    expect(await metric(service, name)).toBe(2);
    expect(await metric(service, name, 'error_type="aborted"')).toBe(1);
  });

  it("answers what waits before it ends on SIGTERM", async () => {
    const service = await serve(1500);
    const answers = [
      "A charming and often moving script.",
      "A dull and often tiresome ending.",
    ].map((text) => service.post({ inputs: [text] }));
    await expect.poll(() => waiting(service), { timeout: 10_000 }).toBe(2);
    service.child.kill("SIGTERM");
    const labels = await Promise.all(
      answers.map(async (one) => (await (await one).json()).answers[0].label),
    );
    expect(labels).toEqual(["good", "bad"]);
    const { code, stdout, stderr } = await service.done;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/Draining\.\nDone\.\n$/);
    await expect(service.get("/health")).rejects.toThrow();
  });
});
