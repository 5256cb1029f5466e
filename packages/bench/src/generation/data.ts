/** @file What `bench generation` trains and decodes: generated texts, or Alpaca, Dolly and CNN/DailyMail files. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import {
  type CausalDecoder,
  cutPrompt,
  type DecoderText,
  type PromptTemplate,
  promptParts,
  supervisedText,
} from "@cee/backbone";
import {
  generateArticles,
  generateInstructions,
  type InstructionRow,
} from "../data/embedded-texts.js";
import { takeRows } from "../data/subset.js";
import { BenchError } from "../errors.js";
import type { GenerationOptions } from "./options.js";

/** Texts before any model is known. */
export interface RawTask {
  readonly name: string;
  readonly title: string;
  /** `own`: what the same model writes at full depth; `gold`: the rows' responses. */
  readonly reference: "own" | "gold";
  readonly rows: readonly InstructionRow[];
}

export interface RawData {
  readonly source: "embedded" | "folder";
  readonly train: readonly InstructionRow[];
  /** Texts for the encoder that scores, whatever the limit. */
  readonly scorer: readonly InstructionRow[];
  readonly tasks: readonly RawTask[];
}

const FILES = {
  alpaca: "alpaca/alpaca_data.json",
  dolly: "dolly/databricks-dolly-15k.jsonl",
  cnn: "cnn_dailymail/validation.jsonl",
} as const;

/** Rows of the embedded default. */
const EMBEDDED = { instructions: 1200, articles: 400, prompts: 32 } as const;
/** Prompts that are decoded, of each task. */
const PROMPTS = 64;
/** Rows that the encoder behind BERTScore learns from. */
const SCORER_ROWS = 4000;

/** @throws BenchError `MISSING_FILE` or `BAD_FILE` */
export function loadRaw({ data, limit, prompts, seed }: GenerationOptions): RawData {
  if (data === "embedded") {
    const count = prompts ?? EMBEDDED.prompts;
    const train = [
      ...generateInstructions(EMBEDDED.instructions, `train ${seed}`),
      ...generateArticles(EMBEDDED.articles, `train ${seed}`),
    ];
    return {
      source: "embedded",
      train: takeRows(train, limit, seed, "train"),
      scorer: train,
      tasks: [
        {
          name: "instructions",
          title: "Generated instructions",
          reference: "own",
          rows: generateInstructions(count, `test ${seed}`),
        },
        {
          name: "articles",
          title: "Generated articles",
          reference: "gold",
          rows: generateArticles(count, `test ${seed}`),
        },
      ],
    };
  }
  const count = prompts ?? PROMPTS;
  const alpaca = readRows(path.join(data, FILES.alpaca), "alpaca", (row) => ({
    instruction: row.instruction,
    input: row.input ?? "",
    response: row.output,
  }));
  const dolly = readRows(path.join(data, FILES.dolly), "dolly", (row) => ({
    instruction: row.instruction,
    input: row.context ?? "",
    response: row.response,
  }));
  const cnn = readRows(path.join(data, FILES.cnn), "cnn", (row) => ({
    instruction: "Write the highlights of the article.",
    input: row.article,
    response: row.highlights,
  }));
  // The articles that are decoded are the last ones; the others teach what highlights look like.
  const learned = cnn.slice(0, Math.max(0, cnn.length - count));
  const wanted = takeRows(alpaca, limit, seed, "alpaca");
  const share = Math.min(learned.length, Math.ceil(wanted.length / 4));
  return {
    source: "folder",
    train: [...wanted, ...takeRows(learned, Math.max(1, share), seed, "cnn")],
    scorer: takeRows([...alpaca, ...learned], SCORER_ROWS, seed, "scorer"),
    tasks: [
      {
        name: "dolly",
        title: "Dolly",
        reference: "own",
        rows: takeRows(dolly, count, seed, "dolly"),
      },
      { name: "cnn", title: "CNN/DailyMail", reference: "gold", rows: cnn.slice(-count) },
    ],
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** A JSON list, or a JSON object a line. */
function readRows(
  file: string,
  label: string,
  pick: (row: Fields) => { readonly [K in keyof Omit<InstructionRow, "id">]: unknown },
): InstructionRow[] {
  if (!existsSync(file))
    throw new BenchError(
      "MISSING_FILE",
      "--data",
      `there is no ${file}. The folder must hold ${Object.values(FILES).join(", ")}.`,
    );
  const text = readFileSync(file, "utf8").replace(/^\uFEFF/, "");
  let rows: unknown[];
  try {
    rows = file.endsWith(".json")
      ? (JSON.parse(text) as unknown[])
      : text
          .split("\n")
          .filter((line) => line.trim() !== "")
          .map((line) => JSON.parse(line) as unknown);
  } catch (cause) {
    throw new BenchError("BAD_FILE", file, `is not JSON: ${(cause as Error).message}.`, { cause });
  }
  return rows.flatMap((row, index) => {
    const found = pick((row ?? {}) as Fields);
    const bad = Object.entries(found).find(([, value]) => typeof value !== "string");
    if (bad)
      throw new BenchError(
        "BAD_FILE",
        file,
        `row ${index + 1} needs a text for ${bad[0]}, got ${JSON.stringify(bad[1])}. Get the file again.`,
      );
    const picked = found as Omit<InstructionRow, "id">;
    // Nothing can be learned from, or compared with, an empty response.
    return picked.response.trim() === "" ? [] : [{ id: `${label}-${index + 1}`, ...picked }];
  });
}

/** A prompt as the model sees it. */
export interface Prompt {
  readonly id: string;
  readonly ids: readonly number[];
  /** For the report. */
  readonly text: string;
  readonly reference: string;
}

export interface PreparedTask extends Omit<RawTask, "rows"> {
  readonly prompts: readonly Prompt[];
  /** Mean share of the inputs' tokens that fit into the positions. */
  readonly kept: number;
  /** Inputs that were cut. */
  readonly cut: number;
}

export interface PreparedData {
  readonly source: RawData["source"];
  readonly train: readonly DecoderText[];
  readonly dev: readonly DecoderText[];
  /** Training rows whose prompt alone fills the length. */
  readonly leftOut: number;
  readonly tasks: readonly PreparedTask[];
}

/** Turns texts into tokens of a model. */
export function prepareData(
  raw: RawData,
  decoder: CausalDecoder,
  options: {
    readonly template: PromptTemplate;
    readonly maxLength: number;
    readonly maxNewTokens: number;
    readonly lossOn: "response" | "all";
  },
): PreparedData {
  const { template, maxLength, maxNewTokens, lossOn } = options;
  const { maxPositions } = decoder.config;
  const promptOf = (row: InstructionRow, room: number) =>
    cutPrompt(decoder, { ...promptParts(row, template), text: row.input }, room);
  const texts = raw.train.flatMap((row) => {
    // A long input leaves at least half of the length to the response.
    const { ids } = cutOrNothing(() => promptOf(row, Math.ceil(maxLength / 2))) ?? { ids: [] };
    const text = supervisedText(
      decoder,
      { id: row.id, prompt: ids, response: row.response },
      { maxLength, lossOn },
    );
    return text ? [text] : [];
  });
  const held = Math.min(64, Math.floor(texts.length / 10));
  return {
    source: raw.source,
    train: texts.filter((_, index) => !isHeldOut(index, texts.length, held)),
    dev: texts.filter((_, index) => isHeldOut(index, texts.length, held)),
    leftOut: raw.train.length - texts.length,
    tasks: raw.tasks.map(({ rows, ...task }) => {
      const room = Math.min(maxPositions - maxNewTokens, maxPositions - 1);
      const shares: number[] = [];
      const prompts = rows.flatMap((row): Prompt[] => {
        const made = cutOrNothing(() => promptOf(row, room));
        if (!made) return [];
        shares.push(made.kept);
        const text = row.input === "" ? row.instruction : `${row.instruction}\n${row.input}`;
        return [{ id: row.id, ids: made.ids, text, reference: row.response }];
      });
      return {
        ...task,
        prompts,
        kept: shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length),
        cut: shares.filter((share) => share < 1).length,
      };
    }),
  };
}

/** Spread evenly, so that every kind of row is held out. */
function isHeldOut(index: number, rows: number, held: number): boolean {
  return Math.floor((index * held) / rows) !== Math.floor(((index + 1) * held) / rows);
}

/** An instruction that is too long by itself is left out. */
function cutOrNothing<T>(cut: () => T): T | undefined {
  try {
    return cut();
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "TOO_LONG") return undefined;
    throw cause;
  }
}
