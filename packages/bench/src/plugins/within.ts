/** @file A time limit for somebody else's synchronous code in this thread. */
import { createContext, runInContext } from "node:vm";
import { BenchError } from "../errors.js";

/**
 * Calls `act`, and breaks off when it takes longer: Node's own watchdog ends the script and all that it calls. For code
 * without state that must be put back, since no `finally` below this call runs then.
 * @throws BenchError `TRAINING_FAILED` naming `who`; what `act` throws
 */
export function within<T>(seconds: number | undefined, who: string, act: () => T): T {
  if (seconds === undefined) return act();
  let result: { readonly value: T } | { readonly thrown: unknown } | undefined;
  // The script has a context of its own; the function that it calls belongs to this one.
  const call = () => {
    try {
      result = { value: act() };
    } catch (thrown) {
      result = { thrown };
    }
  };
  try {
    runInContext("call()", createContext({ call }), { timeout: Math.ceil(seconds * 1000) });
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw cause;
    throw new BenchError(
      "TRAINING_FAILED",
      who,
      `did not return within ${seconds} s. Look for a loop without an end; CEE_PLUGIN_SECONDS sets another limit.`,
      { cause },
    );
  }
  if (result && "value" in result) return result.value;
  throw (result as { readonly thrown: unknown }).thrown;
}
