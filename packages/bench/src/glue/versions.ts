/** @file What a run was made with: package versions and the machine. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, totalmem } from "node:os";
import type { Engine } from "@cee/engine";

const own = ["bench", "engine", "backbone", "exit-policies", "consistentee"].map(
  (name) => `@cee/${name}`,
);

/** Versions of Node, this project's packages, and what computes. */
export function versionsOf({ runtime }: Engine): Record<string, string> {
  const require = createRequire(import.meta.url);
  const versions: Record<string, string> = { node: process.versions.node, runtime };
  for (const name of [...own, "@tensorflow/tfjs"]) add(versions, name, require);
  // ONNX Runtime is a dependency of the engine and need not be visible from here.
  const engine = manifestOf("@cee/engine", require);
  if (runtime !== "eager" && engine) add(versions, runtime, createRequire(engine));
  return versions;
}

export function machineOf({ threads }: Engine): Record<string, string | number> {
  return {
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() || "unknown",
    processors: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    threads,
  };
}

function add(versions: Record<string, string>, name: string, require: NodeJS.Require): void {
  const manifest = manifestOf(name, require);
  if (manifest === undefined) return;
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version?: unknown };
  if (typeof version === "string") versions[name] = version;
}

function manifestOf(name: string, require: NodeJS.Require): string | undefined {
  try {
    return require.resolve(`${name}/package.json`);
  } catch {
    return undefined;
  }
}
