/**
 * @file Makes the device side of a configured strategy into what a model compiles.
 *
 * Shapes: B = live rows, C = classes, K = values observed per row.
 */
import * as tf from "@tensorflow/tfjs";
import { isPromise, SIGNALS } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import type { HostParams } from "./host-tensor.js";
import type { Observer } from "./model.js";
import type { Carry, ExitStrategy, Observation, SignalName, Signals } from "./strategy.js";

/**
 * Wraps `observe` so that it sees only the signals it listed, none of the options that may change after recording, and
 * is told by name when it returns something else than one row of numbers per row.
 *
 * @param params the strategy's own (trained) parameters, by the names that its `params` gave them
 */
export function toObserver(strategy: ExitStrategy, params: HostParams = {}): Observer {
  const { name, definition } = strategy;
  const options = hiddenOptions(strategy);
  return {
    name,
    needs: definition.needs,
    params,
    observe(now, { site, params: tensors, carry }) {
      // Read outside the tidy: signals are computed when first read, and the model goes on using them.
      const signals = onlyNeeded(name, definition.needs, now);
      const rows = firstSignal(definition.needs, now).shape[0];
      const context = { site, params: onlyOwn(name, tensors), options, carry };
      const observation = tf.tidy(() => {
        let made: Observation;
        try {
          made = definition.observe(signals, context);
        } catch (cause) {
          if (cause instanceof ExitStrategyError) throw cause;
          throw new ExitStrategyError(
            "STRATEGY_THREW",
            name,
            `observe threw at layer ${site.layer}: ${messageOf(cause)}`,
            { cause },
          );
        }
        checkObservation(name, made, rows, site.layer);
        return made as tf.TensorContainer;
      });
      return observation as Observation;
    },
  };
}

function hiddenOptions(strategy: ExitStrategy): Readonly<Record<string, unknown>> {
  const { knob, calibrated = [] } = strategy.definition;
  const hidden = new Set<string>(knob ? [knob.option, ...calibrated] : calibrated);
  const visible: Record<string, unknown> = {};
  for (const [option, value] of Object.entries(strategy.options))
    if (!hidden.has(option)) visible[option] = value;
  for (const option of hidden)
    Object.defineProperty(visible, option, {
      get() {
        throw new ExitStrategyError(
          "BAD_OBSERVATION",
          strategy.name,
          `observe read the option "${option}", which may change after recording. Observe the numbers it is compared with and read it in decide.`,
        );
      },
    });
  return Object.freeze(visible);
}

function onlyNeeded(
  strategy: string,
  needs: readonly SignalName[],
  now: Partial<Signals>,
): Signals {
  const signals = {};
  for (const signal of SIGNALS)
    if (needs.includes(signal)) {
      const value = now[signal];
      if (value === undefined)
        throw new ExitStrategyError(
          "BAD_OBSERVATION",
          strategy,
          `needs the signal "${signal}", which this model does not give. Use another model or strategy.`,
        );
      Object.defineProperty(signals, signal, { value, enumerable: true });
    } else
      Object.defineProperty(signals, signal, {
        get() {
          throw new ExitStrategyError(
            "BAD_OBSERVATION",
            strategy,
            `observe read the signal "${signal}", which needs does not list (it lists ${needs.join(", ")}). Add it to needs.`,
          );
        },
      });
  return signals as Signals;
}

function firstSignal(needs: readonly SignalName[], now: Partial<Signals>): tf.Tensor {
  return now[needs[0] as SignalName] as tf.Tensor;
}

function onlyOwn(
  strategy: string,
  tensors: Readonly<Record<string, tf.Tensor>>,
): Readonly<Record<string, tf.Tensor>> {
  return new Proxy(tensors, {
    get(target, key) {
      if (typeof key === "string" && !Object.hasOwn(target, key))
        throw new ExitStrategyError(
          "BAD_OBSERVATION",
          strategy,
          `observe read the parameter "${key}", which the model was not given (it has ${Object.keys(target).join(", ") || "none"}). Create it in params, and train or load the strategy.`,
        );
      return Reflect.get(target, key);
    },
  });
}

function checkObservation(
  strategy: string,
  observation: Observation,
  rows: number | undefined,
  layer: number,
): void {
  const refuse: (what: string, expected: string, got: string) => never = (what, expected, got) => {
    throw new ExitStrategyError(
      "BAD_OBSERVATION",
      strategy,
      `observe must return ${what} of shape ${expected} at layer ${layer}, got ${got}. Return one row of numbers per live row.`,
    );
  };
  const plural = `[${rows}] or [${rows}, K]`;
  if (isPromise(observation)) refuse("a tensor, not a promise,", plural, "a promise");
  const plain = isTensor(observation) ? { values: observation } : observation;
  const values: unknown = plain?.values;
  if (!isTensor(values)) refuse("a tensor", plural, typeof values);
  if ((values.rank !== 1 && values.rank !== 2) || values.shape[0] !== rows)
    refuse("a tensor", plural, `[${values.shape.join(", ")}]`);
  if (values.rank === 2 && values.shape[1] === 0) refuse("a tensor", plural, `[${rows}, 0]`);
  if (values.dtype !== "float32")
    refuse("a float32 tensor", plural, `${values.dtype} [${values.shape.join(", ")}]`);
  const answer = "logits" in plain ? plain.logits : undefined;
  if (answer !== undefined && (!isTensor(answer) || answer.rank !== 2 || answer.shape[0] !== rows))
    refuse("logits", `[${rows}, C]`, isTensor(answer) ? `[${shapeOf(answer)}]` : typeof answer);
  if ("carry" in plain && plain.carry !== undefined)
    for (const leaf of leavesOf(plain.carry))
      if (!isTensor(leaf) || leaf.rank === 0 || leaf.shape[0] !== rows)
        refuse(
          "a carry with tensors",
          `[${rows}, …]`,
          isTensor(leaf) ? `[${shapeOf(leaf)}]` : typeof leaf,
        );
}

function shapeOf(tensor: tf.Tensor): string {
  return (tensor.shape as readonly number[]).join(", ");
}

function leavesOf(carry: Carry): unknown[] {
  if (isTensor(carry) || typeof carry !== "object" || carry === null) return [carry];
  return Object.values(carry as Record<string, Carry>).flatMap(leavesOf);
}

/** Also true for tensors of another copy of the library. */
export function isTensor(value: unknown): value is tf.Tensor {
  return value instanceof tf.Tensor;
}

export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
