/** @file Finished parts of a run as files, so that a run that was stopped goes on behind them. */
import { existsSync } from "node:fs";
import path from "node:path";
import { BenchError } from "../errors.js";
import { formatJson } from "../format-json.js";
import { readJson } from "../glue/cells.js";
import { writeFileWhole } from "../results.js";
import { mismatch, type Shape } from "../shape.js";
import type { SpeedResults } from "./results.js";

/** What a part adds to the results. */
export type Measured = Partial<
  Pick<SpeedResults, "depths" | "mixed" | "full" | "throughput" | "decide" | "latency" | "memory">
>;

export interface FinishedPart {
  /** When it was finished. */
  readonly date: string;
  readonly measured: Measured;
  /** What was compared with, and what could not be. */
  readonly versions: Readonly<Record<string, string>>;
  readonly notes: readonly string[];
}

export interface FinishedParts {
  /** @throws BenchError `BAD_RESULTS` for a damaged one */
  read(name: string): FinishedPart | undefined;
  write(name: string, part: FinishedPart): Promise<void>;
}

const interval: Shape = { estimate: "number", low: "number", high: "number" };
const timed = { system: "text", rounds: ["number"], median: "number", ratio: interval } as const;
const pair: Shape = ["number"];

const measured: Shape = {
  "depths?": [{ width: "number", layer: "number", timed: [timed] }],
  "mixed?": [
    {
      ...{ width: "number", batch: "number", meanExitLayer: "number", idealGain: "number" },
      timed: [{ ...timed, efficiency: interval }],
    },
  ],
  "full?": [{ width: "number", batch: "number", timed: [timed] }],
  "throughput?": [
    {
      ...{ width: "number", data: "text", sentences: "number" },
      timed: [{ ...timed, sentencesPerSecond: "number" }],
    },
  ],
  "decide?": [{ width: "number", strategy: "text", share: interval }],
  "latency?": [
    {
      ...{ model: "text", system: "text", load: { oneOf: ["number", "text"] } },
      ...{ requests: "number", p50: interval, p95: interval, p99: interval },
      ...{ meanExitLayer: "number", accuracy: "number?" },
    },
  ],
  "memory?": { calls: pair, resident: pair, tensors: pair },
};

export function openFinished(folder: string): FinishedParts {
  const fileOf = (name: string) => path.join(folder, `${name}.json`);
  return {
    read(name) {
      const file = fileOf(name);
      if (!existsSync(file)) return undefined;
      const advice = "Delete it; its part will be measured again.";
      const part = readJson(file, advice);
      const problem = mismatch(part, { date: "text", measured, versions: {}, notes: ["text"] }, "");
      if (problem === undefined) return part as unknown as FinishedPart;
      throw new BenchError("BAD_RESULTS", file, `${problem}. ${advice}`);
    },
    write: (name, part) => writeFileWhole(fileOf(name), `${formatJson(part)}\n`),
  };
}
