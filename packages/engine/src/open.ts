/** @file Runs an ONNX model as it is, with the names and types that its inputs and outputs have. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { InferenceSession } from "onnxruntime-common";
import { EngineError } from "./errors.js";
import { hashOf, type SessionCache } from "./session.js";
import type { OnnxTensor, OpenedModel } from "./types.js";

const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
} as const;

/** Creates the session. @throws EngineError `RUN_FAILED` when the runtime refuses the model */
export async function openModel(
  name: string,
  model: Uint8Array | string,
  sessions: SessionCache,
): Promise<OpenedModel> {
  const key =
    typeof model === "string" ? `${resolve(model)}/${await stampOf(model)}` : hashOf(model);
  const session = await sessions.borrow(key, name, () => model);
  const inputs = [...session.inputNames];
  let disposed = false;
  return {
    name,
    inputs,
    outputs: [...session.outputNames],
    async run(feeds) {
      if (disposed)
        throw new EngineError("DISPOSED", `[${name}] the model was disposed of. Open it again.`);
      sessions.checkAlive(name);
      checkFeeds(name, inputs, feeds);
      const { Tensor } = sessions.runtime.module;
      const tensors = Object.fromEntries(
        inputs.map((input) => {
          const { type, data, shape } = feeds[input] as OnnxTensor;
          return [input, new Tensor(type, data, shape)];
        }),
      );
      return runNow(name, session, sessions, tensors);
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      await sessions.release(key);
    },
  };
}

/** Another file under the same name is another model. */
async function stampOf(path: string): Promise<string> {
  const about = await stat(path).catch(() => undefined);
  return `${about?.size}/${about?.mtimeMs}`;
}

async function runNow(
  name: string,
  session: InferenceSession,
  sessions: SessionCache,
  tensors: Parameters<InferenceSession["run"]>[0],
): Promise<Record<string, OnnxTensor>> {
  let results: InferenceSession.OnnxValueMapType;
  try {
    results = await sessions.inTurn(() => session.run(tensors));
  } catch (cause) {
    sessions.checkAlive(name);
    const text = (cause instanceof Error ? cause.message : String(cause)).trim();
    throw new EngineError(
      "RUN_FAILED",
      `[${name}] the model failed while running: ${text.replace(/\.$/, "")}. Check the sizes and that ids lie within their tables.`,
      { cause },
    );
  }
  return Object.fromEntries(
    Object.entries(results).map(([output, { type, dims, data }]) => [
      output,
      { type, shape: [...dims], data } as OnnxTensor,
    ]),
  );
}

/** @throws EngineError `BAD_INPUT` */
function checkFeeds(
  name: string,
  inputs: readonly string[],
  feeds: Readonly<Record<string, OnnxTensor>>,
): void {
  const missing = inputs.filter((input) => feeds[input] === undefined);
  const unknown = Object.keys(feeds).filter((input) => !inputs.includes(input));
  if (missing.length > 0 || unknown.length > 0)
    throw new EngineError(
      "BAD_INPUT",
      `[${name}] the model takes ${inputs.join(", ")}; ${missing.length > 0 ? `missing: ${missing.join(", ")}` : `got also ${unknown.join(", ")}`}. Feed each of them once.`,
    );
  for (const input of inputs) {
    const { type, data, shape } = feeds[input] as OnnxTensor;
    const array = arrays[type] as (typeof arrays)[keyof typeof arrays] | undefined;
    const count = shape.reduce((product, size) => product * size, 1);
    if (!array || !(data instanceof array) || data.length !== count)
      throw new EngineError(
        "BAD_INPUT",
        `[${name}] input ${input} must hold ${count} numbers of ${type} in ${array?.name ?? "one of float32, int32, int64, bool"} for the shape [${shape.join(", ")}], got ${data?.length} in ${data?.constructor?.name}.`,
      );
  }
}
