/**
 * @file Early exit in one session and one call: what the library runs where a strategy can decide inside a graph, and
 * how an exported file is used from JavaScript.
 *
 * N = rows, S = length, C = classes.
 */
import {
  assembleOnnx,
  type Engine,
  type HostParams,
  type OnnxTensor,
  type OpenedModel,
} from "@cee/engine";
import type { Classification, ExitStrategy, ModelShape, Observer } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { checkBatch, type TokenBatch } from "../runner/batch.js";
import type { ModelPlan } from "../runner/signals.js";
import { EXPORT_INPUTS, exitAssembly } from "./exit-graph.js";
import { type ExportRows, traceExits } from "./exit-parts.js";

/** A graph with its exits inside. */
export interface InGraphExits {
  readonly shape: ModelShape;
  /** Runs a batch; `knob` is the strategy's, 0 where it has none. Rows that have left cost nothing. */
  classify(batch: TokenBatch, knob: number): Promise<Classification>;
  dispose(): Promise<void>;
}

/**
 * Compiles the model with the exits of `strategy` in one graph; any value of its knob can be run.
 *
 * The layer loop (`openEncoder` and `classify`) decides alike and is needed for what a graph does not do: record, ask
 * about single rows (`RowHooks`), and stop at a depth budget.
 * @throws BackboneError `NOT_EXPORTABLE` when the strategy has no tensor form
 */
export async function openInGraph(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  strategy: ExitStrategy,
  observer: Observer,
  { rows = "many" }: { readonly rows?: ExportRows } = {},
): Promise<InGraphExits> {
  const parts = traceExits(model, params, strategy, observer, rows);
  const file = assembleOnnx(
    exitAssembly(parts, model.shape, { rows, metadata: {}, description: "" }),
  );
  const opened = await engine.open(file, { name: `exits of ${strategy.name}` });
  return exitsOf(opened, model.shape, (batch) => checkBatch(batch, model.config, "classify"), rows);
}

/**
 * Opens what `exportOnnx` made, or the file at a path, whose weights may lie beside it. Token ids are not compared with the
 * vocabulary, which the file does not tell.
 * @throws EngineError `RUN_FAILED` when it is no model that the runtime takes
 */
export async function openExported(
  engine: Engine,
  model: Uint8Array | string,
  shape: ModelShape,
  rows: ExportRows = "many",
): Promise<InGraphExits> {
  return exitsOf(await engine.open(model, { name: "exported" }), shape, () => undefined, rows);
}

function exitsOf(
  opened: OpenedModel,
  shape: ModelShape,
  check: (batch: TokenBatch) => void,
  rows: ExportRows,
): InGraphExits {
  return {
    shape,
    async classify(batch, knob) {
      check(batch);
      if (rows === "one" && batch.rows !== 1)
        throw new BackboneError(
          "BAD_INPUT",
          "classify",
          `this graph runs one row at a time, got ${batch.rows}. Build it for many rows.`,
        );
      const output = await opened.run(exportFeeds(batch, knob));
      return toClassification(output, batch.rows);
    },
    dispose: () => opened.dispose(),
  };
}

/** A batch as inputs of an exported file. */
export function exportFeeds(batch: TokenBatch, knob: number): Record<string, OnnxTensor> {
  const shape = [batch.rows, batch.length];
  const tokens = (data: ArrayLike<number>): OnnxTensor => ({
    type: "int64",
    shape,
    data: toInt64(data),
  });
  return {
    [EXPORT_INPUTS.ids]: tokens(batch.ids),
    [EXPORT_INPUTS.mask]: tokens(batch.mask),
    [EXPORT_INPUTS.types]: tokens(batch.types),
    [EXPORT_INPUTS.knob]: { type: "float32", shape: [], data: Float32Array.of(knob) },
  };
}

/** Whole numbers from 0 to 2^31 - 1, written as low words: a BigInt each is ten times slower. */
function toInt64(numbers: ArrayLike<number>): BigInt64Array {
  const words = new Int32Array(2 * numbers.length);
  for (let index = 0; index < numbers.length; index += 1)
    words[2 * index] = numbers[index] as number;
  // On a machine of the other byte order the low word comes last.
  return isLittleEndian
    ? new BigInt64Array(words.buffer)
    : BigInt64Array.from(numbers, (number) => BigInt(number));
}

const isLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

function toClassification(
  output: Readonly<Record<string, OnnxTensor>>,
  rows: number,
): Classification {
  const numbers = (name: string) => Array.from((output[name] as OnnxTensor).data, Number);
  const exitLayers = Int32Array.from(numbers("exit_layer"));
  return {
    rows,
    exitLayers,
    logits: (output.logits as OnnxTensor).data as Float32Array,
    predictions: Float32Array.from(numbers("prediction")),
    nonFinite: numbers("non_finite").reduce((sum, count) => sum + count, 0),
    rowLayers: exitLayers.reduce((sum, layer) => sum + layer, 0),
  };
}
