/** @file Turns a definition into a factory of configured strategies. */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { ExitStrategyError } from "./errors.js";
import {
  type AnyDefinition,
  API_VERSION,
  type ExitStrategy,
  type ExitStrategyDefinition,
  type ExitStrategyFactory,
  type RowState,
  type SignalName,
  type Task,
} from "./strategy.js";

// biome-ignore lint/suspicious/noExplicitAny: a registry holds factories of every type
export type AnyExitStrategyFactory = ExitStrategyFactory<string, any, any, any, any>;

export const TASKS: readonly Task[] = ["classification", "regression", "generation"];
export const SIGNALS: readonly SignalName[] = ["logits", "probs", "pooled", "hidden", "features"];

/**
 * Declares a strategy; every type parameter is inferred from the definition.
 * @throws ExitStrategyError `BAD_DEFINITION` or `ASYNC_SCHEMA` when the definition cannot work.
 */
export function defineExitStrategy<
  const TName extends string,
  TSchema extends StandardSchemaV1,
  const TNeeds extends SignalName,
  TState extends RowState,
  TParam extends string = never,
>(
  definition: ExitStrategyDefinition<TName, TSchema, TNeeds, TState, TParam>,
): ExitStrategyFactory<TName, TSchema, TNeeds, TState, TParam> {
  checkDefinition(definition as unknown as AnyDefinition);
  const factory = (options: unknown = {}) =>
    configure(definition as unknown as AnyDefinition, options);
  return Object.assign(factory, {
    strategyName: definition.name,
    definition,
    apiVersion: API_VERSION,
  }) as never;
}

/**
 * The same strategy with some options changed, for example the knob.
 * @throws ExitStrategyError `INVALID_OPTIONS`
 */
export function withOptions(
  strategy: ExitStrategy,
  changes: Readonly<Record<string, unknown>>,
): ExitStrategy {
  return configure(strategy.definition, { ...strategy.options, ...changes });
}

function configure(definition: AnyDefinition, options: unknown): ExitStrategy {
  const { name, knob } = definition;
  const result = validateNow(definition, options);
  if (result.issues)
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      name,
      `invalid options: ${result.issues.map(issueText).join("; ")}. Got ${show(options)}.`,
    );
  const kept = throughJson(name, result.value);
  if (knob && typeof kept[knob.option] !== "number")
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      name,
      `the knob "${knob.option}" must be a number among the validated options, got ${show(kept[knob.option])}. Give the option a default in the schema or name another knob.`,
    );
  return Object.freeze({
    apiVersion: API_VERSION,
    name,
    options: deepFreeze(kept),
    definition,
  });
}

function validateNow(
  definition: AnyDefinition,
  options: unknown,
): StandardSchemaV1.Result<Record<string, unknown>> {
  const result = definition.options["~standard"].validate(options);
  if (isPromise(result)) {
    result.catch(() => {});
    throw new ExitStrategyError(
      "ASYNC_SCHEMA",
      definition.name,
      "the option schema validates asynchronously, got a promise. Use a schema without asynchronous steps.",
    );
  }
  return result as StandardSchemaV1.Result<Record<string, unknown>>;
}

/** Options are written into files and reports, so they have to be what JSON can hold. */
function throughJson(name: string, value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      name,
      `validated options must be an object, got ${show(value)}. Use an object schema.`,
    );
  const text = JSON.stringify(value);
  const copy = JSON.parse(text) as Record<string, unknown>;
  if (!sameJson(value, copy))
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      name,
      `options must survive JSON, got ${text} back. Use finite numbers, strings, booleans, lists and plain objects.`,
    );
  return copy;
}

/** Structural equality in which an absent key equals `undefined`. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a === "number" && typeof b === "number") return a === b;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (!isPlain(a) || !isPlain(b)) return false;
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].every((key) =>
    sameJson(left[key], right[key]),
  );
}

function isPlain(value: object): boolean {
  if (Array.isArray(value)) return true;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function checkDefinition(definition: AnyDefinition): void {
  const name = typeof definition?.name === "string" ? definition.name : "defineExitStrategy";
  const refuse: (message: string) => never = (message) => {
    throw new ExitStrategyError("BAD_DEFINITION", name, message);
  };
  if (typeof definition !== "object" || definition === null)
    refuse(`a definition must be an object, got ${show(definition)}.`);
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(String(definition.name)))
    refuse(`name must be kebab-case such as "my-rule", got ${show(definition.name)}.`);
  for (const hook of ["observe", "decide", "start"] as const)
    if (typeof definition[hook] !== "function")
      refuse(`${hook} must be a function, got ${show(definition[hook])}. Every strategy has one.`);
  for (const hook of ["decideTensor", "params", "phases", "calibrate"] as const)
    if (definition[hook] !== undefined && typeof definition[hook] !== "function")
      refuse(`${hook} must be a function or left out, got ${show(definition[hook])}.`);
  checkList(refuse, "tasks", definition.tasks, TASKS);
  checkList(refuse, "needs", definition.needs, SIGNALS);
  if (typeof definition.options?.["~standard"]?.validate !== "function")
    refuse(
      `options must be a Standard Schema (valibot, zod, arktype, …), got ${show(definition.options)}.`,
    );
  checkKnob(refuse, definition);
}

function checkList(
  refuse: (message: string) => never,
  field: string,
  list: unknown,
  known: readonly string[],
): void {
  if (!Array.isArray(list) || list.length === 0)
    refuse(`${field} must name at least one of ${known.join(", ")}, got ${show(list)}.`);
  for (const entry of list)
    if (!known.includes(entry))
      refuse(`${field} may hold ${known.join(", ")}, got ${show(entry)}.`);
}

function checkKnob(refuse: (message: string) => never, definition: AnyDefinition): void {
  const { knob, calibrated } = definition;
  if (knob !== undefined) {
    if (typeof knob.option !== "string")
      refuse(`knob.option must name an option, got ${show(knob.option)}.`);
    if (
      !Array.isArray(knob.grid) ||
      knob.grid.length === 0 ||
      !knob.grid.every((value) => Number.isFinite(value))
    )
      refuse(`knob.grid must list finite numbers, got ${show(knob.grid)}.`);
    if (knob.direction !== "higher-is-faster" && knob.direction !== "lower-is-faster")
      refuse(
        `knob.direction must be "higher-is-faster" or "lower-is-faster", got ${show(knob.direction)}.`,
      );
  }
  if (
    calibrated !== undefined &&
    !(Array.isArray(calibrated) && calibrated.every((option) => typeof option === "string"))
  )
    refuse(`calibrated must list option names, got ${show(calibrated)}.`);
  // Options may be required; then the knob is checked when the strategy is configured.
  const defaults = validateNow(definition, {});
  if (!defaults.issues && knob && typeof defaults.value?.[knob.option] !== "number")
    refuse(
      `the knob "${knob.option}" must be a number among the options, got ${show(defaults.value?.[knob.option])}. Give it a default in the schema.`,
    );
}

function issueText(issue: StandardSchemaV1.Issue): string {
  const path = issue.path?.map((part) => String(typeof part === "object" ? part.key : part));
  return `${path?.length ? path.join(".") : "options"}: ${issue.message}`;
}

/** A value as a message shows it, cut to a readable length. */
export function show(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "number" || value === undefined) return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // Cyclic objects and big integers have no JSON.
  }
  text ??= String(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const child of Object.values(value)) deepFreeze(child);
    Object.freeze(value);
  }
  return value;
}
