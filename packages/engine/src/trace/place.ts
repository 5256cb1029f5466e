/** @file Finds the line of a traced function that is being run. */
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** `src` of this package, or `dist`, where all modules are one. */
const OWN_FOLDER = dirname(fileURLToPath(import.meta.url)).replace(/[/\\]trace$/, "");

/** The innermost stack frame that belongs neither to TensorFlow.js nor to the tracer: `file.ts:12:5`. */
export function placeInFunction(): string | undefined {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 60;
  const stack = new Error().stack ?? "";
  Error.stackTraceLimit = limit;
  for (const line of stack.split("\n").slice(1)) {
    if (line.includes("@tensorflow") || line.includes(OWN_FOLDER) || line.includes("node:"))
      continue;
    const found = /([^\s()]+:\d+:\d+)\)?$/.exec(line)?.[1];
    if (found) return found.replace(/^file:\/\//, "");
  }
  return undefined;
}
