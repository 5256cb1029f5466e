/** @file Tasks side by side in worker processes: the same results, and a worker that dies takes only one cell along. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { parseArgs } from "../src/arguments.js";
import { glueFlags, glueLists, parseGlueOptions } from "../src/glue/options.js";
import { runGlue } from "../src/glue/run.js";
import type { Results } from "../src/results.js";
import { benchChild, strategySource, timeless, tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

const settings = tiny.filter((word) => !word.startsWith("--workers"));
const tasks = "--tasks=sentiment,similarity";
// Two besides full depth, so that there is a pair to compare.
const methods = "--methods=full,patience,oracle";

async function rowsOf(out: string) {
  const { command: _, ...results } = (await timeless(out)) as Results;
  return results;
}

it("gives the results of one process", async () => {
  const folder = await temporaryFolder();
  const [one, two] = [path.join(folder, "one"), path.join(folder, "two")];
  const words = ["glue", ...settings, tasks, methods, "--seeds=1"];
  const alone = await benchChild([...words, `--out=${one}`, "--workers=1"]);
  const together = await benchChild([...words, `--out=${two}`, "--workers=2"]);
  expect([alone.code, together.code], together.stderr).toEqual([0, 0]);
  expect(together.stderr).toContain("2 workers side by side");
  expect(together.stderr).toContain("(2 of 2)");
  expect(await rowsOf(two)).toEqual(await rowsOf(one));
}, 120_000);

it("loses only the cell at which a worker dies", async () => {
  const dies = `observe: ({ probs }) => {
    if (process.argv[1].includes("worker")) process.kill(process.pid, "SIGKILL");
    return tf.max(probs, 1);
  },`;
  const folder = await temporaryFolder({ "dies.mjs": strategySource("dies", dies) });
  const out = path.join(folder, "run");
  const finished = await benchChild([
    "glue",
    ...settings,
    tasks,
    methods,
    `--strategy=${path.join(folder, "dies.mjs")}`,
    `--out=${out}`,
    "--workers=2",
  ]);
  expect(finished.code, finished.stderr).toBe(1);
  expect(finished.stderr).toContain(
    "[sentiment, seed 42] its process ended with signal SIGKILL while it ran dies; the other methods go on.",
  );
  const results = JSON.parse(await readFile(path.join(out, "results.json"), "utf8")) as Results;
  const cells = new Set(results.rows.map(({ task, method }) => `${task} ${method}`));
  expect([...cells].sort()).toEqual(
    ["sentiment", "similarity"].flatMap((task) =>
      ["full", "oracle", "patience"].map((method) => `${task} ${method}`),
    ),
  );
  expect(results.failures).toEqual([
    expect.objectContaining({ task: "sentiment", method: "dies", seed: 42 }),
  ]);
  expect(finished.stderr.match(/SIGKILL/g)).toHaveLength(1);
}, 120_000);

it("takes results of any size from workers", async () => {
  const size = 4_000_000;
  const folder = await temporaryFolder({
    "large.mjs": `export const companion = {
      before: async () => undefined,
      after: async () => ({ text: "x".repeat(${size}) }),
    };`,
  });
  const options = parseGlueOptions(
    parseArgs(
      [...settings, tasks, "--methods=full", "--workers=2", `--out=${path.join(folder, "run")}`],
      { flags: glueFlags, lists: glueLists },
    ),
    "bench glue",
  );
  const hooks = { before: async () => undefined, after: async () => undefined };
  const module = pathToFileURL(path.join(folder, "large.mjs")).href;
  const { beside, results } = await runGlue(options, { companion: { hooks, module } });
  expect(results.failures ?? []).toEqual([]);
  expect(beside.map((found) => (found as { text: string }).text.length)).toEqual([size, size]);
}, 120_000);
