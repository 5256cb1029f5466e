/**
 * @file The table that compares methods, shaped like Table 3 of the ConsistentEE paper: methods as rows; per task a
 * score and what was saved; averages as plain means over the tasks.
 */
import { meanAndError } from "../metrics/statistics.js";
import type { OperatingPoint, ResultRow } from "../results.js";
import type { Cell, Column, Table, TableRow } from "./table.js";

export interface TableThreeOptions {
  /** Tasks in column order. @default order of first appearance in the rows */
  readonly tasks?: readonly string[];
  /** Methods in row order. @default order of first appearance in the rows */
  readonly methods?: readonly string[];
  /** @default "dev" */
  readonly split?: string;
  /** Column titles by task name. */
  readonly taskTitles?: Readonly<Record<string, string>>;
  /** Row titles by method name. */
  readonly methodTitles?: Readonly<Record<string, string>>;
  /** Add a row of measured time per method. @default true */
  readonly runtime?: boolean;
  /** The methods that get a row without loss. @default "all" */
  readonly noLossFor?: "all" | readonly string[];
  readonly caption?: string;
}

type Measure = "layers" | "runtime";

export interface ScoreAndSaving {
  readonly score: number;
  readonly saved: number;
}

interface TaskValue extends ScoreAndSaving {
  readonly scoreError: number;
  readonly seeds: number;
  /** Rounds of a time measurement disagree, so that the mean says little. */
  readonly isUnsteady: boolean;
}

/** Rounds that differ by more than this share of full depth's time disagree. */
const UNSTEADY = 0.1;

interface MethodRow {
  readonly title: string;
  readonly method: string;
  readonly point: OperatingPoint;
  readonly measure: Measure;
  readonly values: readonly (TaskValue | undefined)[];
}

/** Builds the table from result rows; several seeds become a mean, with its standard error beside the score. */
export function tableThree(rows: readonly ResultRow[], options: TableThreeOptions = {}): Table {
  const split = options.split ?? "dev";
  const used = rows.filter((row) => row.split === split && row.operatingPoint !== "curve");
  const tasks = options.tasks ?? [...new Set(used.map(({ task }) => task))];
  const methods = options.methods ?? [...new Set(used.map(({ method }) => method))];

  const valuesFor = (method: string, point: OperatingPoint, measure: Measure) =>
    tasks.map((task) =>
      taskValue(
        used.filter(
          (row) => row.method === method && row.task === task && row.operatingPoint === point,
        ),
        measure,
      ),
    );
  const title = (method: string) => options.methodTitles?.[method] ?? method;

  const fullRows: MethodRow[] = [];
  const exitRows: MethodRow[] = [];
  const noLossRows: MethodRow[] = [];
  const add = (
    to: MethodRow[],
    method: string,
    point: OperatingPoint,
    measure: Measure,
    rowTitle: string,
  ) => {
    const values = valuesFor(method, point, measure);
    if (values.some((value) => value !== undefined)) {
      to.push({ title: rowTitle, method, point, measure, values });
    }
  };
  const addAlways = (to: MethodRow[], method: string, point: OperatingPoint, rowTitle: string) => {
    const values = valuesFor(method, point, "layers");
    to.push({ title: rowTitle, method, point, measure: "layers", values });
  };
  const withCurves = rows.filter((row) => row.split === split);
  for (const method of methods) {
    const own = withCurves.filter((row) => row.method === method);
    // Methods that exit have a full-depth row as well; it is shown only where there is no model without exits.
    if (own.every(({ operatingPoint }) => operatingPoint === "full")) {
      add(fullRows, method, "full", "layers", title(method));
      continue;
    }
    if (options.runtime !== false) {
      add(exitRows, method, "one-percent", "runtime", `${title(method)} ◇`);
    }
    if (own.every(({ layers }) => layers === null)) continue;
    addAlways(exitRows, method, "one-percent", title(method));
    const noLoss = options.noLossFor ?? "all";
    if (noLoss === "all" || noLoss.includes(method)) {
      addAlways(noLossRows, method, "no-loss", `${title(method)} ★`);
    }
  }
  if (fullRows.length === 0) {
    for (const method of methods) {
      add(fullRows, method, "full", "layers", `${title(method)}, full depth`);
    }
  }

  const columns: Column[] = [
    { title: "Method", align: "left" },
    ...tasks.flatMap((task): Column[] => {
      const group = options.taskTitles?.[task] ?? task;
      const metric = used.find((row) => row.task === task)?.metric ?? "score";
      return [
        { title: metricTitle(metric), group },
        { title: "Layer", group },
      ];
    }),
    { title: "Score", group: "Averaged" },
    { title: "Layer", group: "Averaged" },
  ];
  const blocks = [fullRows, exitRows, noLossRows].filter((block) => block.length > 0);
  const tableRows = blocks.flatMap((block, blockIndex) =>
    block.map((row, rowIndex) => formatRow(row, block, blockIndex > 0 && rowIndex === 0)),
  );
  return {
    ...(options.caption === undefined ? {} : { caption: options.caption }),
    columns,
    rows: tableRows,
    notes: notes(blocks.flat()),
  };
}

/** Mean over seeds; undefined where the method has no such row or no such measure. */
function taskValue(rows: readonly ResultRow[], measure: Measure): TaskValue | undefined {
  const scores: number[] = [];
  const saved: number[] = [];
  for (const row of rows) {
    const value = measure === "layers" ? row.savedLayers : row.savedRuntime;
    if (value === null) continue;
    scores.push(row.score);
    saved.push(value);
  }
  if (scores.length === 0) return undefined;
  const score = meanAndError(scores);
  return {
    score: score.mean,
    scoreError: score.standardError,
    saved: meanAndError(saved).mean,
    seeds: scores.length,
    isUnsteady:
      measure === "runtime" &&
      rows.some(({ savedRuntimeRange: [least, most] = [0, 0] }) => most - least > UNSTEADY),
  };
}

function formatRow(row: MethodRow, block: readonly MethodRow[], ruled: boolean): TableRow {
  const rivals = block.filter(
    ({ method, measure }) => method !== row.method && measure === row.measure,
  );
  const cells: Cell[] = [{ text: row.title }];
  for (const [task, value] of row.values.entries()) {
    const bold =
      row.point !== "full" &&
      value !== undefined &&
      beatsAll(
        value,
        rivals.map(({ values }) => values[task]),
      );
    cells.push(...valueCells(value, bold));
  }
  const average = averageOf(row.values);
  const bold =
    row.point !== "full" &&
    average !== undefined &&
    beatsAll(
      average,
      rivals.map(({ values }) => averageOf(values)),
    );
  cells.push(...valueCells(average, bold));
  return { cells, ruled };
}

/** The paper's rule for bold: a better score and more saved than every other method. */
export function beatsAll(
  value: ScoreAndSaving,
  rivals: readonly (ScoreAndSaving | undefined)[],
): boolean {
  const known = rivals.filter((rival) => rival !== undefined);
  return (
    known.length > 0 &&
    known.every((rival) => value.score >= rival.score && value.saved >= rival.saved)
  );
}

/** The plain mean over all tasks; none when a task is missing, as a mean over fewer would not compare. */
function averageOf(values: readonly (TaskValue | undefined)[]): TaskValue | undefined {
  const known = values.filter((value) => value !== undefined);
  if (known.length !== values.length || known.length === 0) return undefined;
  return {
    score: meanAndError(known.map(({ score }) => score)).mean,
    scoreError: 0,
    saved: meanAndError(known.map(({ saved }) => saved)).mean,
    seeds: 1,
    isUnsteady: known.some(({ isUnsteady }) => isUnsteady),
  };
}

function valueCells(value: TaskValue | undefined, bold: boolean): Cell[] {
  if (!value) return [{ text: "–" }, { text: "–" }];
  const spread = value.seeds > 1 ? ` ±${(100 * value.scoreError).toFixed(1)}` : "";
  return [
    { text: (100 * value.score).toFixed(1) + spread, ...(bold ? { bold } : {}) },
    { text: formatSaved(value.saved), ...(bold ? { bold } : {}) },
  ];
}

/** As the paper prints it: `-53%` for 53 % saved; `+4%` where a method is slower than full depth. */
export function formatSaved(saved: number): string {
  const percent = Math.round(100 * saved);
  return percent === 0 ? "0%" : percent > 0 ? `-${percent}%` : `+${-percent}%`;
}

/** Short heading of a metric. */
export function metricTitle(metric: string): string {
  const titles: Readonly<Record<string, string>> = {
    accuracy: "Acc",
    f1: "F1",
    spearman: "Spearman",
    pearson: "Pearson",
    mcc: "MCC",
    "balanced-accuracy": "Bal. acc",
    "rouge-l": "ROUGE-L",
    "bertscore-f": "BERTScore F",
  };
  return titles[metric] ?? metric;
}

function notes(rows: readonly MethodRow[]): string[] {
  const found: string[] = [];
  if (rows.some(({ point, measure }) => point === "one-percent" && measure === "layers")) {
    found.push(
      "Unmarked rows: the fastest point within 1 % (relative) of the same model's full depth; Layer = change in layers run, so -50% means half of them saved.",
    );
  }
  if (rows.some(({ measure }) => measure === "runtime")) {
    found.push(
      "◇ Layer = change in runtime at the same point, measured at batch 1 against full depth in the same run.",
    );
  }
  if (rows.some(({ values }) => values.some((value) => value?.isUnsteady))) {
    found.push(
      "◇ Some of these times say little: rounds of the same measurement differ by more than 10 % of full depth's time, as they do where the model is small or the machine busy. savedRuntimeRange in results.json has the range of each.",
    );
  }
  if (rows.some(({ point }) => point === "no-loss")) {
    found.push("★ The fastest point without loss.");
  }
  if (rows.some(({ values }) => values.some((value) => value === undefined))) {
    found.push("– No point qualifies, or it was not measured; an average needs all tasks.");
  }
  if (rows.some(({ values }) => values.some((value) => (value?.seeds ?? 1) > 1))) {
    found.push("± Standard error over seeds.");
  }
  return found;
}
