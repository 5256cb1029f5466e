/** @file Whole runs of `bench glue`, tiny: what they leave, that they repeat, and that they can be stopped and gone on with. */
import { existsSync } from "node:fs";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { readResults } from "../src/results.js";
import { bench, benchChild, strategySource, timeless, tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

const two = ["--tasks=sentiment", "--methods=full,entropy"];

describe("a run", () => {
  it("leaves a table, a report and results with every promised field", async () => {
    const folder = await temporaryFolder({ "margin.ts": strategySource("top-probability") });
    const out = path.join(folder, "run");
    const strategy = `--strategy=${path.join(folder, "margin.ts")}`;
    const { table, failures, files } = await bench([
      "--tasks=sentiment,similarity",
      "--methods=full,entropy,patience,consistentee",
      strategy,
      `--out=${out}`,
    ]);
    expect(failures).toEqual([]);
    expect((await readdir(out)).sort()).toEqual([
      "answers",
      "cells",
      "curves",
      "points.csv",
      "report.html",
      "results.json",
      "run.json",
      "statistics.md",
      "table.md",
      "table.tex",
      "trainings",
    ]);
    expect(files.map((file) => path.basename(file))).toEqual([
      "results.json",
      "report.html",
      "table.md",
      "table.tex",
      "statistics.md",
      "points.csv",
      "curves",
    ]);
    expect(await readFile(path.join(out, "table.md"), "utf8")).toBe(`${table}\n`);
    for (const part of [
      "| Method |",
      "| Full depth |",
      "DeeBERT's rule (entropy)",
      "PABEE's rule (patience)",
      "ConsistentEE",
      "top-probability",
      "similarity: entropy is made for classification, not for regression",
    ])
      expect(table).toContain(part);
    const report = await readFile(path.join(out, "report.html"), "utf8");
    expect(report).toContain("PABEE&#39;s rule (patience)");
    expect(report).toContain("Left out");

    const results = await readResults(path.join(out, "results.json"));
    expect(results).toMatchObject({
      schema: 1,
      preset: "small",
      backbone: "fresh:2x16",
      data: {
        source: "embedded",
        tasks: {
          sentiment: { train: 24, dev: 12, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
          similarity: { train: 24, dev: 12, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
        },
      },
      versions: { node: process.versions.node, "@cee/engine": expect.any(String) },
      machine: { threads: 1, processor: expect.any(String) },
      leftOut: [
        { task: "similarity", method: "entropy", seed: 42 },
        { task: "similarity", method: "top-probability", seed: 42 },
      ],
    });
    expect(results).not.toHaveProperty("failures");
    expect(results.command).toContain("pnpm bench glue --tasks=sentiment,similarity");

    const curveOf = (method: string) =>
      results.rows.filter((row) => row.method === method && row.operatingPoint === "curve");
    const cells = new Set(results.rows.map(({ task, method }) => `${task}/${method}`));
    expect([...cells].sort()).toEqual([
      "sentiment/consistentee",
      "sentiment/entropy",
      "sentiment/full",
      "sentiment/patience",
      "sentiment/top-probability",
      "similarity/consistentee",
      "similarity/full",
      "similarity/patience",
    ]);
    for (const row of results.rows) {
      expect(row).toMatchObject({ seed: 42, split: "dev", layers: 2, n: 12 });
      expect(row.metric).toBe(row.task === "sentiment" ? "accuracy" : "spearman");
      expect(row.exitHistogram).toHaveLength(2);
      expect(row.knob === null).toBe(row.method === "full");
      expect(row.savedRuntime === null).toBe(row.operatingPoint === "curve");
      if (row.operatingPoint !== "curve" && row.method !== "full")
        expect(row.heldOut).toBeDefined();
      if (row.operatingPoint === "full") expect(row.meanExitLayer).toBe(2);
    }
    // What a sceptic asks for: intervals, classes, early exits, pairs of methods, equal speed and score, single rows.
    for (const row of results.rows.filter(({ operatingPoint }) => operatingPoint !== "curve")) {
      expect(row.intervals).toMatchObject({ level: 0.95, resamples: 1000 });
      expect(row.intervals?.score[0]).toBeLessThanOrEqual(row.score);
      expect(row.intervals?.score[1]).toBeGreaterThanOrEqual(row.score);
      expect(row.perClass?.reduce((sum, { n }) => sum + n, 0)).toBe(
        row.task === "sentiment" ? 12 : undefined,
      );
      if (row.method !== "full")
        expect(row.earlyExits !== undefined).toBe(row.task === "sentiment");
    }
    const pairs = results.comparisons?.map(({ first, second }) => `${first} ${second}`);
    expect(pairs).toContain("entropy consistentee");
    expect(
      results.matched?.filter(({ task }) => task === "sentiment").map(({ method }) => method),
    ).toEqual(["entropy", "patience", "consistentee", "top-probability"]);
    const strip = results.inputs?.find(
      ({ method, task }) => method === "entropy" && task === "sentiment",
    );
    expect(strip).toMatchObject({ answers: expect.any(Array), knob: { name: "threshold" } });
    expect(strip?.answers).toHaveLength(2);
    expect(strip?.observed).toHaveLength(2);
    expect(strip?.knob?.exits.map(([value]) => value)).toEqual(
      curveOf("entropy").map(({ knob }) => knob?.value),
    );
    expect(await readFile(path.join(out, "statistics.md"), "utf8")).toContain("paired-bootstrap");
    // Every point of the curve is a row, and the operating points are among them.
    expect(curveOf("entropy").length).toBeGreaterThanOrEqual(13);
    for (const row of results.rows.filter(({ operatingPoint }) => operatingPoint === "no-loss")) {
      expect(row.score).toBeGreaterThanOrEqual(row.fullScore);
      expect(
        results.rows.some(
          (other) =>
            other.operatingPoint === "curve" &&
            other.method === row.method &&
            other.task === row.task &&
            other.knob?.value === row.knob?.value &&
            other.score === row.score,
        ),
      ).toBe(true);
    }
  });

  it("gives the same results again but for measured times, and moves the older run aside", async () => {
    const folder = await temporaryFolder();
    const out = path.join(folder, "run");
    const words = ["--tasks=sentiment", "--methods=entropy,consistentee", `--out=${out}`];
    await bench(words);
    const { printed } = await bench(words);
    expect(printed.join("\n")).toContain(`${out}.previous`);
    expect(await timeless(out)).toEqual(await timeless(`${out}.previous`));
    // A third run keeps the first two.
    await bench([...two, `--out=${out}`]);
    expect((await readdir(folder)).sort()).toEqual(["run", "run.previous", "run.previous-2"]);
  });

  it("evaluates MNLI's second development set with the same models", async () => {
    const sentences = (rows: number, from: number) =>
      `sentence1\tsentence2\tgold_label\n${Array.from({ length: rows }, (_, row) => {
        const label = ["entailment", "neutral", "contradiction"][row % 3];
        return `a man sleeps ${row + from}\tsomebody is ${label} now\t${label}\n`;
      }).join("")}`;
    const folder = await temporaryFolder({
      "MNLI/train.tsv": sentences(24, 0),
      "MNLI/dev_matched.tsv": sentences(12, 100),
      "MNLI/dev_mismatched.tsv": sentences(9, 200),
    });
    const out = path.join(folder, "run");
    const { results, table } = await bench([
      `--data=${folder}`,
      "--tasks=mnli",
      "--methods=entropy",
      `--out=${out}`,
    ]);
    const points = (split: string) =>
      new Set(results.rows.filter((row) => row.split === split).map((row) => row.operatingPoint));
    expect([...points("dev")]).toEqual(expect.arrayContaining(["full", "curve"]));
    expect([...points("dev-mismatched")]).toEqual(expect.arrayContaining(["full", "curve"]));
    expect(new Set(results.rows.map(({ split, n }) => `${split} ${n}`))).toEqual(
      new Set(["dev 12", "dev-mismatched 9"]),
    );
    expect(results.data).toMatchObject({
      folder,
      tasks: { mnli: { train: 24, dev: 12, devMismatched: 9, malformed: 0 } },
    });
    expect(table).toContain("Split dev-mismatched:");
    expect(await readdir(path.join(out, "trainings"))).toHaveLength(1);
  });

  it("says what every training would take, and writes nothing", async () => {
    const folder = await temporaryFolder();
    const out = path.join(folder, "run");
    const { table } = await bench(["--dry-run", "--tasks=sentiment", `--out=${out}`]);
    expect(table).toMatch(/\| sentiment \| initialise .* \| initialise \| \d+ \| \d+ s \|/);
    expect(table).toContain("consistentee alpha 0.03");
    expect(table).toContain("Nothing was written.");
    expect(await readdir(folder)).toEqual([]);
  });
});

describe("--resume", () => {
  it("takes finished cells and trainings as they are, and gives the same results", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const words = [...two, "--seeds=1,2", `--out=${out}`];
    const first = await bench(words);
    expect(first.steps.length).toBeGreaterThan(0);
    const before = await timeless(out);
    // One cell is lost, its training is not.
    await rm(path.join(out, "cells", "sentiment.entropy.2.json"));
    await rm(path.join(out, "results.json"));
    const again = await bench([...words, "--resume"]);
    expect(again.steps).toEqual([]);
    const { command: _, ...rest } = (await timeless(out)) as { command: string };
    const { command: __, ...expected } = before as { command: string };
    expect(rest).toEqual(expected);
  });

  it("may add methods and seeds, but not go on with other data or options", async () => {
    const out = path.join(await temporaryFolder(), "run");
    await bench([...two, `--out=${out}`]);
    const more = await bench([
      "--tasks=sentiment",
      "--methods=entropy,patience",
      "--resume",
      `--out=${out}`,
    ]);
    expect(more.steps).toEqual([]);
    expect(new Set(more.results.rows.map(({ method }) => method)).size).toBe(3);
    const refused = (...words: string[]) => bench([...two, ...words, "--resume", `--out=${out}`]);
    await expect(refused("--preset=paper")).rejects.toMatchObject({
      code: "RUN_MISMATCH",
      message: expect.stringContaining("preset small, now paper"),
    });
    const file = path.join(out, "cells", "sentiment.entropy.42.json");
    const cell = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...cell, identity: "another" }));
    await expect(refused()).rejects.toMatchObject({ code: "RUN_MISMATCH", who: file });
    await writeFile(file, (await readFile(file, "utf8")).slice(0, 40));
    await expect(refused()).rejects.toMatchObject({ code: "BAD_RESULTS", who: file });
    // As the message advises.
    await rm(file);
    expect((await refused()).failures).toEqual([]);
  });

  it("continues a killed run to the results of an undisturbed one", async () => {
    const folder = await temporaryFolder();
    const words = (out: string) => [
      "glue",
      ...tiny,
      "--tasks=sentiment,entail",
      "--methods=entropy,patience",
      `--out=${path.join(folder, out)}`,
    ];
    const undisturbed = benchChild(words("a"));
    const killed = await benchChild(words("b"), {
      // After the first task, in the middle of the second.
      onPrint: (text, child) => {
        if (text.includes("(1 of 2)")) setTimeout(() => child.kill("SIGKILL"), 30);
      },
    });
    expect(killed.signal).toBe("SIGKILL");
    expect(existsSync(path.join(folder, "b", "results.json"))).toBe(false);
    const resumed = await benchChild([...words("b"), "--resume"]);
    expect(resumed.code).toBe(0);
    expect(resumed.stdout).toContain("| Full depth |");
    expect((await undisturbed).code).toBe(0);
    const [a, b] = (await Promise.all(
      ["a", "b"].map((out) => timeless(path.join(folder, out))),
    )) as [{ command: string }, { command: string }];
    expect({ ...b, command: "" }).toEqual({ ...a, command: "" });
    expect(b.command).not.toContain("--resume");
  });
});

describe("Ctrl-C", () => {
  it("stops after the step in progress with a checkpoint, says how to go on, and exits with 130", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const words = ["glue", ...two, "--backbone=fresh:2x16", "--limit=400", "--threads=1"];
    // Far more epochs than there is time for.
    const all = [...words, "--epochs=5000", `--out=${out}`];
    const stopped = await benchChild(all, {
      onPrint: (text, child) => {
        // Twice, as a terminal and a program in between would pass it on.
        if (text.includes("Backbone:") && !text.includes("Stopping"))
          setTimeout(() => [child.kill("SIGINT"), child.kill("SIGINT")], 1500);
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.stdout).toBe("");
    expect(stopped.stderr).toContain("Stopping after the step in progress");
    expect(stopped.stderr).toMatch(/Stopped\. To go on:\n {2}pnpm bench glue .* --resume\n$/);
    const [training] = await readdir(path.join(out, "trainings"));
    const files = await readdir(path.join(out, "trainings", String(training)));
    expect(files).toContain("checkpoint.safetensors");
    expect(existsSync(path.join(out, "results.json"))).toBe(false);
  });
});
