/**
 * @file Learn then Test with a fixed sequence: candidates are tested from the safest on, and the first that fails ends the
 * search. No correction for multiple tests is needed, because the order is fixed before the data are seen.
 * @see Angelopoulos et al. 2021, section 3.2.2; Schuster et al. 2022 (CALM), section 4
 */

export interface TestedCandidate {
  readonly meanLoss: number;
  readonly pValue: number;
  readonly hasPassed: boolean;
}

export interface FixedSequenceResult {
  /** Place of the last candidate in the unbroken row of passes; -1 where the first already fails. */
  readonly chosen: number;
  /** Those that were tested, in order: all up to the first failure. */
  readonly tested: readonly TestedCandidate[];
}

/** Whether a p-value is small enough for a confidence. */
export function isSupported(pValue: number, confidence: number): boolean {
  // 1 - 0.95 is 0.05000000000000004: a p-value of exactly 0.05 passes either way.
  return pValue <= 1 - confidence + 1e-12;
}

/**
 * Tests candidates in order until one fails: with probability `confidence` over the rows, the true mean loss of the chosen
 * one is at most the limit that `pValueAt` tests against.
 * @param pValueAt gives mean loss and p-value of the candidate at a place
 */
export function fixedSequenceTest(
  candidates: number,
  confidence: number,
  pValueAt: (index: number) => { readonly meanLoss: number; readonly pValue: number },
): FixedSequenceResult {
  const tested: TestedCandidate[] = [];
  for (let index = 0; index < candidates; index += 1) {
    const { meanLoss, pValue } = pValueAt(index);
    const hasPassed = isSupported(pValue, confidence);
    tested.push({ meanLoss, pValue, hasPassed });
    if (!hasPassed) break;
  }
  const passes = tested.filter(({ hasPassed }) => hasPassed).length;
  return { chosen: passes - 1, tested };
}
