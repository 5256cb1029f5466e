/** @file Runs the tiny training in a process of its own, for a test that kills it or fills its disk. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const { out, killAt } = JSON.parse(process.argv[2] as string) as { out: string; killAt: number };

// Counts what writing a checkpoint consists of, and dies at one of these moments: half-way through a write, before the
// flush, or before the rename.
let operations = 0;
const dieNow = () => {
  operations += 1;
  return operations === killAt;
};
const { writeSync, fsyncSync, renameSync } = fs;
fs.writeSync = ((file: number, data: Uint8Array, offset: number, length: number, at?: number) => {
  const dies = dieNow();
  const done = writeSync(file, data, offset, dies ? Math.floor(length / 2) : length, at);
  if (dies) process.kill(process.pid, "SIGKILL");
  return done;
}) as typeof fs.writeSync;
fs.fsyncSync = (file) => {
  if (dieNow()) process.kill(process.pid, "SIGKILL");
  fsyncSync(file);
};
fs.renameSync = (from, to) => {
  if (dieNow()) process.kill(process.pid, "SIGKILL");
  renameSync(from, to);
};
syncBuiltinESMExports();

const { createEngine } = await import("@cee/engine");
const { fit } = await import("../src/train/fit.js");
const { tinyTraining } = await import("./helpers/tiny-training.js");
const engine = await createEngine({ threads: 1 });
try {
  await fit({
    ...tinyTraining(),
    engine,
    out,
    checkpointSeconds: 0,
    // Recorded states go to files, which a killed run leaves behind.
    recordMemory: 0,
    onProgress: ({ phase, step }) => process.stdout.write(`${phase} ${step}\n`),
  });
} catch (error) {
  process.stderr.write(`${(error as { code?: string }).code}: ${error}\n`);
  process.exitCode = 1;
}
await engine.dispose();
