/**
 * @file The early-stopping host: rows leave a batch at their own layers and later blocks run on the others.
 *
 * N = rows of the input, B = live rows, C = classes, K = values observed per row.
 */
import { ExitStrategyError } from "./errors.js";
import type { ExitPass, ExitRunner, LayerOutput } from "./model.js";
import {
  allFinite,
  checkHost,
  decideRow,
  type ExitOutcome,
  type HostOptions,
  predictionOf,
} from "./outcome.js";
import { decideContexts, exitSites } from "./record-view.js";
import type { DecideContext, ExitStrategy, ModelShape, RowState } from "./strategy.js";

/** The answer of one row. */
export interface RowAnswer {
  readonly layer: number;
  /** Before softmax, shape `[C]`. */
  readonly logits: Float32Array;
  /** Class index (-1 when a logit is NaN) or the regression value. */
  readonly prediction: number;
}

/** What a caller wants of single rows of a batch; asked and told between layers. */
export interface RowHooks {
  /** Depth budget of a row, within the call's. */
  maxLayer?(row: number): number | undefined;
  /** Whether nobody wants the row's answer any more: it is dropped before the next layer, its `exitLayers` entry stays 0. */
  isAbandoned?(row: number): boolean;
  /** Told as soon as a row has its answer, before later layers run on the others. */
  onExit?(row: number, answer: RowAnswer): void;
  /** Asked when the strategy lets a row go before its budget is spent, with what it would be answered. @default "leave" */
  onVerdict?(row: number, answer: RowAnswer): ExitChoice;
  /** Told what full depth says of a row that left and was to be compared. */
  onFullDepth?(row: number, answer: RowAnswer): void;
}

/**
 * - `leave`: the row is answered and costs nothing more.
 * - `compare`: it is answered, and runs on to full depth for comparison.
 * - `hold`: it is answered only where its budget is spent; the strategy is not asked about it again.
 */
export type ExitChoice = "leave" | "compare" | "hold";

export interface ClassifyOptions extends HostOptions {
  /**
   * Drops exited rows only after every so many layers. Results do not depend on it: copying the survivors may cost more
   * than a block saves.
   * @default 1
   */
  readonly compactEvery?: number;
  readonly rows?: RowHooks;
}

export interface Classification extends ExitOutcome {
  /** Blocks run, times the rows they ran on. */
  readonly rowLayers: number;
}

/**
 * Classifies (or scores) one batch; `runner` must have been opened with this strategy's observer.
 * @throws ExitStrategyError `STRATEGY_THREW`, `BAD_VERDICT`, `BAD_OBSERVATION` and what a host refuses at its start
 */
export async function classify<TInput>(
  runner: ExitRunner<TInput>,
  input: TInput,
  strategy: ExitStrategy,
  options: ClassifyOptions = {},
): Promise<Classification> {
  const { shape } = runner;
  const trained = options.trained ?? runner.trained;
  const last = checkHost(strategy, shape, { ...options, ...(trained && { trained }) });
  const { compactEvery = 1 } = options;
  if (!Number.isInteger(compactEvery) || compactEvery < 1)
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "classify",
      `compactEvery must be a whole number from 1, got ${compactEvery}. Leave it out to drop rows at once.`,
    );
  const pass = await runner.begin(input);
  try {
    return await run(pass, shape, strategy, last, compactEvery, options.rows ?? {});
  } finally {
    pass.dispose();
  }
}

async function run(
  pass: ExitPass,
  shape: ModelShape,
  strategy: ExitStrategy,
  last: number,
  compactEvery: number,
  hooks: RowHooks,
): Promise<Classification> {
  const { classes, task, depth } = shape;
  const contexts = decideContexts(strategy, exitSites(shape, last));
  const rows = pass.liveRows.length;
  const exitLayers = new Int32Array(rows); // 0 while a row is undecided
  const logits = new Float32Array(rows * classes);
  const predictions = new Float32Array(rows);
  const states: (RowState | undefined)[] = Array.from({ length: rows });
  const budgets = Array.from({ length: rows }, (_, row) => budgetOf(row, hooks, last));
  // Rows that later layers run on: unanswered ones, and those that run on for comparison.
  const running = new Set(pass.liveRows);
  const held = new Set<number>();
  let rowLayers = 0;
  let nonFinite = 0;
  for (let layer = 1; layer <= depth; layer += 1) {
    for (const row of running) if (hooks.isAbandoned?.(row)) running.delete(row);
    if (running.size === 0) break;
    if ((layer - 1) % compactEvery === 0 && running.size < pass.liveRows.length)
      pass.keep(pass.liveRows.filter((row) => running.has(row)));
    const live = pass.liveRows;
    const output = await pass.advance();
    checkOutput(strategy, layer, live.length, classes, output);
    rowLayers += live.length;
    const { observed, observedWidth: width } = output;
    const answerOf = (index: number): RowAnswer => ({
      layer,
      logits: output.logits.slice(index * classes, (index + 1) * classes),
      prediction: predictionOf(task, output.logits, index * classes, classes),
    });
    for (let index = 0; index < live.length; index += 1) {
      const row = live[index] as number;
      if (!running.has(row)) continue;
      if (exitLayers[row] !== 0) {
        if (layer < depth) continue;
        running.delete(row);
        hooks.onFullDepth?.(row, answerOf(index));
        continue;
      }
      const isSound =
        allFinite(observed, index * width, width) &&
        allFinite(output.logits, index * classes, classes);
      if (!isSound) nonFinite += 1;
      const isSpent = layer === budgets[row];
      if (!isSpent) {
        if (!isSound || held.has(row)) continue;
        const verdict = decideRow(
          strategy,
          observed.slice(index * width, (index + 1) * width),
          states[row],
          contexts[layer - 1] as DecideContext<ExitStrategy["options"]>,
        );
        states[row] = verdict.state;
        if (!verdict.exit) continue;
      }
      const answer = answerOf(index);
      const choice = (isSpent ? undefined : hooks.onVerdict?.(row, answer)) ?? "leave";
      if (choice === "hold") {
        held.add(row);
        continue;
      }
      exitLayers[row] = layer;
      logits.set(answer.logits, row * classes);
      predictions[row] = answer.prediction;
      if (choice === "leave") running.delete(row);
      hooks.onExit?.(row, answer);
    }
  }
  return { rows, exitLayers, logits, predictions, nonFinite, rowLayers };
}

/** @throws ExitStrategyError `INVALID_OPTIONS`: a row with a budget that is no layer would never be answered */
function budgetOf(row: number, { maxLayer }: RowHooks, last: number): number {
  const budget = maxLayer?.(row) ?? last;
  if (Number.isInteger(budget) && budget >= 1) return Math.min(budget, last);
  throw new ExitStrategyError(
    "INVALID_OPTIONS",
    "classify",
    `rows.maxLayer must give a whole number from 1 or nothing, got ${budget} for row ${row}. Give nothing for rows without a budget.`,
  );
}

function checkOutput(
  strategy: ExitStrategy,
  layer: number,
  rows: number,
  classes: number,
  { observed, observedWidth, logits }: LayerOutput,
): void {
  if (observed.length !== rows * observedWidth || logits.length !== rows * classes)
    throw new ExitStrategyError(
      "BAD_OBSERVATION",
      strategy.name,
      `layer ${layer} must give [${rows}, ${observedWidth}] values and [${rows}, ${classes}] logits, got ${observed.length} and ${logits.length} numbers. Observe one fixed number of values per row.`,
    );
}
