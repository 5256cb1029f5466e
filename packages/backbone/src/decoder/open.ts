/**
 * @file Compiles a decoder, with or without an observer, into what the token loop runs.
 *
 * Shapes: B = rows, S = new tokens, P = cached tokens, G = key and value heads, D = head size, H = hidden size.
 */
import type { CompiledFunction, Engine, HostTensor, HostTree, SpecTree } from "@cee/engine";
import type { Observer, TokenRunner } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { compileClearly } from "../runner/compile.js";
import { withStrategy } from "../runner/layer.js";
import { cacheBytes } from "./cache.js";
import type { CausalDecoder } from "./decoder.js";
import { DecoderPass, type Programs } from "./pass.js";
import {
  compileFill,
  compileGroup,
  compileProjection,
  type Group,
  groupsOf,
  type LastTokens,
} from "./programs.js";

export interface OpenDecoderOptions {
  /** What is observed at every exit but the last. @default nothing */
  readonly observer?: Observer | undefined;
  /**
   * Layers below the last where a token may stop. Blocks between two exits run as one graph, so fewer exits cost less.
   * @default every layer with an observer, none without
   */
  readonly exits?: readonly number[] | undefined;
  /** Keys and values of one batch may take so many bytes; what a batch would need is checked before it starts. @default 2 GiB */
  readonly maxCacheBytes?: number | undefined;
  /**
   * Copies of key and value projections may take so many bytes, so that skipped layers are filled in one call; beyond
   * that it is a call for each exit above. @default 128 MiB
   */
  readonly maxFillBytes?: number | undefined;
  /** Whether the observer's own parameters were trained; hosts refuse those that never were. @default taken on trust */
  readonly isStrategyTrained?: boolean | undefined;
}

export interface DecoderRunner extends TokenRunner {
  /** Batches that hold a cache. */
  readonly openPasses: number;
  /** Bytes that they hold. */
  readonly cacheBytes: number;
}

const DEFAULT_CACHE_BYTES = 2 ** 31;
const DEFAULT_FILL_BYTES = 2 ** 27;

/**
 * Compiles the decoder with its weights baked in.
 * @throws BackboneError `BAD_OPTION`
 */
export async function openDecoder(
  engine: Engine,
  decoder: CausalDecoder,
  {
    observer,
    exits,
    maxCacheBytes = DEFAULT_CACHE_BYTES,
    maxFillBytes = DEFAULT_FILL_BYTES,
    isStrategyTrained = true,
  }: OpenDecoderOptions = {},
): Promise<DecoderRunner> {
  const { config, shape, trainedHeads } = decoder;
  const stops = resolveExits(exits, observer, config.depth);
  const params = withStrategy(decoder.params, observer);
  const programs: CompiledFunction[] = [];
  const compile = (...args: Parameters<Engine["compile"]>): CompiledFunction => {
    const program = compileClearly(engine, ...args);
    programs.push(program);
    return program;
  };
  const fills = new Map<string, CompiledFunction>();
  const projections = new Map<number, CompiledFunction>();
  const lazily = <TKey>(
    made: Map<TKey, CompiledFunction>,
    key: TKey,
    make: () => CompiledFunction,
  ): CompiledFunction => {
    const known = made.get(key);
    if (known) return known;
    const program = make();
    made.set(key, program);
    return program;
  };
  const groups = groupsOf(stops);
  const lastTokensOf = ({ to }: Group, carry?: HostTree): LastTokens => {
    // Without exits every token is answered where the blocks end, in the same run.
    if (to === config.depth) return groups.length === 1 ? "answer" : undefined;
    return observer && { observer, carry: carry === undefined ? undefined : carrySpecs(carry) };
  };
  const dispose = async (): Promise<void> => {
    for (const program of programs) await program.dispose();
  };
  const compiled: CompiledFunction[] = [];
  try {
    let carry: HostTree | undefined;
    for (const [index, group] of groups.entries()) {
      const lastTokens = lastTokensOf(group, carry);
      const program = compileGroup(compile, decoder, params, group, lastTokens);
      compiled.push(program);
      if (typeof lastTokens !== "object") continue;
      // One short run shows what the observer hands on, and keeps the first request as fast as the others.
      const output = await program.run<Record<string, HostTree>>(
        probe(decoder, index === 0, group.to - group.from, carry),
      );
      carry = output.carry;
    }
  } catch (error) {
    await dispose();
    throw error;
  }
  const all: Programs = {
    groups,
    group: (index) => compiled[index] as CompiledFunction,
    fillsAbove(layer) {
      const above = groups.filter(({ from }) => from >= layer);
      // One call in place of one for every exit above, where that many copies of the projections are small.
      const parts = fillBytes(config, stops) <= maxFillBytes ? [joined(above)] : above;
      return parts.map((group) => ({
        group,
        program: lazily(fills, `${group.from}-${group.to}`, () =>
          compileFill(compile, decoder, params, group),
        ),
      }));
    },
    projection(layer) {
      // Shared heads are one program, whichever layer asks.
      const own = decoder.heads === "shared" ? config.depth : layer;
      return lazily(projections, own, () => compileProjection(compile, decoder, params, own));
    },
    looksAtLast: (index) => lastTokensOf(groups[index] as Group) !== undefined,
  };
  const passes = new Set<DecoderPass>();
  let disposed = false;
  return {
    shape,
    exits: stops,
    positions: config.maxPositions,
    // A shared projection answers at every layer, well or badly; heads of their own must have been trained.
    trained: {
      heads:
        decoder.heads === "per-layer"
          ? trainedHeads
          : Array.from({ length: config.depth }, (_, index) => index + 1),
      strategy: isStrategyTrained,
    },
    get openPasses() {
      return passes.size;
    },
    get cacheBytes() {
      return [...passes].reduce((sum, pass) => sum + pass.cacheBytes, 0);
    },
    begin(rows, { maxTokens }) {
      if (disposed)
        throw new BackboneError("DISPOSED", "begin", "the decoder was disposed of. Open it again.");
      const needed = cacheBytes(rows, maxTokens, config);
      // A limit that is no number is no leave to take all there is.
      if (!(needed <= maxCacheBytes)) {
        throw new BackboneError(
          "CACHE_TOO_LARGE",
          "begin",
          `keys and values of ${rows} text${rows === 1 ? "" : "s"} of up to ${maxTokens} tokens may take ${maxCacheBytes} bytes, got a need of ${needed}. Generate fewer tokens or rows, or raise maxCacheBytes.`,
        );
      }
      const pass = new DecoderPass(all, config, rows, maxTokens, () => passes.delete(pass));
      passes.add(pass);
      return pass;
    },
    async dispose() {
      disposed = true;
      for (const pass of passes) pass.dispose();
      await dispose();
    },
  };
}

/** Neighbouring groups as one. */
function joined(groups: readonly Group[]): Group {
  return { from: (groups[0] as Group).from, to: (groups.at(-1) as Group).to };
}

/** What the projections take when every exit has those of all blocks above it. */
function fillBytes(
  { hidden, kvHeads, headSize, depth }: CausalDecoder["config"],
  stops: readonly number[],
): number {
  const block = 4 * 2 * hidden * kvHeads * headSize;
  return stops.reduce((sum, stop) => sum + (depth - stop) * block, 0);
}

function resolveExits(
  exits: readonly number[] | undefined,
  observer: Observer | undefined,
  depth: number,
): readonly number[] {
  const below = Array.from({ length: depth - 1 }, (_, index) => index + 1);
  const asked = exits ?? (observer ? below : []);
  for (const layer of asked) {
    if (Number.isInteger(layer) && layer >= 1 && layer <= depth) continue;
    throw new BackboneError(
      "BAD_OPTION",
      "exits",
      `must be layers from 1 to ${depth}, got ${layer}. Layers count from 1.`,
    );
  }
  return [...new Set([...asked, depth])].sort((a, b) => a - b);
}

/** The inputs of one row of one token without a past. */
function probe(
  { config }: CausalDecoder,
  isFirst: boolean,
  blocks: number,
  carry: HostTree | undefined,
): Record<string, HostTree> {
  const floats = (shape: readonly number[], value = 0): HostTensor => ({
    dtype: "float32",
    shape,
    data: new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(value),
  });
  const ints = (): HostTensor => ({ dtype: "int32", shape: [1, 1], data: new Int32Array(1) });
  const cache = floats([1, config.kvHeads, 1, config.headSize]);
  return {
    ...(isFirst ? { ids: ints() } : { hidden: floats([1, 1, config.hidden]) }),
    positions: ints(),
    mask: floats([1, 1, 2], 1),
    last: floats([1, 1], 1),
    caches: Array.from({ length: blocks }, () => ({ keys: cache, values: cache })),
    ...(carry === undefined ? {} : { carry }),
  };
}

/** Specs of a carry: the first axis is the row. */
function carrySpecs(tree: HostTree): SpecTree {
  if (ArrayBuffer.isView((tree as HostTensor).data)) {
    const { dtype, shape } = tree as HostTensor;
    return { dtype, shape: ["batch", ...shape.slice(1)] };
  }
  if (Array.isArray(tree)) return (tree as HostTree[]).map(carrySpecs);
  return Object.fromEntries(
    Object.entries(tree as Record<string, HostTree>).map(([key, child]) => [
      key,
      carrySpecs(child),
    ]),
  );
}
