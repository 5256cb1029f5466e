/**
 * @file Two runs of `pnpm bench glue` on different backbones, paired by seed: how much better the first one is at full
 * depth on each task, with a 95 % t interval over seeds, and the mean score after every layer where a run has them. Tasks with two
 * metrics have three rows: each one, and their mean, which is what GLUE (Wang et al. 2018) takes as such a task's score.
 *
 * Usage: tsx --conditions=@cee/source packages/bench/scripts/compare-backbones.ts first=runs/a second=runs/b
 * Both runs need `--methods full`, the same tasks and seeds; scores per layer come from `--strategy always-at`.
 */
import { join } from "node:path";
import { readResults } from "../src/results.js";
import { readSettings } from "./settings.js";

/** Student's t at 0.975 by degrees of freedom. */
const T_975 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

const { text } = readSettings(["first", "second"]);
const [first, second] = await Promise.all(
  [text("first"), text("second")].map((folder) => readResults(join(folder ?? "", "results.json"))),
);
if (!first || !second) throw new Error("give first=<run folder> and second=<run folder>");

const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
const percent = (share: number) => (100 * share).toFixed(1);
type Row = (typeof first.rows)[number];
/** What a task is scored by, with the scores whose mean each is. */
function metricsOf(rows: readonly Row[]): readonly [string, readonly string[]][] {
  const metric = rows[0]?.metric ?? "";
  const hasBoth = rows.every(
    ({ scores }) => scores?.f1 !== undefined && scores.accuracy !== undefined,
  );
  if (!hasBoth) return [[metric, [metric]]];
  return [
    ["f1", ["f1"]],
    ["accuracy", ["accuracy"]],
    ["mean of both", ["f1", "accuracy"]],
  ];
}
const tasks = [...new Set(first.rows.map(({ task }) => task))];

console.log(`first: ${first.command}\nsecond: ${second.command}\n`);
console.log("| task | metric | seeds | first | second | difference | s.e. | 95 % interval |");
console.log("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
for (const task of tasks) {
  const full = (rows: typeof first.rows) =>
    rows.filter((row) => row.task === task && row.operatingPoint === "full");
  const pairs = full(first.rows).flatMap((row) => {
    const other = full(second.rows).find(({ seed }) => seed === row.seed);
    return other ? [{ row, other }] : [];
  });
  if (pairs.length < 2) {
    console.log(`| ${task} | | ${pairs.length} | | | | | too few seeds |`);
    continue;
  }
  for (const [metric, names] of metricsOf(pairs.map(({ row }) => row))) {
    const scoreOf = ({ score, scores }: Row) => mean(names.map((name) => scores?.[name] ?? score));
    const differences = pairs.map(({ row, other }) => scoreOf(row) - scoreOf(other));
    const difference = mean(differences);
    const variance =
      differences.reduce((sum, x) => sum + (x - difference) ** 2, 0) / (differences.length - 1);
    const error = Math.sqrt(variance / differences.length);
    const reach = (T_975[differences.length - 2] ?? 1.96) * error;
    const scores = [
      mean(pairs.map(({ row }) => scoreOf(row))),
      mean(pairs.map(({ other }) => scoreOf(other))),
      difference,
      error,
    ].map(percent);
    console.log(
      `| ${task} | ${metric} | ${pairs.length} | ${scores.join(" | ")} | ${percent(difference - reach)} to ${percent(difference + reach)} |`,
    );
  }
}

const depth = Math.max(...[...first.rows, ...second.rows].map(({ layers }) => layers ?? 0));
const layers = Array.from({ length: depth }, (_, index) => index + 1);
console.log(`\n| task | backbone | ${layers.map((layer) => `layer ${layer}`).join(" | ")} |`);
console.log(`| --- | --- |${" ---: |".repeat(depth)}`);
for (const task of tasks) {
  for (const [name, { rows }] of Object.entries({ first, second })) {
    const scores = layers.map((layer) =>
      mean(
        rows
          .filter(
            (row) =>
              row.task === task &&
              row.method === "always-at" &&
              row.operatingPoint === "curve" &&
              row.knob?.value === layer,
          )
          .map(({ score }) => score),
      ),
    );
    const cells = scores.map((score) => (Number.isNaN(score) ? "–" : percent(score)));
    console.log(`| ${task} | ${name} | ${cells.join(" | ")} |`);
  }
}
