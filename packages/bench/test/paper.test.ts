/** @file The parts of `bench paper` on numbers written down here, and a whole tiny run. */
import { readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import type { ExitRecord } from "@cee/exit-policies";
import { describe, expect, it } from "vitest";
import { parseArgs } from "../src/arguments.js";
import { readPaper } from "../src/export/paper-file.js";
import { glueFlags, glueLists, parseGlueOptions } from "../src/glue/options.js";
import { figure3, figure4, table2Row } from "../src/paper/from-results.js";
import type { PaperResults } from "../src/paper/paper-results.js";
import { runPaper } from "../src/paper/run-paper.js";
import {
  figure2Panel,
  forgettingEvents,
  lossScale,
  rightAtLast,
  table1Row,
} from "../src/paper/training-rows.js";
import type { ResultRow } from "../src/results.js";
import { tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";
import { syntheticResults } from "./synthetic-results.js";

/** Two classes, three layers; `margins` is the logit of class 1 per row and layer. */
function recordOf(margins: readonly (readonly number[])[], labels: readonly number[]): ExitRecord {
  return {
    shape: { task: "classification", depth: 3, hidden: 2, classes: 2 },
    ids: labels.map((_, row) => String(row)),
    labels: Float32Array.from(labels),
    logits: Float32Array.from(margins.flat().flatMap((margin) => [0, margin])),
    observed: new Float32Array(labels.length * 3),
    observedWidth: 1,
  };
}

// Memorized layers 1, 2, 3, 3: right everywhere, from layer 2, at the last only, never.
const record = recordOf(
  [
    [4, 4, 4],
    [-1, 2, 2],
    [-1, -1, 1],
    [-1, -1, -1],
  ],
  [1, 1, 1, 1],
);
const evaluations = [
  [1, 0, 0, 0],
  [1, 1, 1, 0],
  [1, 1, 0, 0],
  [1, 0, 1, 0],
  [1, 1, 0, 0],
  [1, 1, 1, 0],
].map((rows) => Uint8Array.from(rows));

describe("Table 1", () => {
  it("counts events from right to wrong; what was never right counts as the most forgotten", () => {
    expect([...forgettingEvents(evaluations).events]).toEqual([0, 1, 2, 4]);
    expect(forgettingEvents(evaluations).neverRight).toBe(1);
    expect(() => forgettingEvents([])).toThrow("at least one evaluation");
    expect([...rightAtLast(record)]).toEqual([1, 1, 1, 0]);
  });

  it("correlates memorized layers with the last layer's loss and with events, ties at average ranks", () => {
    const row = table1Row("t", 1, record, evaluations);
    expect(row).toMatchObject({
      n: 4,
      evaluations: 6,
      memorizedLayers: [1, 1, 2],
      forgettingEvents: [1, 1, 1, 0, 1],
      neverRight: 1,
    });
    // Ranks 1, 2, 3.5, 3.5 against 1, 2, 3, 4.
    expect(row.loss).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5), 12);
    expect(row.forgetting).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5), 12);
  });
});

describe("Figure 2", () => {
  const where = { task: "t", seed: 1 } as const;

  it("shows every row at every layer, or each at its exit only", () => {
    const largest = lossScale(record);
    expect(largest).toBeGreaterThanOrEqual(2 * Math.log(2));
    const all = figure2Panel(
      { ...where, objective: "weighted-sum", alpha: null },
      record,
      null,
      largest,
    );
    expect(all.boundary).toBeCloseTo(Math.LN2, 12);
    expect(all.layers.map(({ n }) => n)).toEqual([4, 4, 4]);
    expect(all.layers.map(({ accuracy }) => accuracy)).toEqual([0.25, 0.5, 0.75]);
    expect(all.layers[0]?.meanLoss).toBeCloseTo(
      (Math.log1p(Math.exp(-4)) + 3 * Math.log1p(Math.exp(1))) / 4,
      6,
    );
    for (const { bins, n } of all.layers) expect(bins.reduce((a, b) => a + b)).toBe(n);
    const exits = Int32Array.from([2, 2, 3, 3]);
    const own = figure2Panel(
      { ...where, objective: "consistentee", alpha: 0.1 },
      record,
      exits,
      largest,
    );
    expect(own.layers.map(({ n, accuracy }) => [n, accuracy])).toEqual([
      [0, null],
      [2, 1],
      [2, 0.5],
    ]);
  });
});

describe("a regression", () => {
  it("is right within the tolerance of the memorized layer, and has its square for a boundary", () => {
    const regression: ExitRecord = {
      ...record,
      shape: { task: "regression", depth: 3, hidden: 2, classes: 1 },
      ids: ["0", "1"],
      labels: Float32Array.from([2, 4]),
      logits: Float32Array.from([1, 1.8, 2.25, 4, 3, 3]),
    };
    expect([...rightAtLast(regression)]).toEqual([1, 0]);
    const panel = figure2Panel(
      { task: "t", seed: 1, objective: "weighted-sum", alpha: null },
      regression,
      null,
      4,
    );
    expect(panel.boundary).toBe(0.25);
    expect(panel.layers.map(({ accuracy }) => accuracy)).toEqual([0.5, 0.5, 0.5]);
    expect(panel.layers[0]?.meanLoss).toBeCloseTo(0.5, 6);
  });
});

describe("Table 2 and Figures 3 and 4", () => {
  it("state what was loaded", () => {
    const row = (text: string, label: number) => ({ id: text, text, label });
    expect(
      table2Row({
        task: {
          name: "t",
          title: "T",
          pair: false,
          regression: false,
          labels: ["a", "b"],
          metric: "accuracy",
          metrics: ["accuracy"],
        },
        splits: { train: [row("one two", 0), row("one", 1)], dev: [row("x", 1), row("y", 1)] },
        problems: [{ file: "f", count: 3, examples: [] }],
      }),
    ).toEqual({
      task: "t",
      classes: 2,
      metric: "accuracy",
      train: 2,
      dev: 2,
      devMismatched: null,
      test: null,
      malformed: 3,
      meanWords: 1.5,
      majority: 1,
    });
  });

  it("read curves and compare rewards at equal speed-up", () => {
    const { rows } = syntheticResults([1, 2]);
    const curves = figure3(rows);
    expect(curves).toHaveLength(9);
    expect(curves[0]?.points).toHaveLength(28);
    const saved = curves[0]?.points.map(({ savedLayers }) => savedLayers) ?? [];
    expect(saved).toEqual([...saved].sort((a, b) => a - b));
    expect(figure4(rows)).toEqual([]);
    const asVanilla = (row: ResultRow): ResultRow => ({
      ...row,
      method: "consistentee-vanilla",
      score: row.score - 0.1 * (row.savedLayers ?? 0),
    });
    const own = rows.filter(({ method }) => method === "consistentee");
    const [first] = figure4([...own, ...own.map(asVanilla)]);
    expect(first?.task).toBe("sentiment");
    expect(first?.atEqualSpeedup.length).toBeGreaterThan(3);
    for (const { vanilla, hardness, speedup } of first?.atEqualSpeedup ?? []) {
      expect(hardness).toBeGreaterThan(vanilla);
      expect(hardness - vanilla).toBeLessThanOrEqual(0.1 * (1 - 1 / speedup) + 1e-9);
    }
  });
});

describe("a run", () => {
  const words = [
    "--tasks=sentiment",
    "--methods=consistentee,consistentee-vanilla",
    ...tiny.filter((word) => !/^--(epochs|workers)/.test(word)),
    "--epochs=3",
  ];
  const run = (out: string, ...more: string[]) => {
    const printed: string[] = [];
    const steps: string[] = [];
    const progress = {
      plan: () => undefined,
      update: (text: string, units = 0) => void (units > 0 && steps.push(text)),
      settle: () => undefined,
      print: (line: string) => void printed.push(line),
      stop: () => undefined,
    };
    const args = parseArgs([...words, `--out=${out}`, ...more], {
      flags: glueFlags,
      lists: glueLists,
    });
    const options = parseGlueOptions(args, "pnpm bench paper", { name: "paper", allTasks: true });
    return runPaper(options, { progress }).then((outcome) => ({ ...outcome, printed, steps }));
  };

  it("leaves every table and figure, and goes on without training anything twice", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const { table, paper, files, failures } = await run(out);
    expect(failures).toEqual([]);
    expect(paper?.failures).toEqual([]);
    expect(files.map((file) => path.basename(file))).toEqual(
      expect.arrayContaining(["results.json", "report.html", "paper.json", "paper.md"]),
    );
    for (const part of [
      "Table 3",
      "Table 1:",
      "Table 2:",
      "Figure 2:",
      "Figure 3:",
      "ConsistentEE ★",
    ])
      expect(table).toContain(part);
    const saved = JSON.parse(await readFile(path.join(out, "paper.json"), "utf8")) as PaperResults;
    expect(saved).toEqual(JSON.parse(JSON.stringify(paper)));
    expect(await readPaper(path.join(out, "paper.json"))).toEqual(saved);
    const report = await readFile(path.join(out, "report.html"), "utf8");
    for (const part of ["Table 1", "Figure 2", "Figure 4"]) expect(report).toContain(part);
    expect(saved.table1.map(({ task, n }) => [task, n])).toEqual([["sentiment", 22]]);
    // Three steps: as many evaluations as steps.
    for (const { evaluations: count } of saved.table1) expect(count).toBe(3);
    expect(saved.figure2.map(({ objective }) => objective)).toEqual([
      "weighted-sum",
      "consistentee",
    ]);
    for (const { layers, objective } of saved.figure2)
      expect(layers.reduce((sum, { n }) => sum + n, 0)).toBe(
        objective === "consistentee" ? 22 : 44,
      );
    expect(saved.figure4.map(({ task }) => task)).toEqual(["sentiment"]);

    // The shared first training was watched, and not trained a second time for that.
    const trainings = (await readdir(path.join(out, "trainings"))).length;
    const { vanilla, hardness } = saved.figure4[0]!;
    expect(trainings).toBe(1 + vanilla.length + hardness.length);

    await rm(path.join(out, "paper.json"));
    const again = await run(out, "--resume");
    expect(again.steps).toEqual([]);
    expect({ ...again.paper, command: "" }).toEqual({ ...saved, command: "" });

    // A run of bench glue did not look on: phase 1 is watched now, the rest stays.
    await rm(path.join(out, "paper"), { recursive: true });
    const watched = await run(out, "--resume");
    expect(watched.steps.length).toBeGreaterThan(0);
    expect(watched.steps.every((text) => text.includes("watched"))).toBe(true);
    expect(watched.paper?.table1).toEqual(saved.table1);
  });

  it("gives the same from worker processes", async () => {
    const folder = await temporaryFolder();
    const seeds = "--seeds=1,2";
    const alone = await run(path.join(folder, "alone"), seeds, "--workers=1");
    const shared = await run(path.join(folder, "shared"), seeds, "--workers=2");
    expect(shared.printed[0]).toContain("2 workers side by side");
    expect(shared.paper?.table1.map(({ seed }) => seed)).toEqual([1, 2]);
    expect({ ...shared.paper, figure3: [] }).toEqual({ ...alone.paper, figure3: [] });
  }, 120_000);
});
