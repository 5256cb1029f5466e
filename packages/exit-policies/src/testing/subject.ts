/** @file What every conformance check is given: a strategy under test, fixture models, and a way to complain. */
import * as tf from "@tensorflow/tfjs";
import { type Classification, type ClassifyOptions, classify } from "../classify.js";
import type { AnyExitStrategyFactory } from "../define.js";
import type { HostParams } from "../host-tensor.js";
import type { ExitModel } from "../model.js";
import { messageOf, toObserver } from "../observer.js";
import type { ExitRecord } from "../record.js";
import { record } from "../recorder.js";
import type { AnyDefinition, ExitStrategy, ModelShape, Task } from "../strategy.js";
import { type Fixture, type FixtureRows, fixedExits } from "./fixed-exits.js";
import type { GuideSection } from "./guide.js";

/** A row of observations with the layer where it must leave: published test vectors and ties. */
export interface DecisionVector {
  readonly name: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** Values observed at each layer, first layer first. */
  readonly observed: readonly (number | readonly number[])[];
  readonly exitLayer: number;
  /** @default the first of the strategy's tasks */
  readonly task?: Task;
}

/** Values of the knob beyond which nothing changes. */
export interface KnobEnds {
  /** Nobody leaves before the last layer. */
  readonly slowest: number;
  /** Everybody leaves at `layer`, the earliest exit. */
  readonly fastest?: { readonly value: number; readonly layer: number };
}

export interface SubjectOptions {
  /** Size of the fixture model. @default { depth: 6, hidden: 4, classes: 2 } */
  readonly shape?: Partial<Pick<ModelShape, "depth" | "hidden" | "classes">>;
  /**
   * Parameters as training would leave them.
   * @default what `params` creates
   */
  readonly trainedParams?: (shape: ModelShape, strategy: ExitStrategy) => HostParams;
  readonly vectors?: readonly DecisionVector[];
  readonly knobEnds?: KnobEnds;
}

export interface Subject extends SubjectOptions {
  readonly factory: AnyExitStrategyFactory;
  readonly name: string;
  readonly definition: AnyDefinition;
  readonly configurations: readonly ExitStrategy[];
  /** One per task that the strategy declares. */
  readonly shapes: readonly ModelShape[];
}

export const SEED = 20;
/** Rows of the usual fixture. */
export const ROWS = 10;

/** A fixture of the subject's shape whose exits grow more certain with depth. */
export function modelOf(
  shape: ModelShape,
  { rows = ROWS, seed = 1, logits = gradedLogits(shape, rows, seed) } = {},
): ExitModel<FixtureRows> {
  return fixedExits(logits, { task: shape.task, width: shape.hidden });
}

export function paramsOf(subject: Subject, shape: ModelShape, strategy: ExitStrategy): HostParams {
  if (subject.trainedParams) return subject.trainedParams(shape, strategy);
  return subject.definition.params?.(shape, strategy.options, SEED) ?? {};
}

export async function recordOf(
  subject: Subject,
  shape: ModelShape,
  strategy: ExitStrategy,
  model: ExitModel<FixtureRows> = modelOf(shape),
  rows: FixtureRows = range(ROWS),
): Promise<ExitRecord> {
  const runner = await model.open(toObserver(strategy, paramsOf(subject, shape, strategy)));
  try {
    return await record(runner, [rows], {
      ids: rows.map(String),
      labels: rows.map((row) => (shape.task === "regression" ? row / 4 : row % shape.classes)),
    });
  } finally {
    await runner.dispose();
  }
}

export async function liveOf(
  subject: Subject,
  shape: ModelShape,
  strategy: ExitStrategy,
  model: ExitModel<FixtureRows>,
  rows: FixtureRows,
  options: ClassifyOptions = {},
): Promise<Classification> {
  const runner = await model.open(toObserver(strategy, paramsOf(subject, shape, strategy)));
  try {
    return await classify(runner, rows, strategy, options);
  } finally {
    await runner.dispose();
  }
}

/** Runs `visit` for every configuration on a model of every declared task. */
export async function everywhere(
  subject: Subject,
  visit: (strategy: ExitStrategy, shape: ModelShape) => void | Promise<void>,
): Promise<void> {
  for (const shape of subject.shapes)
    for (const strategy of subject.configurations) await visit(strategy, shape);
}

/** Runs `act` and complains when tensors are left behind. */
export async function withoutLeaks(what: string, act: () => void | Promise<void>): Promise<void> {
  await tf.setBackend("cpu");
  const before = tf.memory().numTensors;
  await act();
  const leaked = tf.memory().numTensors - before;
  if (leaked !== 0)
    fail(`${what} must leave no tensors behind`, `${leaked} more than before`, "leaks");
}

/** What a check throws; the kit adds the strategy's name and where the guide explains it. */
export class CheckFailure extends Error {
  constructor(
    readonly expected: string,
    readonly got: string,
    readonly section: GuideSection,
  ) {
    super(`${expected}, got ${got}`);
  }
}

export function fail(expected: string, got: unknown, section: GuideSection): never {
  throw new CheckFailure(expected, typeof got === "string" ? got : JSON.stringify(got), section);
}

export function ensure(
  isTrue: boolean,
  expected: string,
  got: unknown,
  section: GuideSection,
): void {
  if (!isTrue) fail(expected, got, section);
}

/** Complains unless `act` throws an error of that code. */
export function ensureThrows(
  act: () => unknown,
  codes: readonly string[],
  expected: string,
  section: GuideSection,
): void {
  try {
    act();
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    if (codes.includes(code)) return;
    fail(expected, messageOf(error), section);
  }
  fail(expected, "no error", section);
}

export function sameNumbers(a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 0): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index += 1) {
    const [left, right] = [a[index] as number, b[index] as number];
    if (Object.is(left, right) || left === right) continue;
    if (!(Math.abs(left - right) <= tolerance * Math.max(1, Math.abs(right)))) return false;
  }
  return true;
}

export function range(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}

/** Uniform numbers in [0, 1) from a seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (Math.imul(state ^ (state >>> 16), 0x45d9f3b) >>> 0) / 2 ** 32;
  };
}

export function gradedLogits(shape: ModelShape, rows: number, seed: number): Fixture {
  const next = randomFrom(seed);
  return range(rows).map(() => {
    const pace = 0.2 + 2 * next();
    const answer = Math.floor(next() * shape.classes);
    const target = 5 * next();
    return range(shape.depth).map((index) =>
      range(shape.classes).map((k) => {
        const noise = 2 * next() - 1;
        // Values settle towards a target; classes pull apart.
        if (shape.task === "regression") return Math.fround(target + noise / (1 + pace * index));
        return Math.fround((k === answer ? pace * index : 0) + noise);
      }),
    );
  });
}
