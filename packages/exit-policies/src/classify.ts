/**
 * @file The early-stopping host: rows leave a batch at their own layers and later blocks run on the others.
 *
 * N = rows of the input, B = live rows, C = classes, K = values observed per row.
 */
import { ExitStrategyError } from "./errors.js";
import type { ExitPass, ExitRunner, LayerOutput } from "./model.js";
import {
  allFinite,
  badVerdict,
  checkHost,
  decideFailed,
  type ExitOutcome,
  type HostOptions,
  predictionOf,
} from "./outcome.js";
import { decideContexts, exitSites } from "./record-view.js";
import type { DecideContext, ExitStrategy, ModelShape, RowState } from "./strategy.js";

export interface ClassifyOptions extends HostOptions {
  /**
   * Drops exited rows only after every so many layers. Results do not depend on it: copying the survivors may cost more
   * than a block saves.
   * @default 1
   */
  readonly compactEvery?: number;
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
  const contexts = decideContexts(strategy, exitSites(shape, last));
  const pass = await runner.begin(input);
  try {
    return await run(pass, shape, strategy, contexts, last, compactEvery);
  } finally {
    pass.dispose();
  }
}

async function run(
  pass: ExitPass,
  shape: ModelShape,
  strategy: ExitStrategy,
  contexts: readonly DecideContext<ExitStrategy["options"]>[],
  last: number,
  compactEvery: number,
): Promise<Classification> {
  const { classes, task } = shape;
  const rows = pass.liveRows.length;
  const exitLayers = new Int32Array(rows); // 0 while a row is undecided
  const logits = new Float32Array(rows * classes);
  const predictions = new Float32Array(rows);
  const states: (RowState | undefined)[] = Array.from({ length: rows });
  let undecided = rows;
  let rowLayers = 0;
  let nonFinite = 0;
  for (let layer = 1; layer <= last && undecided > 0; layer += 1) {
    const live = pass.liveRows;
    const output = await pass.advance();
    checkOutput(strategy, layer, live.length, classes, output);
    rowLayers += live.length;
    const { observed, observedWidth: width } = output;
    for (let index = 0; index < live.length; index += 1) {
      const row = live[index] as number;
      if (exitLayers[row] !== 0) continue;
      const isSound =
        allFinite(observed, index * width, width) &&
        allFinite(output.logits, index * classes, classes);
      if (!isSound) nonFinite += 1;
      let hasExited = layer === last;
      if (!hasExited && isSound) {
        const verdict = decideRow(
          strategy,
          observed.slice(index * width, (index + 1) * width),
          states[row],
          contexts[layer - 1] as DecideContext<ExitStrategy["options"]>,
        );
        hasExited = verdict.exit;
        states[row] = verdict.state;
      }
      if (!hasExited) continue;
      exitLayers[row] = layer;
      undecided -= 1;
      logits.set(output.logits.subarray(index * classes, (index + 1) * classes), row * classes);
      predictions[row] = predictionOf(task, output.logits, index * classes, classes);
    }
    if (undecided > 0 && layer % compactEvery === 0) {
      const kept = live.filter((row) => exitLayers[row] === 0);
      if (kept.length < live.length) pass.keep(kept);
    }
  }
  return { rows, exitLayers, logits, predictions, nonFinite, rowLayers };
}

function decideRow(
  strategy: ExitStrategy,
  observed: Float32Array,
  state: RowState | undefined,
  context: DecideContext<ExitStrategy["options"]>,
): { readonly exit: boolean; readonly state: RowState } {
  const { definition } = strategy;
  const { layer } = context.site;
  try {
    const verdict = definition.decide(observed, state ?? definition.start(), context);
    if (typeof verdict?.exit !== "boolean" || verdict.state === undefined)
      throw badVerdict(strategy, layer, verdict);
    return verdict;
  } catch (cause) {
    throw decideFailed(strategy, layer, cause);
  }
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
