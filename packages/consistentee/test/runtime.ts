/** @file The ONNX Runtime that the engine loads, to watch its sessions. */
import { createRequire } from "node:module";
import { onTestFinished, vi } from "vitest";

interface Session {
  release(): Promise<void>;
}

interface OnnxRuntime {
  readonly InferenceSession: { create(...options: unknown[]): Promise<Session> };
}

/** The module that the engine loads. */
export function onnxRuntime(): OnnxRuntime {
  const engine = createRequire(import.meta.resolve("@cee/engine"));
  return engine("onnxruntime-node");
}

/** The sessions that are open, from now until the test ends. */
export function watchSessions(): ReadonlySet<Session> {
  const { InferenceSession } = onnxRuntime();
  const open = new Set<Session>();
  const create = InferenceSession.create.bind(InferenceSession);
  const spy = vi.spyOn(InferenceSession, "create").mockImplementation(async (...options) => {
    const session = await create(...options);
    open.add(session);
    const release = session.release.bind(session);
    session.release = async () => {
      await release();
      open.delete(session);
    };
    return session;
  });
  onTestFinished(() => spy.mockRestore());
  return open;
}
