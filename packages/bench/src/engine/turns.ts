/** @file Candidates for the same work that take turns, so that a change of the machine's speed meets all of them. */
import { BenchError } from "../errors.js";
import type { RunHooks } from "../glue/progress.js";
import { pauseForStop } from "../glue/stop.js";
import { median } from "../metrics/statistics.js";

/** One candidate for one kind of work. */
export interface Candidate {
  readonly name: string;
  readonly rounds: number;
  /** Runs once. */
  readonly run: () => Promise<{ readonly milliseconds: number; readonly loss: number }>;
}

/** The times of one candidate. */
export interface Turns {
  readonly candidate: string;
  /** Milliseconds of each round. */
  readonly rounds: readonly number[];
  readonly median: number;
  /** This median over that of the first candidate. */
  readonly ratio: number;
}

export interface TurnsOptions extends RunHooks {
  readonly rounds: number;
  /** Whether the warm-up's losses must agree: without dropout they are those of the same model on the same batch. */
  readonly sameLoss?: boolean;
  /** Receives what could not be measured, and why. */
  readonly notes: string[];
}

/**
 * One warm-up each, then round by round; a candidate that fails is noted and left out.
 * @throws BenchError `RUN_MISMATCH` where losses must agree and do not, `STOPPED`, and whatever the first candidate throws
 */
export async function takeTurns(
  work: string,
  candidates: readonly Candidate[],
  { rounds, sameLoss = false, notes, progress, signal }: TurnsOptions,
): Promise<Turns[]> {
  const measured = new Map<Candidate, number[]>();
  let expected: number | undefined;
  progress.plan(candidates.reduce((sum, candidate) => sum + 1 + candidate.rounds, 0));
  for (const candidate of candidates) {
    await pauseForStop(signal);
    progress.update(`${work}, ${candidate.name}`, 1);
    try {
      const { loss } = await candidate.run();
      if (sameLoss) expected = checkLoss(candidate.name, loss, expected);
      measured.set(candidate, []);
    } catch (cause) {
      if (candidate === candidates[0] || cause instanceof BenchError) throw cause;
      const reason = cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause);
      notes.push(`${candidate.name}, ${work}, failed: ${reason}`);
    }
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const [candidate, times] of measured) {
      if (times.length >= candidate.rounds) continue;
      await pauseForStop(signal);
      progress.update(`${work}, ${candidate.name}`, 1);
      times.push((await candidate.run()).milliseconds);
    }
  }
  const base = median([...measured][0]![1]);
  return [...measured].map(([{ name }, times]) => {
    const middle = median(times);
    progress.print(`${work}, ${name}: ${middle.toFixed(1)} ms`);
    return { candidate: name, rounds: times, median: middle, ratio: middle / base };
  });
}

/** The same weights and batch must give the same loss, or the candidates compute different models. */
function checkLoss(name: string, loss: number, expected: number | undefined): number {
  if (expected !== undefined && !(Math.abs(loss - expected) <= 1e-4 * Math.abs(expected))) {
    throw new BenchError(
      "RUN_MISMATCH",
      name,
      `the loss without dropout is ${loss}, but ${expected} when compiled. The models differ; do not compare their times.`,
    );
  }
  return expected ?? loss;
}

export async function timed(action: () => Promise<number>) {
  const start = performance.now();
  const loss = await action();
  return { milliseconds: performance.now() - start, loss };
}
