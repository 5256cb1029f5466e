/** @file Compiles a function that calls code of others: heads, observers, losses. */
import type { CompiledFunction, Engine } from "@cee/engine";

/** Errors of this project's packages say by name what is wrong; the engine reports them as the cause of its own. */
const CLEAR = ["BackboneError", "ExitStrategyError"];

export function compileClearly(
  engine: Pick<Engine, "compile">,
  ...[fn, options]: Parameters<Engine["compile"]>
): CompiledFunction {
  return clearly(() => engine.compile(fn, options));
}

/** Runs what traces such a function. */
export function clearly<T>(trace: () => T): T {
  try {
    return trace();
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    throw cause instanceof Error && CLEAR.includes(cause.name) ? cause : error;
  }
}
