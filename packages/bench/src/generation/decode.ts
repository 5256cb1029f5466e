/** @file Decodes prompts at every point of a method's curve, and times some of them one by one. */
import type { CausalLM, GenerateOptions, Generation } from "@cee/consistentee";
import { checkStop } from "../glue/stop.js";
import { median } from "../metrics/statistics.js";
import type { Knob } from "../results.js";
import type { Prompt } from "./data.js";

/** A point to decode: an opened model with options. */
export interface DecodingPoint {
  readonly knob: Knob | null;
  readonly model: CausalLM;
  readonly generate: GenerateOptions;
}

/** What the texts of a point are. */
export interface DecodedPoint {
  readonly knob: Knob | null;
  readonly texts: readonly string[];
  /** Exit layers of each text's tokens, without the one that the prompt's own pass gave. */
  readonly exits: readonly (readonly number[])[];
  /** Blocks run per token, in layers; more than the mean exit layer where drafts were dropped. */
  readonly layersPerToken: number;
}

const BATCH = 16;

export async function decodePoint(
  { knob, model, generate }: DecodingPoint,
  prompts: readonly Prompt[],
  signal: AbortSignal | undefined,
): Promise<DecodedPoint> {
  const rows: Generation[] = [];
  let tokenLayers = 0;
  for (let at = 0; at < prompts.length; at += BATCH) {
    checkStop(signal);
    const part = prompts.slice(at, at + BATCH).map(({ ids }) => ids);
    const { rows: found, stats } = await model.generateBatch(part, generate);
    rows.push(...found);
    tokenLayers += stats.tokenLayers;
  }
  const exits = rows.map(({ exitLayers }) => exitLayers.slice(1));
  const tokens = exits.reduce((sum, { length }) => sum + length, 0);
  return {
    knob,
    texts: rows.map(({ text }) => text.trim()),
    exits,
    layersPerToken: tokens === 0 ? Number.NaN : tokenLayers / tokens,
  };
}

export interface Speed {
  /** Median over rounds; tokens behind the first. */
  readonly tokensPerSecond: number;
  /** Each round's time per token, in milliseconds. */
  readonly rounds: readonly number[];
}

/** Times all points over the same prompts, one prompt at a time, in turn; the first round warms up. */
export async function timePoints(
  points: readonly DecodingPoint[],
  prompts: readonly Prompt[],
  rounds: number,
  signal: AbortSignal | undefined,
): Promise<readonly Speed[]> {
  const perToken = points.map(() => [] as number[]);
  for (let round = 0; round <= rounds; round += 1) {
    const spent = points.map(() => ({ milliseconds: 0, tokens: 0 }));
    for (const { ids } of prompts)
      for (const [index, { model, generate }] of points.entries()) {
        checkStop(signal);
        let first: number | undefined;
        const sum = spent[index] as { milliseconds: number; tokens: number };
        for await (const _ of model.stream(ids, generate)) {
          // From the first token on: the prompt's pass is the same for all.
          if (first === undefined) first = performance.now();
          else sum.tokens += 1;
        }
        if (first !== undefined) sum.milliseconds += performance.now() - first;
      }
    if (round === 0) continue;
    spent.forEach(({ milliseconds, tokens }, index) => {
      if (tokens > 0) perToken[index]?.push(milliseconds / tokens);
    });
  }
  return perToken.map((own) => ({
    tokensPerSecond: own.length === 0 ? Number.NaN : 1000 / median(own),
    rounds: own,
  }));
}
