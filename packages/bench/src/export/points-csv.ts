/** @file Every row of a run as CSV: one line per point of every curve and per operating point, numbers as they are. */
import type { ResultRow } from "../results.js";
import { type Table, toCsv } from "../table/table.js";

type Value = string | number | boolean | null | undefined;

/** Column name and what it holds; a gap is empty. */
const columns: readonly (readonly [name: string, value: (row: ResultRow) => Value])[] = [
  ["task", ({ task }) => task],
  ["method", ({ method }) => method],
  ["seed", ({ seed }) => seed],
  ["split", ({ split }) => split],
  ["operatingPoint", ({ operatingPoint }) => operatingPoint],
  ["knobName", ({ knob }) => knob?.name],
  ["knobValue", ({ knob }) => knob?.value],
  ["metric", ({ metric }) => metric],
  ["score", ({ score }) => score],
  ["scoreLow", ({ intervals }) => intervals?.score[0]],
  ["scoreHigh", ({ intervals }) => intervals?.score[1]],
  ["fullScore", ({ fullScore }) => fullScore],
  ["layers", ({ layers }) => layers],
  ["meanExitLayer", ({ meanExitLayer }) => meanExitLayer],
  ["meanExitLayerLow", ({ intervals }) => intervals?.meanExitLayer?.[0]],
  ["meanExitLayerHigh", ({ intervals }) => intervals?.meanExitLayer?.[1]],
  ["savedLayers", ({ savedLayers }) => savedLayers],
  ["speedup", ({ speedup }) => speedup],
  ["cost", ({ cost }) => cost],
  ["savedRuntime", ({ savedRuntime }) => savedRuntime],
  ["savedRuntimeLow", ({ savedRuntimeRange }) => savedRuntimeRange?.[0]],
  ["savedRuntimeHigh", ({ savedRuntimeRange }) => savedRuntimeRange?.[1]],
  ["n", ({ n }) => n],
  ["exitHistogram", ({ exitHistogram }) => exitHistogram?.join(" ")],
  ["heldOutScore", ({ heldOut }) => heldOut?.score],
  ["heldOutFullScore", ({ heldOut }) => heldOut?.fullScore],
  ["heldOutSavedLayers", ({ heldOut }) => heldOut?.savedLayers],
  ["earlyExitsMajorityOnly", ({ earlyExits }) => earlyExits?.majorityOnly],
  ["options", ({ options }) => JSON.stringify(options)],
];

export function toPointsCsv(rows: readonly ResultRow[]): string {
  const table: Table = {
    columns: columns.map(([title]) => ({ title })),
    rows: rows.map((row) => ({
      cells: columns.map(([, value]) => ({ text: String(value(row) ?? "") })),
    })),
  };
  return toCsv(table);
}
