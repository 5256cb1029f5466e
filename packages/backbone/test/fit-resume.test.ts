/** @file A training that is killed at any moment and started again ends as if nothing had happened. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { createEngine, createRng, type Engine, type HostTensor } from "@cee/engine";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readSafetensors } from "../src/safetensors.js";
import { type FitResult, fit } from "../src/train/fit.js";
import { scratchFolder } from "./helpers/scratch.js";
import { tinyTraining } from "./helpers/tiny-training.js";

const KILLS = 20;
const STEPS = 84;
/** Generous: each start loads TensorFlow.js, and other work may share the machine. */
const PATIENCE = 300_000;

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly steps: number;
  readonly errors: string;
}

/** Runs the training in a process; it dies at a file operation, or is killed after some steps. */
function runInChild(
  out: string,
  { killAt = 0, afterSteps = 0, waitMs = 0, blocks = 0 } = {},
): Promise<Ended> {
  const script = new URL("./fit-child.ts", import.meta.url).pathname;
  const command = ["node", "--import", "tsx", "--conditions=@cee/source", script];
  const limit = blocks > 0 ? `trap '' XFSZ; ulimit -f ${blocks}; ` : "";
  const child = spawn(
    "bash",
    ["-c", `${limit}exec "$@"`, "bash", ...command, JSON.stringify({ out, killAt })],
    { cwd: new URL("../../..", import.meta.url).pathname },
  );
  let steps = 0;
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors += data.toString();
  });
  child.stdout.on("data", (data: Buffer) => {
    const before = steps;
    steps += data.toString().split("\n").length - 1;
    if (afterSteps > 0 && before < afterSteps && steps >= afterSteps)
      setTimeout(() => child.kill("SIGKILL"), waitMs);
  });
  return new Promise((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, steps, errors }));
  });
}

let engine: Engine;
let undisturbed: FitResult;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
  undisturbed = await fit({ ...tinyTraining(), engine });
});
afterAll(() => engine.dispose());

const checkpointIn = (out: string) => readSafetensors(join(out, "checkpoint.safetensors"));
function expectUndisturbed(out: string): void {
  const { tensors, metadata } = checkpointIn(out);
  const bits = ({ data }: HostTensor) => Buffer.from(data.slice().buffer);
  for (const [path, tensor] of Object.entries(undisturbed.params))
    expect(bits(tensors[`param/${path}`] as HostTensor).equals(bits(tensor)), path).toBe(true);
  expect(JSON.parse(metadata.progress as string)).toMatchObject({
    done: true,
    reports: JSON.parse(
      JSON.stringify(undisturbed.reports, (_, value) => (Number.isNaN(value) ? "NaN" : value)),
    ),
    trained: undisturbed.trained.paths,
  });
  expect(readdirSync(out)).toEqual(["checkpoint.safetensors"]);
}

describe("a killed training", () => {
  it(
    `continues to bit-identical weights after ${KILLS} kills, in the middle of checkpoints too`,
    async () => {
      const out = scratchFolder();
      const rng = createRng("moments");
      let steps = 0;
      let inWrite = 0;
      for (let kill = 0; kill < KILLS; kill += 1) {
        // One checkpoint is some 150 file operations, and there is one after every step.
        const moment =
          kill % 2 === 0
            ? { killAt: 1 + rng.int(600) }
            : { afterSteps: 1 + rng.int(3), waitMs: rng.int(12) };
        const ended = await runInChild(out, moment);
        expect(ended.errors).toBe("");
        expect(ended.signal).toBe("SIGKILL");
        steps += ended.steps;
        if (readdirSync(out).some((name) => name.endsWith(".tmp"))) inWrite += 1;
      }
      expect(inWrite).toBeGreaterThan(2);
      const last = await runInChild(out);
      expect(last).toMatchObject({ code: 0, errors: "" });
      // Every kill fell into the training, and none of them started it over.
      expect(last.steps).toBeGreaterThan(0);
      expect(steps).toBeLessThan(STEPS + KILLS);
      expectUndisturbed(out);
    },
    PATIENCE,
  );

  it(
    "continues after a full disk, which leaves the last checkpoint as it was",
    async () => {
      const out = scratchFolder();
      const stop = new AbortController();
      const options = { ...tinyTraining(), engine, out };
      const part = fit({
        ...options,
        signal: stop.signal,
        onProgress: ({ step }) => step === 7 && stop.abort(),
      });
      await expect(part).rejects.toMatchObject({ code: "ABORTED" });
      const before = readFileSync(join(out, "checkpoint.safetensors"));
      const full = await runInChild(out, { blocks: Math.floor(before.length / 1024 / 2) });
      expect(full.errors).toMatch(/^WRITE_FAILED: .*checkpoint\.safetensors\]/);
      expect(full.code).toBe(1);
      expect(readFileSync(join(out, "checkpoint.safetensors")).equals(before)).toBe(true);
      expect(readdirSync(out)).toEqual(["checkpoint.safetensors"]);
      const again = await fit(options);
      expect(again.params).toEqual(undisturbed.params);
    },
    PATIENCE,
  );

  it("continues to the same weights from the middle of every phase", async () => {
    const total = 24 + 18 + 18 + 24;
    expect(total).toBe(STEPS);
    const out = scratchFolder();
    let steps = 0;
    for (const stopAt of [1, 6, 23, 24, 25, 41, 42, 50, 60, 61, 83]) {
      const stop = new AbortController();
      const part = fit({
        ...tinyTraining(),
        engine,
        out,
        signal: stop.signal,
        onProgress: () => {
          steps += 1;
          if (steps === stopAt) stop.abort();
        },
      });
      await expect(part).rejects.toMatchObject({ code: "ABORTED" });
    }
    const copy = scratchFolder();
    await cp(out, copy, { recursive: true });
    for (const folder of [out, copy]) {
      const { params, reports, trained } = await fit({ ...tinyTraining(), engine, out: folder });
      expect({ params, reports, trained }).toEqual(undisturbed);
      expectUndisturbed(folder);
    }
  });
});
