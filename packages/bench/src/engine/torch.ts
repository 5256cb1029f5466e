/** @file PyTorch as a child process that is asked for one measurement at a time. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { HostTensor } from "@cee/engine";
import { BenchError } from "../errors.js";

export interface TorchAnswer {
  readonly milliseconds: number;
  readonly loss: number;
}

export interface TorchRows {
  readonly ids: readonly (readonly number[])[];
  readonly types: readonly (readonly number[])[];
  readonly mask: readonly (readonly number[])[];
}

export interface TorchLogits {
  /** Without reading the rows. */
  readonly milliseconds: number;
  readonly logits: readonly number[];
}

export interface Torch {
  /** Set when PyTorch multiplies with the unoptimised reference BLAS, which makes it no yardstick. */
  readonly warning: string | undefined;
  /** The processor that OpenBLAS chose its kernels for, where PyTorch uses OpenBLAS. */
  readonly core: string | undefined;
  forward(): Promise<TorchAnswer>;
  /** Logits of the model that ends after `layer`, on rows of the length that the positions were given for. */
  answer(rows: TorchRows, layer: number): Promise<TorchLogits>;
  step(): Promise<TorchAnswer>;
  close(): Promise<void>;
}

export type TorchFound =
  | { readonly python: string; readonly version: string }
  | { readonly missing: string };

const PYTHONS = ["python3", "/usr/bin/python3"];

/** Looks for a Python that has PyTorch; otherwise says what is missing and how to get it. */
export async function findTorch(pythons: readonly string[] = PYTHONS): Promise<TorchFound> {
  const reasons: string[] = [];
  for (const python of pythons) {
    try {
      const probe = ["-c", "import torch; print(torch.__version__)"];
      const { stdout } = await promisify(execFile)(python, probe, { timeout: 60_000 });
      return { python, version: stdout.trim() };
    } catch (cause) {
      const { code, stderr = "" } = cause as { code?: unknown; stderr?: string };
      if (code === "ENOENT") reasons.push(`there is no ${python}`);
      else reasons.push(`${python}: ${stderr.trim().split("\n").at(-1) || String(code)}`);
    }
  }
  const apt = "On Debian: apt-get install python3-torch libopenblas0-pthread.";
  return { missing: `PyTorch was not found (${reasons.join("; ")}). ${apt}` };
}

/** The scripts beside the package's sources. */
export type TorchScript = "torch_bert.py" | "torch_mlm.py";

/** Starts PyTorch with a model and a batch. */
export async function startTorch(
  python: string,
  tensors: Readonly<Record<string, HostTensor>>,
  settings: { readonly sizes: object; readonly threads: number; readonly adamw: object },
  script: TorchScript = "torch_bert.py",
): Promise<Torch> {
  const folder = await mkdtemp(join(tmpdir(), "cee-torch-"));
  const manifest = join(folder, "manifest.json");
  const data = join(folder, "tensors.bin");
  const entries = [];
  const chunks: Uint8Array[] = [];
  let offset = 0;
  for (const [name, { dtype, shape, data: values }] of Object.entries(tensors)) {
    entries.push({ name, dtype, shape, offset });
    chunks.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    offset += values.byteLength;
  }
  await writeFile(data, Buffer.concat(chunks));
  await writeFile(manifest, JSON.stringify(entries));

  const { threads } = settings;
  const child = spawn(python, [scriptPath(script)], {
    stdio: ["pipe", "pipe", "pipe"],
    // In a group of its own: Ctrl-C is for this process, which ends the other when it has stopped itself.
    detached: process.platform !== "win32",
    env: {
      // Like the compiled form's: threads that spin while others work cost whoever's turn it is, PyTorch included.
      OMP_WAIT_POLICY: "passive",
      ...openblasCore(readProcessor()),
      ...process.env,
      OMP_NUM_THREADS: String(threads),
    },
  });
  let complaint = "";
  child.stderr.on("data", (chunk) => {
    complaint = `${complaint}${chunk}`.slice(-2000);
  });
  // A write to a process that has died is reported by its missing answer.
  child.stdin.on("error", () => undefined);
  child.on("error", (cause) => {
    complaint += cause.message;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async <TAnswer = TorchAnswer>(request: object): Promise<TAnswer> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await lines.next();
    if (!line.done) return JSON.parse(line.value) as TAnswer;
    const last = complaint.trim().split("\n").at(-1);
    throw new BenchError("RUN_MISMATCH", script, `PyTorch stopped: ${last}.`);
  };
  const end = () => {
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  // A second Ctrl-C ends this process at once, and nobody else would end the other.
  process.once("exit", end);
  const close = async () => {
    process.off("exit", end);
    const isAlive = child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    const isGone = isAlive ? once(child, "exit") : undefined;
    end();
    await isGone;
  };
  let warning: string | undefined;
  let core: string | undefined;
  try {
    const request = { command: "load", manifest, data, ...settings };
    const loaded = await ask<{ readonly blas: readonly string[]; readonly core: string | null }>(
      request,
    );
    const { blas } = loaded;
    core = loaded.core ?? undefined;
    const reference = blas.find((path) => /\/blas\/libblas\.so/.test(path));
    if (reference) {
      warning =
        `PyTorch multiplies matrices with the slow reference BLAS (${reference}): its times are no yardstick. ` +
        "On Debian: apt-get install libopenblas0-pthread.";
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    warning,
    core,
    forward: () => ask({ command: "forward" }),
    answer: (rows, layer) => ask<TorchLogits>({ command: "answer", layer, ...rows }),
    step: () => ask({ command: "step" }),
    close,
  };
}

/**
 * Names the kernels that OpenBLAS should use. An OpenBLAS older than the processor falls back to its slowest kernels
 * (measured: Debian 12's, on a Sapphire Rapids, took SSE3 code a fifth as fast as its AVX-512 code), and PyTorch would be no
 * yardstick. Setting the variable oneself overrides this.
 * @param processor content of `/proc/cpuinfo`
 */
export function openblasCore(processor: string): { readonly OPENBLAS_CORETYPE?: string } {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(processor)?.[1]?.trim().split(/\s+/) ?? []);
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  if (has("avx512f", "avx512bw", "avx512dq", "avx512vl")) return { OPENBLAS_CORETYPE: "SKYLAKEX" };
  return has("avx2", "fma") ? { OPENBLAS_CORETYPE: "HASWELL" } : {};
}

function readProcessor(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return "";
  }
}

/** Beside the sources, or beside the built package. */
function scriptPath(script: TorchScript): string {
  for (const place of ["../../scripts", "../scripts"]) {
    const path = fileURLToPath(new URL(`${place}/${script}`, import.meta.url));
    if (existsSync(path)) return path;
  }
  throw new BenchError("MISSING_FILE", script, "is not there. Reinstall @cee/bench.");
}
