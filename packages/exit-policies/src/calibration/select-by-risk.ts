/**
 * @file Chooses the fastest knob value whose loss against full depth is bounded with confidence (Learn then Test).
 *
 * N = rows, T = exits.
 */
import { withOptions } from "../define.js";
import { ExitStrategyError } from "../errors.js";
import type { ExitRecord } from "../record.js";
import type { ExitStrategy } from "../strategy.js";
import { candidatesOf } from "./candidates.js";
import { fixedSequenceTest, type TestedCandidate } from "./learn-then-test.js";
import { binomialPValue, hoeffdingBentkusPValue, rowsNeeded } from "./p-values.js";
import { type LossKind, rowLoss } from "./row-losses.js";

export interface RiskOptions {
  /** Mean loss against full depth that is allowed, above 0 and below 1. */
  readonly maxLoss: number;
  /** Probability, over the held-out rows, that the chosen value keeps to it. @default 0.95 */
  readonly confidence?: number;
  /** @default "accuracy" where every row has a label, "agreement" otherwise */
  readonly loss?: LossKind;
  /** Regression: largest difference that counts as the same answer. @default 0.5 */
  readonly tolerance?: number;
  /** Values to choose from, fixed before the rows are looked at. @default the knob's own grid */
  readonly grid?: readonly number[];
}

export interface RiskSelection {
  readonly kind: "risk";
  /** With the chosen value; unchanged where full depth was chosen. */
  readonly strategy: ExitStrategy;
  readonly value: number | undefined;
  /** No candidate could be trusted: nothing may leave early. */
  readonly isFullDepth: boolean;
  /** Why, in words for a log. */
  readonly note: string;
  readonly maxLoss: number;
  readonly confidence: number;
  readonly loss: "accuracy" | "agreement" | "custom";
  readonly rows: number;
  /** Rows below which nothing could have been chosen. */
  readonly rowsNeeded: number;
  /** Candidates in the order in which they were tested, slowest first, up to the first that failed. */
  readonly tested: readonly (TestedCandidate & { readonly value: number | undefined })[];
  /** Exit layer of each row at the chosen value, shape `[N]`. */
  readonly exitLayers: Int32Array;
}

/**
 * The guarantee needs no assumption but that the rows are drawn like those to come: with probability `confidence`, their
 * mean loss is at most `maxLoss`. The rows must have served nothing else, neither training nor choosing.
 * @throws ExitStrategyError `INVALID_OPTIONS`, `BAD_RECORD`, and what replaying throws
 */
export function selectByRisk(
  record: ExitRecord,
  strategy: ExitStrategy,
  options: RiskOptions,
): RiskSelection {
  const { maxLoss, confidence = 0.95, tolerance = 0.5 } = options;
  checkShare("maxLoss", maxLoss);
  checkShare("confidence", confidence);
  const rows = record.ids.length;
  const kind = options.loss ?? (record.labels.some(Number.isNaN) ? "agreement" : "accuracy");
  const lossOf = rowLoss(record, kind, tolerance);
  const candidates = candidatesOf(record, strategy, options.grid);
  const { chosen, tested } = fixedSequenceTest(candidates.length, confidence, (index) => {
    const { predictions } = candidates[index] as (typeof candidates)[number];
    let sum = 0;
    for (let row = 0; row < rows; row += 1) sum += lossOf(row, predictions[row] as number);
    const meanLoss = sum / rows;
    return {
      meanLoss,
      pValue:
        typeof kind === "string"
          ? binomialPValue(sum, rows, maxLoss)
          : hoeffdingBentkusPValue(meanLoss, rows, maxLoss),
    };
  });
  const candidate = candidates[chosen];
  const needed = rowsNeeded(maxLoss, confidence);
  const { knob } = strategy.definition;
  const isChosen = candidate !== undefined;
  return {
    kind: "risk",
    strategy:
      isChosen && knob ? withOptions(strategy, { [knob.option]: candidate.value }) : strategy,
    value: candidate?.value,
    isFullDepth: !isChosen,
    note: noteOf(),
    maxLoss,
    confidence,
    loss: typeof kind === "string" ? kind : "custom",
    rows,
    rowsNeeded: needed,
    tested: tested.map((one, index) => ({ ...one, value: candidates[index]?.value })),
    exitLayers: candidate?.exitLayers ?? new Int32Array(rows).fill(record.shape.depth),
  };

  function noteOf(): string {
    const promise = `a mean loss of at most ${maxLoss} with confidence ${confidence}`;
    if (isChosen) {
      const where = knob ? `${knob.option} ${candidate.value}` : strategy.name;
      return `${where}: ${promise}, from ${rows} held-out rows.`;
    }
    if (rows < needed)
      return `Full depth: ${promise} needs at least ${needed} held-out rows, got ${rows}.`;
    return `Full depth: not even the slowest candidate showed ${promise} on ${rows} held-out rows.`;
  }
}

function checkShare(name: string, value: number): void {
  if (!(value > 0 && value < 1))
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "selectThreshold",
      `${name} must lie between 0 and 1, got ${value}.`,
    );
}
