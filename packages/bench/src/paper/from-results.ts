/** @file The parts of `paper.json` that follow from loaded data (Table 2) and from result rows (Figures 3 and 4). */
import type { DataRow, LoadedTask } from "../data/task.js";
import { meanAndError } from "../metrics/statistics.js";
import { frontier, scoreAt } from "../protocol/matched.js";
import type { ResultRow } from "../results.js";
import type { Figure3Curve, Figure4Point, Figure4Task, Table2Row } from "./paper-results.js";

export function table2Row({ task, splits, problems }: LoadedTask): Table2Row {
  const { train, dev, devMismatched, test } = splits;
  const words = ({ text, pair }: DataRow) =>
    `${text} ${pair ?? ""}`.split(/\s+/).filter((word) => word !== "").length;
  const counts = new Map<number, number>();
  for (const { label } of dev) counts.set(label, (counts.get(label) ?? 0) + 1);
  return {
    task: task.name,
    classes: task.regression ? 1 : task.labels.length,
    metric: task.metric,
    train: train.length,
    dev: dev.length,
    devMismatched: devMismatched?.length ?? null,
    test: test?.length ?? null,
    malformed: problems.reduce((sum, { count }) => sum + count, 0),
    meanWords: train.reduce((sum, row) => sum + words(row), 0) / Math.max(1, train.length),
    majority: task.regression ? null : Math.max(...counts.values()) / dev.length,
  };
}

function curveRows(rows: readonly ResultRow[]): ResultRow[] {
  return rows.filter(
    (row) => row.operatingPoint === "curve" && row.split === "dev" && row.savedLayers !== null,
  );
}

/** Every method's curve on every task, in order of first appearance. */
export function figure3(rows: readonly ResultRow[]): Figure3Curve[] {
  const groups = new Map<string, ResultRow[]>();
  for (const row of curveRows(rows)) {
    const key = JSON.stringify([row.task, row.method]);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map((own) => {
    const { task, method, metric } = own[0] as ResultRow;
    const bySeed = new Map(own.map(({ seed, fullScore }) => [seed, fullScore]));
    return {
      task,
      method,
      metric,
      fullScore: meanAndError([...bySeed.values()]).mean,
      points: own
        .map(({ savedLayers, score, knob, seed }) => ({
          savedLayers: savedLayers as number,
          score,
          knob: knob?.value ?? null,
          seed,
        }))
        .sort((a, b) => a.savedLayers - b.savedLayers || a.seed - b.seed),
    };
  });
}

/** Speed-ups that both rewards are read at. */
const SPEEDUPS = [1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6];

/** Both rewards on every task that has both. */
export function figure4(rows: readonly ResultRow[]): Figure4Task[] {
  const known = curveRows(rows);
  return [...new Set(known.map(({ task }) => task))].flatMap((task): Figure4Task[] => {
    const own = known.filter((row) => row.task === task);
    const vanilla = own.filter(({ method }) => method === "consistentee-vanilla");
    const hardness = own.filter(({ method }) => method === "consistentee");
    const [first] = hardness;
    if (!first || vanilla.length === 0) return [];
    const atEqualSpeedup = SPEEDUPS.flatMap((speedup) => {
      // Equal price per layer is not equal speed: the hardness-guided reward presses less at the same alpha.
      const a = meanAt(vanilla, 1 - 1 / speedup);
      const b = meanAt(hardness, 1 - 1 / speedup);
      return a === null || b === null ? [] : [{ speedup, vanilla: a, hardness: b }];
    });
    return [
      {
        task,
        metric: first.metric,
        vanilla: pointsOf(vanilla),
        hardness: pointsOf(hardness),
        atEqualSpeedup,
      },
    ];
  });
}

function pointsOf(rows: readonly ResultRow[]): Figure4Point[] {
  return rows
    .map(({ knob, seed, speedup, score }) => ({
      alpha: knob?.value ?? 0,
      seed,
      speedup: speedup as number,
      score,
    }))
    .sort((a, b) => a.alpha - b.alpha || a.seed - b.seed);
}

/** Mean over seeds; null when one seed's curve does not reach. */
function meanAt(rows: readonly ResultRow[], savedLayers: number): number | null {
  const scores = [...new Set(rows.map(({ seed }) => seed))].map((seed) => {
    const own = rows.filter((row) => row.seed === seed);
    const points = own.map((row) => ({ savedLayers: row.savedLayers as number, score: row.score }));
    return scoreAt(frontier(points, (own[0] as ResultRow).fullScore), savedLayers);
  });
  const known = scores.filter((score) => score !== null);
  return known.length < scores.length ? null : meanAndError(known).mean;
}
