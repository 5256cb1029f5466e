/**
 * @file One graph with the exits inside: each layer lies, with its weights, in a branch that runs only while somebody
 * has not left.
 *
 * N = rows of the input, B = live rows, S = length, C = classes.
 */
import {
  type OnnxAssembly,
  type OnnxPort,
  type OnnxScope,
  type OnnxValue,
  PART_OPSET,
} from "@cee/engine";
import type { ModelShape } from "@cee/exit-policies";
import { type ExitParts, type ExportRows, FINITE, HANDED_ON } from "./exit-parts.js";

/** The names of inputs and outputs, as Hugging Face's exports and pipelines call them. */
export const EXPORT_INPUTS = {
  ids: "input_ids",
  mask: "attention_mask",
  types: "token_type_ids",
  knob: "knob",
} as const;
export const EXPORT_OUTPUTS = ["logits", "prediction", "exit_layer", "non_finite"] as const;
/** What a file has besides when it is asked for every exit's logits. */
export const EXIT_LOGITS = "exit_logits";

export interface ExitGraphOptions {
  readonly rows: ExportRows;
  /** Adds {@link EXIT_LOGITS}. @default false */
  readonly exitLogits?: boolean;
  readonly metadata: Readonly<Record<string, string>>;
  readonly description: string;
}

export type Values = Readonly<Record<string, OnnxValue>>;

/** What a file is fed, as the traced parts take it: `ids`, `types`, `positions` and `mask`. */
export function withTokens(scope: OnnxScope, inputs: Values): Record<string, OnnxValue> {
  const ids = inputs[EXPORT_INPUTS.ids] as OnnxValue;
  return {
    ids: cast(scope, ids, "int32"),
    types: cast(scope, inputs[EXPORT_INPUTS.types] as OnnxValue, "int32"),
    positions: positionsOf(scope, ids),
    mask: cast(scope, inputs[EXPORT_INPUTS.mask] as OnnxValue, "float32"),
  };
}

/** How the parts go together. */
export function exitAssembly(
  parts: ExitParts,
  shape: ModelShape,
  { rows, exitLogits = false, metadata, description }: ExitGraphOptions,
): OnnxAssembly {
  const N = rows === "one" ? 1 : "batch";
  const ids: OnnxPort = { type: "int64", dims: [N, "sequence"] };
  const level = exitLevels(parts, shape, { rows, exitLogits });
  return {
    opset: PART_OPSET,
    metadata,
    description,
    inputs: {
      [EXPORT_INPUTS.ids]: ids,
      [EXPORT_INPUTS.mask]: ids,
      [EXPORT_INPUTS.types]: ids,
      [EXPORT_INPUTS.knob]: { type: "float32", dims: [] },
    },
    outputs: {
      logits: { type: "float32", dims: [N, shape.classes] },
      prediction: { type: shape.task === "regression" ? "float32" : "int64", dims: [N] },
      exit_layer: { type: "int64", dims: [N] },
      non_finite: { type: "int64", dims: [N] },
      ...(exitLogits && {
        [EXIT_LOGITS]: { type: "float32", dims: [N, shape.depth, shape.classes] } as const,
      }),
    },
    build(scope, inputs) {
      const tokens = withTokens(scope, inputs);
      const knob = inputs[EXPORT_INPUTS.knob] as OnnxValue;
      const mask = tokens.mask as OnnxValue;
      const start = scope.inline(parts.embedding, tokens);
      const [logits, layer, finite, path] = level(scope, 1, { ...start, mask, knob }) as [
        OnnxValue,
        OnnxValue,
        OnnxValue,
        OnnxValue?,
      ];
      const { prediction } = scope.inline(parts.answer, { logits }) as { prediction: OnnxValue };
      return {
        logits,
        prediction: shape.task === "regression" ? prediction : cast(scope, prediction, "int64"),
        exit_layer: layer,
        non_finite: scope.node("Sub", [layer, cast(scope, finite, "int64")], "int64"),
        ...(path && { [EXIT_LOGITS]: path }),
      };
    },
  };
}

/**
 * Writes a layer and, in a branch, those after it; gives logits, exit layers and finite exits of the rows it is fed, and
 * where asked the logits of this exit and all after it, NaN where a row did not come.
 */
type Level = (scope: OnnxScope, layer: number, feeds: Values) => readonly OnnxValue[];

function exitLevels(
  parts: ExitParts,
  { depth, classes }: ModelShape,
  { rows, exitLogits }: { readonly rows: ExportRows; readonly exitLogits: boolean },
): Level {
  const isOne = rows === "one";
  const outputs = (layer: number): readonly OnnxPort[] => {
    const B = isOne ? 1 : `live${layer}`;
    return [
      { type: "float32", dims: [B, classes] },
      { type: "int64", dims: [B] },
      { type: "float32", dims: [B] },
      ...(exitLogits ? [{ type: "float32", dims: [B, depth - layer, classes] } as const] : []),
    ];
  };
  /** In place of the logits after this layer, `[B, depth - layer, classes]`. */
  const nothing = (scope: OnnxScope, layer: number, like: OnnxValue): OnnxValue => {
    const size = [1, depth - layer, classes] as const;
    const none = Array.from({ length: size[1] * size[2] }, () => Number.NaN);
    const row = scope.constant("float32", size, none);
    if (isOne) return row;
    const shape = scope.node(
      "Concat",
      [scope.node("Shape", [like], "int64"), scope.constant("int64", [2], [1, 1])],
      "int64",
      { axis: 0 },
    );
    return scope.node("Expand", [row, shape], "float32");
  };
  const level: Level = (scope, layer, feeds) => {
    const made = scope.inline(parts.layers[layer - 1] as ExitParts["layers"][number], feeds);
    const [logits, finite] = [made.logits, made[`state/${FINITE}`]] as [OnnxValue, OnnxValue];
    const here = (inner: OnnxScope): readonly OnnxValue[] => [
      logits,
      layersOf(inner, layer, isOne ? undefined : finite),
      finite,
      ...(exitLogits && layer < depth ? [nothing(inner, layer, finite)] : []),
    ];
    /** Puts this exit's logits before those of the exits after it. */
    const traced = ([a, b, c, after]: readonly OnnxValue[]): readonly OnnxValue[] => {
      const first = [a, b, c] as readonly OnnxValue[];
      if (!exitLogits) return first;
      const axis = scope.constant("int64", [1], [1]);
      const own = scope.node("Unsqueeze", [logits, axis], "float32"); // [B, 1, C]
      return [...first, after ? scope.node("Concat", [own, after], "float32", { axis: 1 }) : own];
    };
    if (layer === depth) return traced(here(scope));
    const exit = made.exit as OnnxValue;
    const next: Values = {
      hidden: made.hidden as OnnxValue,
      mask: feeds.mask as OnnxValue,
      bias: feeds.bias as OnnxValue,
      ...Object.fromEntries(Object.entries(made).filter(([path]) => isHandedOn(path))),
    };
    if (isOne)
      return traced(
        scope.branch(exit, outputs(layer), {
          whenTrue: here,
          whenFalse: (inner) => level(inner, layer + 1, { ...next, knob: feeds.knob as OnnxValue }),
        }),
      );
    // A gather of indices, not Compress: WebGPU has kernels for gathering, and the indices of a few rows are cheap.
    const found = scope.node("NonZero", [scope.node("Not", [exit], "bool")], "int64"); // [1, n]
    const staying = scope.node("Transpose", [found], "int64", { perm: [1, 0] }); // [n, 1]
    const places = scope.node("Reshape", [found, scope.constant("int64", [1], [-1])], "int64"); // [n]
    const isAnybody = scope.node(
      "Greater",
      [scope.node("Size", [places], "int64"), scope.constant("int64", [], [0])],
      "bool",
    );
    return traced(
      scope.branch(isAnybody, outputs(layer), {
        whenTrue(inner) {
          const kept = Object.fromEntries(
            Object.entries(next).map(([path, value]) => [
              path,
              inner.node("Gather", [value, places], value.type, { axis: 0 }),
            ]),
          );
          const deeper = level(inner, layer + 1, { ...kept, knob: feeds.knob as OnnxValue });
          // Indices are unique, so nothing is added up and no write is lost.
          return here(inner).map((value, index) =>
            inner.node("ScatterND", [value, staying, deeper[index] as OnnxValue], value.type),
          );
        },
        whenFalse: here,
      }),
    );
  };
  return level;
}

function isHandedOn(path: string): boolean {
  return HANDED_ON.some((key) => path === key || path.startsWith(`${key}/`));
}

/** One layer's number for every row, int64 `[B]`; `like` is any `[B]` value, or nothing for a single row. */
function layersOf(scope: OnnxScope, layer: number, like: OnnxValue | undefined): OnnxValue {
  if (!like) return scope.constant("int64", [1], [layer]);
  const rows = scope.node("Shape", [like], "int64");
  return scope.node("Expand", [scope.constant("int64", [], [layer]), rows], "int64");
}

/** 0, 1, … S - 1 as int32 `[S]`. */
function positionsOf(scope: OnnxScope, ids: OnnxValue): OnnxValue {
  return cast(scope, rangeOf(scope, sizeOf(scope, ids, 1)), "int32");
}

/** The size of an axis, a scalar. */
export function sizeOf(scope: OnnxScope, value: OnnxValue, axis: number): OnnxValue {
  return squeeze(scope, scope.node("Shape", [value], "int64", { start: axis, end: axis + 1 }));
}

/** 0, 1, … size - 1. */
export function rangeOf(scope: OnnxScope, size: OnnxValue): OnnxValue {
  const [zero, one] = [0, 1].map((number) => scope.constant("int64", [], [number])) as [
    OnnxValue,
    OnnxValue,
  ];
  return scope.node("Range", [zero, size, one], "int64");
}

/** `[1]` to a scalar. */
function squeeze(scope: OnnxScope, value: OnnxValue): OnnxValue {
  return scope.node("Squeeze", [value, scope.constant("int64", [1], [0])], value.type);
}

export function cast(
  scope: OnnxScope,
  value: OnnxValue,
  type: "int32" | "int64" | "float32",
): OnnxValue {
  return scope.node("Cast", [value], type, { to: { float32: 1, int32: 6, int64: 7 }[type] });
}
