/** @file The operating points of one task, one line each, seed by seed. */
import type { Cell, Table } from "../table/table.js";
import {
  type Column,
  knobText,
  percent,
  pointTitles,
  savedText,
  savedTimeText,
  type View,
} from "./view.js";

export function pointsTable(view: View, { rows, metricTitle }: Column): Table {
  const chosen = rows.filter(({ operatingPoint }) => operatingPoint !== "curve");
  const hasBalanced = chosen.some(({ scores }) => scores?.["balanced-accuracy"] !== undefined);
  const hasTokens = chosen.some(({ tokensPerSecond }) => tokensPerSecond !== undefined);
  const hasCost = chosen.some(({ cost }) => cost !== undefined);
  const cell = (text: string): Cell => ({ text });
  const orDash = (value: number | null | undefined, format: (known: number) => string) =>
    cell(value === null || value === undefined ? "–" : format(value));
  return {
    caption: "Operating points",
    columns: [
      { title: "Method", align: "left" },
      { title: "Point", align: "left" },
      { title: "Seed" },
      { title: "Knob", align: "left" },
      { title: metricTitle },
      { title: "Full" },
      ...(hasBalanced ? [{ title: "Bal. acc" }] : []),
      { title: "Mean layer" },
      { title: "Layers" },
      ...(hasCost ? [{ title: "Operations" }] : []),
      { title: "Time" },
      ...(hasTokens ? [{ title: "Tokens/s" }] : []),
    ],
    rows: view.methods.flatMap((method, methodIndex) =>
      chosen
        .filter((row) => row.method === method)
        .map((row, rowIndex) => ({
          ruled: methodIndex > 0 && rowIndex === 0,
          cells: [
            cell(view.methodTitle(method)),
            cell(pointTitles[row.operatingPoint]),
            cell(String(row.seed)),
            cell(row.knob ? `${row.knob.name} ${knobText(row.knob.value)}` : "–"),
            cell(percent(row.score)),
            cell(percent(row.fullScore)),
            ...(hasBalanced ? [orDash(row.scores?.["balanced-accuracy"], percent)] : []),
            orDash(row.meanExitLayer, (value) => value.toFixed(2)),
            orDash(row.savedLayers, savedText),
            ...(hasCost ? [orDash(row.cost, (value) => savedText(1 - value))] : []),
            cell(savedTimeText(row)),
            ...(hasTokens ? [orDash(row.tokensPerSecond, (value) => value.toFixed(0))] : []),
          ],
        })),
    ),
  };
}
