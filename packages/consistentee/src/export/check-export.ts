/** @file Compares an exported file with the library, row by row. N = rows, T = layers, C = classes. */
import { openEncoder, openExported, type TokenBatch, toBatch } from "@cee/backbone";
import { createRng, type Engine, type Rng } from "@cee/engine";
import {
  agreement,
  type Classification,
  classify,
  nearTies,
  record,
  toObserver,
} from "@cee/exit-policies";
import { ConsistentEEError } from "../errors.js";
import { type CompleteParts, type LoadPartsOptions, loadParts } from "../model-folder.js";
import { type ClassifyInput, prepareRow, refuseMixture } from "../requests.js";
import { openEngine, type RunnerOptions } from "../serve/open-runner.js";
import { decidingInFile, type ExportOptions } from "./export-model.js";

export interface CheckExportOptions
  extends LoadPartsOptions,
    RunnerOptions,
    Pick<ExportOptions, "rows" | "knob"> {
  /** Texts or pairs to compare on, or how many rows of random tokens. @default 200 */
  readonly inputs?: readonly ClassifyInput[] | number;
  /** Rows per batch; 1 for a file for one row at a time. @default 32 */
  readonly batch?: number;
}

export interface ExportAgreement {
  readonly rows: number;
  /** Rows that the file answers differently, or at another layer. */
  readonly differing: number;
  /** Those of them that the last digits of floating point do not explain. */
  readonly unexplained: number;
  /** Rows whose exit or answer changes when their numbers move by 1e-4. */
  readonly nearTies: number;
  /** Share of rows with the same answer, whatever their layer. */
  readonly sameAnswer: number;
  readonly meanExitLayer: { readonly library: number; readonly file: number };
  /** Between logits of rows that left at the same layer. */
  readonly largestLogitGap: number;
}

/**
 * Runs the same rows through the library's layer loop and through the file.
 * @throws ConsistentEEError `BAD_INPUT`, `BAD_OPTION` and what loading the model throws; EngineError `RUN_FAILED` when the
 * file is none that the runtime takes
 */
export async function checkExport(
  folderOrId: string,
  file: string,
  options: CheckExportOptions = {},
): Promise<ExportAgreement> {
  const parts = await loadParts(folderOrId, options);
  const { encoder } = parts;
  const { strategy, params } = decidingInFile(parts, options.knob);
  const { rows: form = "many" } = options;
  const batches = batchesOf(parts, options);
  const engine = await openEngine(options);
  try {
    const library = await inLibrary(engine, { encoder, strategy, params }, batches);
    const knob = strategy.definition.knob;
    const value = knob ? (strategy.options[knob.option] as number) : 0;
    const model = await openExported(engine, file, encoder.shape, form);
    const found: Classification[] = [];
    try {
      for (const batch of batches) found.push(await model.classify(batch, value));
    } finally {
      await model.dispose();
    }
    return compare(library.outcome, joined(found), library.ties, encoder.shape.classes);
  } finally {
    await engine.dispose();
  }
}

type Deciding = Pick<CompleteParts, "encoder" | "strategy" | "params">;

async function inLibrary(
  engine: Engine,
  { encoder, strategy, params }: Deciding,
  batches: readonly TokenBatch[],
): Promise<{ readonly outcome: Classification; readonly ties: readonly number[] }> {
  const runner = await openEncoder(engine, encoder, encoder.params, toObserver(strategy, params));
  try {
    const parts: Classification[] = [];
    for (const batch of batches) parts.push(await classify(runner, batch, strategy));
    const outcome = joined(parts);
    const rows = { ids: Array.from(outcome.exitLayers, (_, row) => String(row)) };
    const labels = new Float32Array(outcome.rows).fill(Number.NaN);
    const made = await record(runner, batches, { ...rows, labels });
    return { outcome, ties: nearTies(made, strategy) };
  } finally {
    await runner.dispose();
  }
}

/** Several batches' outcomes as one. */
function joined(parts: readonly Classification[]): Classification {
  const join = (name: "exitLayers" | "logits" | "predictions") =>
    parts.flatMap((part) => [...part[name]]);
  const sum = (name: "rows" | "nonFinite" | "rowLayers") =>
    parts.reduce((all, part) => all + part[name], 0);
  return {
    rows: sum("rows"),
    exitLayers: Int32Array.from(join("exitLayers")),
    logits: Float32Array.from(join("logits")),
    predictions: Float32Array.from(join("predictions")),
    nonFinite: sum("nonFinite"),
    rowLayers: sum("rowLayers"),
  };
}

function compare(
  library: Classification,
  file: Classification,
  ties: readonly number[],
  classes: number,
): ExportAgreement {
  const isValue = classes === 1;
  const { rows, differing, unexplained } = agreement(library, file, ties, isValue ? 1e-3 : 0);
  let same = 0;
  let gap = 0;
  for (let row = 0; row < rows; row += 1) {
    const distance = Math.abs(
      (library.predictions[row] as number) - (file.predictions[row] as number),
    );
    if (distance <= (isValue ? 1e-3 : 0)) same += 1;
    if (library.exitLayers[row] !== file.exitLayers[row]) continue;
    for (let cell = row * classes; cell < (row + 1) * classes; cell += 1)
      gap = Math.max(
        gap,
        Math.abs((library.logits[cell] as number) - (file.logits[cell] as number)),
      );
  }
  return {
    rows,
    differing: differing.length,
    unexplained: unexplained.length,
    nearTies: ties.length,
    sameAnswer: same / rows,
    meanExitLayer: { library: library.rowLayers / rows, file: file.rowLayers / rows },
    largestLogitGap: gap,
  };
}

function batchesOf(
  { encoder }: CompleteParts,
  { inputs = 200, batch, rows: form = "many" }: CheckExportOptions,
): TokenBatch[] {
  const { tokenizer, config } = encoder;
  const size = form === "one" ? 1 : (batch ?? 32);
  let rows: readonly { readonly ids: Int32Array; readonly types: Int32Array }[];
  if (typeof inputs === "number") rows = inventRows(inputs, config, createRng("export"));
  else {
    if (!tokenizer)
      throw new ConsistentEEError(
        "NO_TOKENIZER",
        "checkExport",
        "the model must have a tokenizer to read texts, got none. Compare on random tokens: inputs: 200.",
      );
    const maxLength = config.maxPositions;
    const prepared = inputs.map((input, index) =>
      prepareRow(input, `row ${index}`, { tokenizer, maxLength, tooLong: "truncate" }),
    );
    prepared.forEach(({ isPair }, index) => {
      refuseMixture(isPair, prepared[0]?.isPair === true, `row ${index}`);
    });
    rows = prepared;
  }
  if (rows.length === 0)
    throw new ConsistentEEError(
      "BAD_INPUT",
      "checkExport",
      "there must be at least one row to compare on, got none. Give texts, or a number of random rows.",
    );
  const padId = tokenizer?.padId ?? 0;
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, index) =>
    toBatch(rows.slice(index * size, (index + 1) * size), { padId }),
  );
}

/** Rows of random tokens, up to 64 long. */
function inventRows(
  count: number,
  { vocabSize, maxPositions }: { readonly vocabSize: number; readonly maxPositions: number },
  rng: Rng,
) {
  const longest = Math.min(64, maxPositions);
  return Array.from({ length: count }, () => {
    const ids = Int32Array.from({ length: 2 + rng.int(longest - 1) }, () => rng.int(vocabSize));
    return { ids, types: new Int32Array(ids.length) };
  });
}
