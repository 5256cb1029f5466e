/** @file Lets a caller's signal end a pass between two layers. */
import type { ExitPass, ExitRunner } from "@cee/exit-policies";

/** The same runner, whose passes refuse to go on once `signal` is aborted; what they hold is freed as after any error. */
export function abortable<TInput>(
  runner: ExitRunner<TInput>,
  signal: AbortSignal | undefined,
): ExitRunner<TInput> {
  if (!signal) return runner;
  return {
    ...runner,
    async begin(input): Promise<ExitPass> {
      signal.throwIfAborted();
      const pass = await runner.begin(input);
      return {
        get liveRows() {
          return pass.liveRows;
        },
        get layer() {
          return pass.layer;
        },
        async advance() {
          signal.throwIfAborted();
          return pass.advance();
        },
        keep: (rows) => pass.keep(rows),
        dispose: () => pass.dispose(),
      };
    },
  };
}
