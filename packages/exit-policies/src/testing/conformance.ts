/** @file The conformance kit: what a host relies on, as checks that any test runner can run. */
import type { AnyExitStrategyFactory } from "../define.js";
import { ExitStrategyError } from "../errors.js";
import { messageOf } from "../observer.js";
import { unknownName } from "../registry.js";
import type { ExitStrategy, ModelShape } from "../strategy.js";
import { decideChecks } from "./checks-decide.js";
import { definitionChecks } from "./checks-definition.js";
import { hostChecks } from "./checks-hosts.js";
import { observeChecks } from "./checks-observe.js";
import { trainingChecks } from "./checks-training.js";
import { guideTo } from "./guide.js";
import { CheckFailure, type Subject, type SubjectOptions } from "./subject.js";

export interface Check {
  /** A sentence about a sound strategy. */
  readonly name: string;
  /** @default always */
  readonly appliesTo?: (subject: Subject) => boolean;
  /** Whether a benchmark's figures would be wrong without it, or other strategies would suffer. @default false */
  readonly isVital?: boolean;
  run(subject: Subject): void | Promise<void>;
}

export interface ConformanceOptions<TFactory extends AnyExitStrategyFactory>
  extends SubjectOptions {
  /** Arguments of the factory, one list per configuration to check. */
  readonly configurations: readonly Parameters<TFactory>[];
  /** Checks to leave out, by name, each with the reason that its title then shows. */
  readonly skip?: Readonly<Record<string, string>>;
}

export interface ConformanceCheck {
  readonly name: string;
  /** Why the check was left out. */
  readonly skipped?: string;
  /** Whether a benchmark refuses a strategy that fails it. */
  readonly isVital: boolean;
  run(): Promise<void>;
}

/**
 * The checks for one strategy, for any runner:
 * `for (const check of conformance(margin, { configurations: [[]] })) it(check.name, check.run);`
 *
 * Checks that do not apply (a knob's, without a knob) are left out. They run on the `cpu` backend of TensorFlow.js.
 * @throws ExitStrategyError `INVALID_OPTIONS` when a configuration is refused or `skip` names no check
 */
export function conformance<TFactory extends AnyExitStrategyFactory>(
  factory: TFactory,
  { configurations, skip = {}, shape = {}, ...rest }: ConformanceOptions<TFactory>,
): readonly ConformanceCheck[] {
  const { definition, strategyName: name } = factory;
  const refuse: (message: string) => never = (message) => {
    throw new ExitStrategyError("INVALID_OPTIONS", name ?? "conformance", message);
  };
  if (configurations.length === 0)
    refuse("configurations must hold at least one list of arguments, such as [[]].");
  const subject: Subject = {
    ...rest,
    factory,
    name,
    definition,
    configurations: configurations.map((args) =>
      (factory as (...args: readonly unknown[]) => ExitStrategy)(...args),
    ),
    shapes: definition.tasks.map(
      (task): ModelShape => ({
        depth: 6,
        hidden: 4,
        ...shape,
        classes: task === "regression" ? 1 : (shape.classes ?? 2),
        task,
      }),
    ),
  };
  const names = checks.map((check) => check.name);
  for (const skipped of Object.keys(skip))
    if (!names.includes(skipped)) refuse(`skip: ${unknownName(skipped, names)}`);
  return checks
    .filter((check) => check.appliesTo?.(subject) ?? true)
    .map((check): ConformanceCheck => {
      const reason = skip[check.name];
      if (reason !== undefined)
        return {
          name: `${check.name} [left out: ${reason}]`,
          skipped: reason,
          isVital: false,
          run: async () => {},
        };
      return {
        name: check.name,
        isVital: check.isVital ?? false,
        run: () => runCheck(check, subject),
      };
    });
}

const checks: readonly Check[] = [
  ...definitionChecks,
  ...observeChecks,
  ...decideChecks,
  ...hostChecks,
  ...trainingChecks,
];

async function runCheck(check: Check, subject: Subject): Promise<void> {
  try {
    await check.run(subject);
  } catch (error) {
    const [message, section] =
      error instanceof CheckFailure
        ? [error.message, error.section]
        : ([
            `the strategy must run without throwing, got ${messageOf(error).replace(/\.$/, "")}`,
            "checklist",
          ] as const);
    throw new Error(`[${subject.name}] ${check.name}: ${message}. ${guideTo(section)}`, {
      cause: error,
    });
  }
}
