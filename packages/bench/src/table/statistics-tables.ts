/**
 * @file The tables behind the main one: intervals and what was measured side by side, methods at equal speed and equal
 * score, pairs of methods, classes.
 */
import { meanAndError, median } from "../metrics/statistics.js";
import type { Comparison, MatchedFields, ResultRow, Results } from "../results.js";
import type { Cell, Column, Table, TableRow } from "./table.js";
import { formatSaved } from "./table-three.js";

export interface StatisticsTablesOptions {
  /** @default order of first appearance in the rows */
  readonly tasks?: readonly string[];
  /** @default order of first appearance in the rows */
  readonly methods?: readonly string[];
  readonly taskTitles?: Readonly<Record<string, string>>;
  readonly methodTitles?: Readonly<Record<string, string>>;
}

interface Names {
  readonly tasks: readonly string[];
  readonly methods: readonly string[];
  readonly taskTitle: (task: string) => string;
  readonly methodTitle: (method: string) => string;
}

/** Every table that the results have numbers for. */
export function statisticsTables(results: Results, options: StatisticsTablesOptions = {}): Table[] {
  const { rows } = results;
  const names: Names = {
    tasks: options.tasks ?? [...new Set(rows.map(({ task }) => task))],
    methods: options.methods ?? [...new Set(rows.map(({ method }) => method))],
    taskTitle: (task) => options.taskTitles?.[task] ?? task,
    methodTitle: (method) => options.methodTitles?.[method] ?? method,
  };
  const tables = [
    intervalsTable(rows, names),
    heldOutTable(rows, names),
    speedTable(results.matched ?? [], names),
    scoreTable(results.matched ?? [], names),
    pairsTable(results.comparisons ?? [], names),
    classesTable(rows, names),
  ];
  return tables.filter((table) => table.rows.length > 0);
}

const text = (value: string, bold = false): Cell => ({ text: value, ...(bold ? { bold } : {}) });
const left = (title: string): Column => ({ title, align: "left" });
const percent = (value: number) => (100 * value).toFixed(1);
const layers = (value: number) => value.toFixed(2);
const pValue = (p: number) => (p < 0.001 ? "<0.001" : p.toFixed(3));

/** Rows of a point in the order of tasks, methods and seeds. */
function ordered(rows: readonly ResultRow[], { tasks, methods }: Names): ResultRow[] {
  const known = rows.filter(({ task, method }) => tasks.includes(task) && methods.includes(method));
  return known.sort(
    (a, b) =>
      tasks.indexOf(a.task) - tasks.indexOf(b.task) ||
      methods.indexOf(a.method) - methods.indexOf(b.method) ||
      a.split.localeCompare(b.split) ||
      a.operatingPoint.localeCompare(b.operatingPoint) ||
      a.seed - b.seed,
  );
}

function where(
  { task, method, split, seed }: ResultRow,
  { taskTitle, methodTitle }: Names,
): Cell[] {
  const place = split === "dev" ? taskTitle(task) : `${taskTitle(task)}, ${split}`;
  return [text(place), text(methodTitle(method)), text(String(seed))];
}

function range(interval: readonly [number, number], format: (value: number) => string): string {
  return `[${interval.map(format).join(", ")}]`;
}

function intervalsTable(rows: readonly ResultRow[], names: Names): Table {
  const shown = ordered(
    rows.filter(({ intervals, operatingPoint }) => intervals && operatingPoint !== "curve"),
    names,
  );
  return {
    caption: "Operating points with 95 % paired-bootstrap intervals over rows",
    columns: [
      left("Task"),
      left("Method"),
      { title: "Seed" },
      left("Point"),
      { title: "Score" },
      { title: "95 %" },
      { title: "Against full depth" },
      { title: "Mean exit" },
      { title: "95 %" },
      { title: "Saved layers" },
      { title: "Saved time" },
      left("Early exits"),
    ],
    rows: shown.map((row) => {
      const { intervals, meanExitLayer, savedLayers, earlyExits } = row;
      if (!intervals) throw new Error("internal: a row without intervals");
      const { low, high } = intervals.scoreDifference;
      return {
        cells: [
          ...where(row, names),
          text(row.operatingPoint),
          text(percent(row.score)),
          text(range(intervals.score, percent)),
          text(row.operatingPoint === "full" ? "" : range([low, high], percent)),
          text(meanExitLayer === null ? "–" : layers(meanExitLayer)),
          text(intervals.meanExitLayer ? range(intervals.meanExitLayer, layers) : "–"),
          text(savedLayers === null ? "–" : formatSaved(savedLayers)),
          text(savedTime(row)),
          earlyExits?.majorityOnly ? text(`only ${earlyExits.answer}`, true) : text(""),
        ],
      };
    }),
    notes: [
      "Saved layers and saved time as the paper prints them: -53% saves 53 %. Time was measured at batch 1 against full depth in the same run; in brackets, the least and the most that single rounds saved.",
      ...(shown.some(({ earlyExits }) => earlyExits?.majorityOnly)
        ? ["only …: what left early was answered with the majority class and nothing else."]
        : []),
    ],
  };
}

/** With the range over rounds, so that a time that means little is seen to. */
function savedTime({ savedRuntime, savedRuntimeRange }: ResultRow): string {
  if (savedRuntime === null) return "–";
  const saved = formatSaved(savedRuntime);
  return savedRuntimeRange ? `${saved} ${range(savedRuntimeRange, formatSaved)}` : saved;
}

function heldOutTable(rows: readonly ResultRow[], names: Names): Table {
  const shown = ordered(
    rows.filter(({ heldOut }) => heldOut),
    names,
  );
  return {
    caption: "Points chosen on one half of the rows, reported on the other",
    columns: [
      left("Task"),
      left("Method"),
      { title: "Seed" },
      left("Rule"),
      { title: "Knob" },
      { title: "Score" },
      { title: "Full depth" },
      { title: "Loss, relative" },
      { title: "Standard error" },
      { title: "Balanced acc" },
      { title: "Saved layers" },
    ],
    rows: shown.map((row) => {
      const { heldOut } = row;
      if (!heldOut) throw new Error("internal: a row without a held-out point");
      const { knob, balancedAccuracy, savedLayers } = heldOut;
      return {
        cells: [
          ...where(row, names),
          text(row.operatingPoint),
          text(knob ? `${knob.name} ${knob.value}` : "–"),
          text(percent(heldOut.score)),
          text(percent(heldOut.fullScore)),
          text(`${percent(heldOut.relativeLoss)} %`),
          text(percent(heldOut.standardError)),
          text(balancedAccuracy === null ? "–" : percent(balancedAccuracy)),
          text(savedLayers === null ? "–" : formatSaved(savedLayers)),
        ],
      };
    }),
  };
}

function speedTable(matched: readonly MatchedFields[], names: Names): Table {
  const speeds = matched[0]?.atSpeed.map(({ savedLayers }) => savedLayers) ?? [];
  return matchedTable(matched, names, {
    caption: "Scores at equal shares of saved layers, between the points of each curve",
    columns: [...speeds.map((speed) => formatSaved(speed)), "Mean over the shared range"],
    cells: ({ atSpeed, area }) => [
      ...atSpeed.map(({ score }) => score),
      area === null ? null : area.score,
    ],
    format: percent,
  });
}

function scoreTable(matched: readonly MatchedFields[], names: Names): Table {
  const shares = matched[0]?.atScore.map(({ relativeScore }) => relativeScore) ?? [];
  return matchedTable(matched, names, {
    caption: "Saved layers at equal shares of full depth's score, between the points of each curve",
    columns: shares.map((share) => `${100 * share} %`),
    cells: ({ atScore }) => atScore.map(({ savedLayers }) => savedLayers),
    format: (value) => `${percent(value)} %`,
  });
}

function matchedTable(
  matched: readonly MatchedFields[],
  { tasks, methods, taskTitle, methodTitle }: Names,
  {
    caption,
    columns,
    cells,
    format,
  }: {
    readonly caption: string;
    readonly columns: readonly string[];
    readonly cells: (fields: MatchedFields) => readonly MatchedFields["atSpeed"][number]["score"][];
    readonly format: (value: number) => string;
  },
): Table {
  const rows: TableRow[] = [];
  for (const task of tasks)
    for (const split of new Set(matched.map((fields) => fields.split))) {
      const own = methods.flatMap((method) =>
        matched.filter(
          (fields) => fields.task === task && fields.split === split && fields.method === method,
        ),
      );
      const best = columns.map((_, at) =>
        Math.max(...own.map((fields) => cells(fields)[at]?.mean ?? Number.NEGATIVE_INFINITY)),
      );
      for (const [index, fields] of own.entries())
        rows.push({
          ruled: index === 0 && rows.length > 0,
          cells: [
            text(split === "dev" ? taskTitle(task) : `${taskTitle(task)}, ${split}`),
            text(methodTitle(fields.method)),
            ...cells(fields).map((value, at) => {
              if (value === null) return text("–");
              const spread = fields.seeds > 1 ? ` ±${percent(value.standardError)}` : "";
              return text(format(value.mean) + spread, value.mean === best[at]);
            }),
          ],
        });
    }
  return {
    caption,
    columns: [left("Task"), left("Method"), ...columns.map((title) => ({ title }))],
    rows,
    notes: [
      "– The curve does not reach there. Bold: the best of the task.",
      ...(matched.some(({ seeds }) => seeds > 1) ? ["± Standard error over seeds."] : []),
    ],
  };
}

/** Pairs of methods; several seeds become the median p-value, which one lucky seed can't lower. */
function pairsTable(comparisons: readonly Comparison[], names: Names): Table {
  const { tasks, methods, taskTitle, methodTitle } = names;
  const groups = new Map<string, Comparison[]>();
  for (const comparison of comparisons) {
    if (comparison.operatingPoint !== "one-percent") continue;
    const { task, split, first, second } = comparison;
    if (!tasks.includes(task) || !methods.includes(first) || !methods.includes(second)) continue;
    const key = JSON.stringify([task, split, first, second]);
    groups.set(key, [...(groups.get(key) ?? []), comparison]);
  }
  const rows = [...groups.values()].map((group): TableRow => {
    const { task, split, first, second } = group[0] as Comparison;
    const mean = (of: (one: Comparison) => number) => meanAndError(group.map(of)).mean;
    const score = mean(({ scoreDifference }) => scoreDifference.estimate);
    const hasExits = group.every(({ exitDifference }) => exitDifference);
    const hasTest = group.every(({ mcNemar }) => mcNemar);
    const p = median(group.map(({ scoreDifference }) => scoreDifference.holmP));
    return {
      cells: [
        text(split === "dev" ? taskTitle(task) : `${taskTitle(task)}, ${split}`),
        text(`${methodTitle(first)} – ${methodTitle(second)}`),
        text(`${score >= 0 ? "+" : ""}${percent(score)}`),
        text(pValue(p), p < 0.05),
        text(hasTest ? pValue(median(group.map((one) => one.mcNemar?.holmP ?? 1))) : "–"),
        text(hasExits ? signed(mean((one) => one.exitDifference?.estimate ?? 0)) : "–"),
        text(hasExits ? pValue(median(group.map((one) => one.exitDifference?.holmP ?? 1))) : "–"),
      ],
    };
  });
  return {
    caption: "Pairs of methods at their one-percent points, on the same rows",
    columns: [
      left("Task"),
      left("Pair"),
      { title: "Score" },
      { title: "p" },
      { title: "p, McNemar" },
      { title: "Mean exit" },
      { title: "p" },
    ],
    rows,
    notes: [
      "p by paired bootstrap, McNemar's exact; after Holm's correction over all pairs of a task. Points differ in speed: compare curves too.",
      ...([...groups.values()].some(({ length }) => length > 1)
        ? ["Several seeds: mean difference and median p."]
        : []),
    ],
  };
}

function signed(value: number): string {
  return `${value >= 0 ? "+" : ""}${layers(value)}`;
}

function classesTable(rows: readonly ResultRow[], names: Names): Table {
  const shown = ordered(
    rows.filter(({ perClass, operatingPoint }) => perClass && operatingPoint === "one-percent"),
    names,
  );
  return {
    caption: "Classes at the one-percent point",
    columns: [
      left("Task"),
      left("Method"),
      { title: "Seed" },
      left("Class"),
      { title: "Rows" },
      { title: "Recall" },
      { title: "Answered" },
      { title: "Mean exit" },
    ],
    rows: shown.flatMap((row) =>
      (row.perClass ?? []).map(({ label, n, accuracy, predicted, meanExitLayer }) => ({
        cells: [
          ...where(row, names),
          text(label),
          text(String(n)),
          text(percent(accuracy)),
          text(String(predicted)),
          text(meanExitLayer === null ? "–" : layers(meanExitLayer)),
        ],
      })),
    ),
  };
}
