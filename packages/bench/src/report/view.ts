/** @file What every section of the report looks at: the rows, the columns of its tables, and how things are called. */
import type { PaperResults } from "../paper/paper-results.js";
import type { OperatingPoint, ResultRow, Results } from "../results.js";
import { metricTitle } from "../table/table-three.js";

export interface ReportOptions {
  /** @default "Early exit for language models" */
  readonly title?: string;
  /** Column order. @default order of first appearance in the rows */
  readonly tasks?: readonly string[];
  /** Row order. @default order of first appearance in the rows */
  readonly methods?: readonly string[];
  readonly taskTitles?: Readonly<Record<string, string>>;
  readonly methodTitles?: Readonly<Record<string, string>>;
  /** The split that comes first and that averages are over. @default "dev" */
  readonly split?: string;
  /** What `bench paper` adds. */
  readonly paper?: PaperResults;
}

/** A task on a split: what the report shows beside each other. */
export interface Column {
  readonly task: string;
  readonly split: string;
  readonly title: string;
  readonly metric: string;
  readonly metricTitle: string;
  readonly rows: readonly ResultRow[];
}

export interface View {
  readonly title: string;
  readonly split: string;
  readonly results: Results;
  readonly paper: PaperResults | undefined;
  readonly rows: readonly ResultRow[];
  readonly columns: readonly Column[];
  /** In table order; the place of a method decides on its colour and marker. */
  readonly methods: readonly string[];
  readonly seeds: readonly number[];
  /** What leaves at a layer and is counted, and what intervals draw from. */
  readonly unit: { readonly leaving: "inputs" | "tokens"; readonly drawn: "rows" | "texts" };
  taskTitle(task: string): string;
  methodTitle(method: string): string;
}

export const pointTitles: Readonly<Record<OperatingPoint, string>> = {
  full: "full depth",
  "one-percent": "within 1 %",
  "no-loss": "no loss",
  curve: "curve",
};

/** The points that are chosen by a rule, the one that tables lead with first. */
export const chosenPoints = ["one-percent", "no-loss"] as const;

export function viewOf(results: Results, options: ReportOptions = {}): View {
  const { rows, failures = [], leftOut = [] } = results;
  const split = options.split ?? "dev";
  const unique = (names: readonly string[], more: readonly string[] = []) => [
    ...new Set([...names, ...more]),
  ];
  const cells = [...rows, ...failures, ...leftOut];
  const tasks = unique(
    options.tasks ?? [],
    cells.map(({ task }) => task),
  );
  const methods = unique(
    options.methods ?? [],
    cells.map(({ method }) => method),
  );
  const taskTitle = (task: string) => options.taskTitles?.[task] ?? task;
  const columns = tasks.flatMap((task) => {
    const own = rows.filter((row) => row.task === task);
    const splits = unique(own.map((row) => row.split)).sort(
      (a, b) => Number(b === split) - Number(a === split),
    );
    return splits.map((name): Column => {
      const ofSplit = own.filter((row) => row.split === name);
      const metric = ofSplit[0]!.metric;
      return {
        task,
        split: name,
        title: name === split ? taskTitle(task) : `${taskTitle(task)}, ${name}`,
        metric,
        metricTitle: metricTitle(metric),
        rows: ofSplit,
      };
    });
  });
  return {
    title: options.title ?? "Early exit for language models",
    split,
    results,
    paper: options.paper,
    rows,
    columns,
    methods,
    seeds: [...new Set(rows.map(({ seed }) => seed))].sort((a, b) => a - b),
    unit: isGeneration(rows)
      ? { leaving: "tokens", drawn: "texts" }
      : { leaving: "inputs", drawn: "rows" },
    taskTitle,
    methodTitle: (method) => options.methodTitles?.[method] ?? method,
  };
}

function isGeneration(rows: readonly ResultRow[]): boolean {
  return rows.some(({ texts }) => texts !== undefined);
}

/** A method that only has a full-depth row is a reference, not a competitor. */
export function isReference(view: View, method: string): boolean {
  const own = view.rows.filter((row) => row.method === method);
  return own.length > 0 && own.every(({ operatingPoint }) => operatingPoint === "full");
}

/** A share as per cent with one decimal, without the sign. */
export function percent(value: number): string {
  return minus((100 * value).toFixed(1));
}

/** A saving as the paper prints it, with a real minus sign: `−53%`; `+4%` where it costs. */
export function savedText(saved: number): string {
  const value = Math.round(100 * saved);
  return value === 0 ? "0%" : value > 0 ? `−${value}%` : `+${-value}%`;
}

/** What was saved in time, with what single rounds saved, least first. */
export function savedTimeText({
  savedRuntime,
  savedRuntimeRange,
}: Pick<ResultRow, "savedRuntime" | "savedRuntimeRange">): string {
  if (savedRuntime === null) return "–";
  const rounds = savedRuntimeRange?.map(savedText).join(" to ");
  return `${savedText(savedRuntime)}${rounds === undefined ? "" : ` (rounds ${rounds})`}`;
}

export function knobText(value: number): string {
  return minus(String(Number(value.toPrecision(4))));
}

function minus(text: string): string {
  return text.replace("-", "−");
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
