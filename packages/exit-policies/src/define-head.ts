/** @file Declares an exit head, and checks one that comes from outside. */
import { isPromise, show } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import type { ExitHead } from "./head.js";
import { API_VERSION } from "./strategy.js";

/** A head that says which version of the contract it was made for. */
export interface DefinedExitHead extends ExitHead {
  readonly apiVersion: number;
}

/**
 * Declares an exit head: what a plugin exports by default for `--head`, or as `head` beside its strategy.
 * @throws ExitStrategyError `BAD_DEFINITION`
 */
export function defineExitHead(head: ExitHead): DefinedExitHead {
  checkHead(typeof head?.name === "string" ? head.name : "defineExitHead", head);
  return Object.freeze({ ...head, apiVersion: API_VERSION });
}

/** Refuses what is no head, naming `who`. @throws ExitStrategyError `BAD_DEFINITION` */
export function checkHead(who: string, head: unknown): asserts head is ExitHead {
  const refuse = (message: string) => {
    throw new ExitStrategyError("BAD_DEFINITION", who, message);
  };
  if (typeof head !== "object" || head === null || isPromise(head))
    refuse(`an exit head must be an object, got ${show(head)}. Use defineExitHead({ … }).`);
  const { name, carries, readsFirstToken, params, shared, apply } = head as Record<string, unknown>;
  if (typeof name !== "string" || !/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name))
    refuse(`the head's name must be kebab-case such as "my-head", got ${show(name)}.`);
  for (const [hook, value] of Object.entries({ params, apply }))
    if (typeof value !== "function")
      refuse(`${hook} must be a function, got ${show(value)}. Every head has one.`);
  if (shared !== undefined && typeof shared !== "function")
    refuse(`shared must be a function or left out, got ${show(shared)}.`);
  for (const [flag, value] of Object.entries({ carries, readsFirstToken }))
    if (value !== undefined && typeof value !== "boolean")
      refuse(`${flag} must be true, false or left out, got ${show(value)}.`);
}
