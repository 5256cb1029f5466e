/** @file `paper.json` as tables, for `paper.md`. */
import { meanAndError } from "../metrics/statistics.js";
import type { Column, Table } from "../table/table.js";
import { formatSaved, metricTitle } from "../table/table-three.js";
import type { Figure2Panel, PaperResults } from "./paper-results.js";

export interface PaperTitles {
  readonly taskTitles?: Readonly<Record<string, string>>;
  readonly methodTitles?: Readonly<Record<string, string>>;
}

const left = (title: string): Column => ({ title, align: "left" });
const right = (title: string): Column => ({ title });
const cells = (texts: readonly string[]) => ({ cells: texts.map((text) => ({ text })) });
const percent = (value: number | null) => (value === null ? "–" : (100 * value).toFixed(1));

/** Tables 1 and 2, then the numbers behind Figures 2 to 4; those without rows are left out. */
export function paperTables(paper: PaperResults, titles: PaperTitles = {}): Table[] {
  const task = (name: string) => titles.taskTitles?.[name] ?? name;
  const method = (name: string) => titles.methodTitles?.[name] ?? name;
  const tables = [
    table1(paper, task),
    table2(paper, task),
    figure2(paper, task),
    figure3(paper, task, method),
    figure4(paper, task),
  ];
  return tables.filter(({ rows }) => rows.length > 0);
}

type Title = (name: string) => string;

function table1({ table1: rows, tasks }: PaperResults, title: Title): Table {
  return {
    caption:
      "Table 1: Spearman's correlation of the memorized layer with other signs of hardness, training rows",
    columns: [
      left("Task"),
      right("Rows"),
      right("Loss"),
      right("Forgetting events"),
      right("Seeds"),
    ],
    rows: tasks.flatMap((task) => {
      const own = rows.filter((row) => row.task === task);
      if (own.length === 0) return [];
      const spread = (values: readonly number[]) => {
        const { mean, standardError } = meanAndError(values);
        return own.length > 1 ? `${mean.toFixed(2)} ±${standardError.toFixed(2)}` : mean.toFixed(2);
      };
      return [
        cells([
          title(task),
          String(own[0]?.n),
          spread(own.map(({ loss }) => loss)),
          spread(own.map(({ forgetting }) => forgetting)),
          String(own.length),
        ]),
      ];
    }),
    notes: [
      "Loss of the last layer after phase 1; events over evaluations of all training rows during it. Printed in the paper: RTE .76 and .59, MRPC .84 and .43, SST-2 .66 and .32.",
    ],
  };
}

function table2({ table2: rows }: PaperResults, title: Title): Table {
  const count = (value: number | null) => (value === null ? "–" : String(value));
  return {
    caption: "Table 2: the data as loaded",
    columns: [
      left("Task"),
      right("Classes"),
      left("Metric"),
      right("Train"),
      right("Dev"),
      right("Test"),
      right("Words"),
      right("Majority"),
    ],
    rows: rows.map((row) =>
      cells([
        title(row.task),
        row.classes === 1 ? "–" : String(row.classes),
        metricTitle(row.metric),
        String(row.train),
        row.devMismatched === null ? String(row.dev) : `${row.dev} + ${row.devMismatched}`,
        count(row.test),
        row.meanWords.toFixed(1),
        row.majority === null ? "–" : `${percent(row.majority)} %`,
      ]),
    ),
    notes: ["Words per training row; majority: share of the most frequent class of dev."],
  };
}

function figure2({ figure2: panels }: PaperResults, title: Title): Table {
  const depth = panels[0]?.layers.length ?? 0;
  const label = ({ task, objective, alpha, seed }: Figure2Panel) => [
    title(task),
    objective === "weighted-sum" ? "weighted sum" : `ConsistentEE, alpha ${alpha}`,
    String(seed),
  ];
  const rowOf = (
    panel: Figure2Panel,
    what: string,
    value: (layer: Figure2Panel["layers"][number]) => string,
  ) => cells([...label(panel), what, ...panel.layers.map(value)]);
  return {
    caption: "Figure 2: training rows per layer; under ConsistentEE each row at its exit only",
    columns: [
      left("Task"),
      left("Objective"),
      right("Seed"),
      left("What"),
      ...Array.from({ length: depth }, (_, index) => right(String(index + 1))),
    ],
    rows: panels.flatMap((panel) => [
      rowOf(panel, "rows", ({ n }) => String(n)),
      rowOf(panel, "accuracy", ({ accuracy }) => percent(accuracy)),
      rowOf(panel, "mean loss", ({ meanLoss }) => (meanLoss === null ? "–" : meanLoss.toFixed(2))),
    ]),
  };
}

function figure3({ figure3: curves }: PaperResults, task: Title, method: Title): Table {
  return {
    caption: "Figure 3: score against saved layers (every point is in paper.json)",
    columns: [
      left("Task"),
      left("Method"),
      right("Points"),
      right("Full depth"),
      right("Best"),
      right("at"),
      right("Fastest"),
      right("at"),
    ],
    rows: curves.map((curve) => {
      const best = curve.points.reduce((a, b) => (b.score > a.score ? b : a));
      const fastest = curve.points.reduce((a, b) => (b.savedLayers > a.savedLayers ? b : a));
      return cells([
        task(curve.task),
        method(curve.method),
        String(curve.points.length),
        percent(curve.fullScore),
        percent(best.score),
        formatSaved(best.savedLayers),
        percent(fastest.score),
        formatSaved(fastest.savedLayers),
      ]);
    }),
  };
}

function figure4({ figure4: tasks }: PaperResults, title: Title): Table {
  return {
    caption: "Figure 4: vanilla against hardness-guided reward at equal speed-up",
    columns: [
      left("Task"),
      right("Speed-up"),
      right("Vanilla"),
      right("Hardness-guided"),
      right("Gain"),
    ],
    rows: tasks.flatMap(({ task, atEqualSpeedup }) =>
      atEqualSpeedup.map(({ speedup, vanilla, hardness }) =>
        cells([
          title(task),
          `${speedup.toFixed(2)}x`,
          percent(vanilla),
          percent(hardness),
          `${hardness >= vanilla ? "+" : ""}${percent(hardness - vanilla)}`,
        ]),
      ),
    ),
    notes: [
      "Between the points of each curve, full depth included; speed-up is layers / mean exit layer.",
    ],
  };
}
