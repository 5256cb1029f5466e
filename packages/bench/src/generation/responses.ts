/** @file What methods wrote behind the first prompts, kept beside the cells for the report of a resumed run. */
import { existsSync } from "node:fs";
import path from "node:path";
import { readJson } from "../glue/cells.js";
import { type ResultRow, writeFileWhole } from "../results.js";

/** Prompts whose responses are kept for the report. */
export const SAMPLES = 4;

/** What a method wrote behind the first prompts, at every point. */
export interface CellResponses {
  readonly method: string;
  readonly points: readonly {
    readonly knob: ResultRow["knob"];
    readonly speedup: number;
    readonly texts: readonly string[];
    readonly scores: readonly number[];
  }[];
}

export interface ResponsesFolder {
  read(task: string, method: string): CellResponses | undefined;
  write(task: string, responses: CellResponses): Promise<void>;
}

export function openResponses(folder: string): ResponsesFolder {
  const fileOf = (task: string, method: string) => path.join(folder, `${task}.${method}.json`);
  return {
    read(task, method) {
      const file = fileOf(task, method);
      if (!existsSync(file)) return undefined;
      return readJson(file, "Delete it; its cell will run again.") as unknown as CellResponses;
    },
    write: (task, responses) =>
      writeFileWhole(fileOf(task, responses.method), `${JSON.stringify(responses)}\n`),
  };
}
