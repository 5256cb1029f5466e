/** @file What was measured as tables. */
import type { Column, Table, TableRow } from "../table/table.js";
import type { SpeedResults } from "./results.js";
import type { RatioInterval } from "./rounds.js";

const right = (title: string): Column => ({ title });
const left = (title: string): Column => ({ title, align: "left" });
const row = (cells: readonly string[], ruled = false): TableRow => ({
  cells: cells.map((text) => ({ text })),
  ruled,
});

/** A ratio with its 95 % interval. */
export function withInterval({ estimate, low, high }: RatioInterval, digits = 2): string {
  return `${estimate.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}

/** Those that hold anything, bars first. */
export function speedTables(results: SpeedResults): Table[] {
  const { bars, depths, mixed, full, throughput, latency, decide, memory } = results;
  const tables: Table[] = [
    {
      caption: "Bars",
      columns: [left("bar"), right("measured"), right("better end"), left("limit"), left("")],
      rows: bars.map(({ name, value, better, limit, isMet }) =>
        row([name, value.toFixed(3), better.toFixed(3), limit, isMet ? "met" : "NOT MET"]),
      ),
      notes: ["A bar is met when the better end of the 95 % interval reaches it."],
    },
    ...[...new Set(depths.map(({ width }) => width))].map((width): Table => {
      const parts = depths.filter((part) => part.width === width);
      const systems = parts[0]?.timed.map(({ system }) => system) ?? [];
      return {
        caption: `Batch 1, forced exit, width ${width}: time over that of the model that ends there`,
        columns: [
          right("exit layer"),
          right("model that ends there, ms"),
          ...systems.slice(1).map(right),
        ],
        rows: parts.map(({ layer, timed }) =>
          row([
            String(layer),
            (timed[0]?.median ?? Number.NaN).toFixed(2),
            ...timed.slice(1).map(({ ratio }) => withInterval(ratio)),
          ]),
        ),
      };
    }),
    {
      caption:
        "Batches whose rows leave at their own layers: gain over full depth, as a share of the ideal gain",
      columns: [
        right("width"),
        right("batch"),
        right("mean exit"),
        right("ideal gain"),
        right("full depth, ms"),
        ...(mixed[0]?.timed.slice(1).map(({ system }) => right(system)) ?? []),
      ],
      rows: mixed.map(({ width, batch, meanExitLayer, idealGain, timed }) =>
        row([
          String(width),
          String(batch),
          meanExitLayer.toFixed(2),
          idealGain.toFixed(2),
          (timed[0]?.median ?? Number.NaN).toFixed(1),
          ...timed.slice(1).map(({ efficiency }) => withInterval(efficiency)),
        ]),
      ),
      notes: ["Batch 1 goes through sixteen rows, one after the other."],
    },
    {
      caption: "Full depth without exits",
      columns: [
        right("width"),
        right("batch"),
        left("system"),
        right("median ms"),
        right("time over Transformers.js"),
      ],
      rows: full.flatMap(({ width, batch, timed }) =>
        timed.map(({ system, median, ratio }, index) =>
          row(
            [String(width), String(batch), system, median.toFixed(2), withInterval(ratio)],
            index === 0,
          ),
        ),
      ),
    },
    {
      caption: "Sentences to answers, 32 at a time, tokenising included",
      columns: [
        right("width"),
        left("data"),
        left("system"),
        right("sentences/s"),
        right("time over Transformers.js"),
      ],
      rows: throughput.flatMap(({ width, data, timed }) =>
        timed.map(({ system, sentencesPerSecond, ratio }) =>
          row([String(width), data, system, sentencesPerSecond.toFixed(0), withInterval(ratio)]),
        ),
      ),
    },
    {
      caption: "A trained strategy: latency of single requests, ms",
      columns: [
        left("load"),
        left("system"),
        right("p50"),
        right("p95"),
        right("p99"),
        right("mean exit"),
        right("accuracy, %"),
      ],
      rows: latency.map(({ load, system, p50, p95, p99, meanExitLayer, accuracy }, index) =>
        row(
          [
            load === "closed" ? "one after the other" : `${100 * load} % of full depth's capacity`,
            system,
            withInterval(p50, 1),
            withInterval(p95, 1),
            withInterval(p99, 1),
            meanExitLayer.toFixed(2),
            accuracy === null ? "" : (100 * accuracy).toFixed(1),
          ],
          index > 0 && latency[index - 1]?.load !== load,
        ),
      ),
      notes: latency[0]
        ? [`${latency[0].model}, ${latency[0].requests} requests, Poisson arrivals.`]
        : [],
    },
  ];
  const more = [
    ...decide.map(
      ({ width, strategy, share }) =>
        `Decisions on the host (${strategy}, 12 layers, width ${width}): ${(100 * share.estimate).toFixed(3)} % of a run's time.`,
    ),
    ...(memory
      ? [
          `Resident memory after forced garbage collection: ${(memory.resident[0] / 2 ** 20).toFixed(1)} MiB after ${memory.calls[0]} calls, ${(memory.resident[1] / 2 ** 20).toFixed(1)} MiB after ${memory.calls[1]}; tensors ${memory.tensors[0]} and ${memory.tensors[1]}.`,
        ]
      : []),
  ];
  const filled = tables.filter(({ rows }) => rows.length > 0);
  const last = filled.at(-1);
  if (!last || more.length === 0) return filled;
  return [...filled.slice(0, -1), { ...last, notes: [...(last.notes ?? []), ...more] }];
}
