/** @file What a run leaves in `results.json`. */
import path from "node:path";
import type { CausalDecoder } from "@cee/backbone";
import type { Engine } from "@cee/engine";
import { machineOf, versionsOf } from "../glue/versions.js";
import type { BertScore } from "../metrics/bert-score.js";
import { matchedFields } from "../protocol/matched.js";
import type { Failure, ResponseSample, ResultRow, Results } from "../results.js";
import type { Reference } from "./cells.js";
import type { PreparedData } from "./data.js";
import { curveMetrics } from "./evaluate.js";
import type { GenerationOptions } from "./options.js";
import { titles } from "./points.js";
import { type CellResponses, SAMPLES } from "./responses.js";

/** Speed-ups that the report puts beside each other, nearest points taken. */
const SHOWN = [1.25, 1.5, 2, 3];

export function samplesOf(
  { task, references, decoded }: Reference,
  cells: readonly CellResponses[],
): ResponseSample[] {
  return task.prompts.slice(0, SAMPLES).map(({ id, text }, row) => ({
    task: task.name,
    id,
    prompt: text,
    reference: references[row] as string,
    answers: [
      {
        method: "full",
        knob: null,
        speedup: 1,
        score: decoded.scored.rougeL[row] as number,
        text: decoded.decoded.texts[row] as string,
      },
      ...cells.flatMap(({ method, points }) => {
        const own = points.filter(({ knob }) => knob !== null);
        const near = SHOWN.map((wanted) =>
          own.reduce<(typeof own)[number] | undefined>((best, point) => {
            const off = (one: { readonly speedup: number }) => Math.abs(one.speedup - wanted);
            return best === undefined || off(point) < off(best) ? point : best;
          }, undefined),
        );
        return [...new Set(near)].flatMap((point) =>
          point
            ? [
                {
                  method,
                  knob: point.knob,
                  speedup: point.speedup,
                  score: point.scores[row] as number,
                  text: point.texts[row] as string,
                },
              ]
            : [],
        );
      }),
    ],
  }));
}

export function resultsOf(
  {
    engine,
    options,
    data,
    bert,
    maxNewTokens,
  }: {
    readonly engine: Engine;
    readonly options: GenerationOptions;
    readonly data: PreparedData;
    readonly bert: BertScore;
    readonly maxNewTokens: number;
  },
  {
    backbone,
    decoder,
    rows,
    failures,
    responses,
  }: {
    readonly backbone: string;
    readonly decoder: CausalDecoder;
    readonly rows: readonly ResultRow[];
    readonly failures: readonly Failure[];
    readonly responses: readonly ResponseSample[];
  },
): Results {
  const { depth, hidden, vocabSize, maxPositions } = decoder.config;
  return {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone: {
      name: path.basename(backbone),
      depth,
      hidden,
      vocabSize,
      maxPositions,
      heads: decoder.heads,
    },
    data: {
      source: data.source,
      trainingTexts: data.train.length,
      leftOut: data.leftOut,
      bertScore: `${bert.identity}, layer ${bert.layer}`,
      maxNewTokens,
      decoding: "greedy",
      tasks: Object.fromEntries(
        data.tasks.flatMap((task) =>
          curveMetrics.map(({ suffix }) => [
            `${task.name}${suffix}`,
            {
              prompts: task.prompts.length,
              reference: task.reference === "own" ? "full depth's own response" : "gold summary",
              cutInputs: task.cut,
              inputKept: `${(100 * task.kept).toFixed(1)} %`,
            },
          ]),
        ),
      ),
    },
    rows,
    titles: {
      tasks: Object.fromEntries(
        data.tasks.flatMap(({ name, title }) =>
          curveMetrics.map(({ suffix, title: metric }) => [
            `${name}${suffix}`,
            `${title}${metric}`,
          ]),
        ),
      ),
      methods: Object.fromEntries(options.methods.map((method) => [method, titles[method]])),
    },
    versions: versionsOf(engine),
    machine: machineOf(engine),
    ...(failures.length > 0 ? { failures } : {}),
    matched: matchedFields(rows),
    responses,
  };
}
