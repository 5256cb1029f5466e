/** @file Reads `paper.json` back: a file that may come from anywhere is checked before anything is drawn from it. */
import { readFile } from "node:fs/promises";
import { BenchError } from "../errors.js";
import type { PaperResults } from "../paper/paper-results.js";
import { mismatch, type Shape } from "../shape.js";

const point = { alpha: "number", seed: "number", speedup: "number", score: "number" } as const;

const shape: Shape = {
  command: "text",
  tasks: ["text"],
  table1: [
    {
      task: "text",
      seed: "number",
      n: "number",
      loss: "number",
      forgetting: "number",
      evaluations: "number",
      neverRight: "number",
    },
  ],
  table2: [
    {
      task: "text",
      classes: "number",
      metric: "text",
      train: "number",
      dev: "number",
      devMismatched: "number?",
      test: "number?",
      malformed: "number",
      meanWords: "number",
      majority: "number?",
    },
  ],
  figure2: [
    {
      task: "text",
      seed: "number",
      objective: "text",
      alpha: "number?",
      boundary: "number",
      largestLoss: "number",
      layers: [
        {
          layer: "number",
          n: "number",
          accuracy: "number?",
          meanLoss: "number?",
          bins: ["number"],
        },
      ],
    },
  ],
  figure3: [
    {
      task: "text",
      method: "text",
      metric: "text",
      fullScore: "number",
      points: [{ savedLayers: "number", score: "number", knob: "number?", seed: "number" }],
    },
  ],
  figure4: [
    {
      task: "text",
      metric: "text",
      vanilla: [point],
      hardness: [point],
      atEqualSpeedup: [{ speedup: "number", vanilla: "number", hardness: "number" }],
    },
  ],
  failures: [{ part: "text", message: "text" }],
};

/** @throws BenchError `MISSING_FILE` or `BAD_RESULTS` */
export async function readPaper(file: string): Promise<PaperResults> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const message = `can't be read: ${(cause as Error).message}.`;
    throw new BenchError("MISSING_FILE", file, message, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const message = `expected JSON, got ${text.length} characters that don't parse. Make it again with bench paper.`;
    throw new BenchError("BAD_RESULTS", file, message, { cause });
  }
  const problem =
    (json as { schema?: unknown } | null)?.schema === 1
      ? mismatch(json, shape, "")
      : "schema: expected 1";
  if (problem !== undefined) {
    throw new BenchError("BAD_RESULTS", file, `${problem}. Make it again with bench paper.`);
  }
  return json as PaperResults;
}
