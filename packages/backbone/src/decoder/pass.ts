/**
 * @file Texts that grow token by token, each token run as deep as the loop asks.
 *
 * Shapes: B = rows of one call, S = the most new tokens of a row, C = capacity of the cache, G = key and value heads,
 * D = head size, H = hidden size, V = vocabulary, K = values observed.
 */
import type { CompiledFunction, HostTensor, HostTree } from "@cee/engine";
import type { TokenAdvance, TokenPass } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import type { LlamaConfig } from "../llama-config.js";
import { type CacheTensors, KeyValueCache } from "./cache.js";
import { blocksOf, type Group } from "./programs.js";

export interface Programs {
  readonly groups: readonly Group[];
  group(index: number): CompiledFunction;
  /** What gives the keys and values of all blocks above an exit, each for its part of them. */
  fillsAbove(
    layer: number,
  ): readonly { readonly group: Group; readonly program: CompiledFunction }[];
  projection(layer: number): CompiledFunction;
  /** Whether a group says something of each row's last token. */
  looksAtLast(index: number): boolean;
}

interface Text {
  readonly ids: number[];
  /** Layer that each token stands at, never deeper than the one before. */
  readonly layers: number[];
  /** States of tokens between the first and the last exit, by place, each `[H]`. */
  readonly states: Map<number, Float32Array>;
  /** What the observer handed on about the newest token. */
  carry: HostTree | undefined;
  slot: number;
}

type GroupOutput = {
  readonly [key: string]: HostTree;
  readonly hidden: HostTensor;
  readonly added: CacheTensors[] & HostTree[];
};

export class DecoderPass implements TokenPass {
  readonly #cache: KeyValueCache;
  readonly #texts = new Map<number, Text>();
  #isDisposed = false;

  constructor(
    private readonly programs: Programs,
    private readonly config: LlamaConfig,
    rows: number,
    private readonly maxTokens: number,
    private readonly onDispose: () => void,
  ) {
    this.#cache = new KeyValueCache(rows, config);
    for (let row = 0; row < rows; row += 1)
      this.#texts.set(row, { ids: [], layers: [], states: new Map(), carry: undefined, slot: row });
  }

  get cacheBytes(): number {
    return this.#cache.bytes;
  }

  length(row: number): number {
    return this.#text(row).ids.length;
  }

  append(row: number, ids: ArrayLike<number>): void {
    const text = this.#text(row);
    const length = text.ids.length + ids.length;
    if (length > this.maxTokens || length > this.config.maxPositions) {
      throw new BackboneError(
        "TOO_LONG",
        `row ${row + 1}`,
        `a text may hold ${Math.min(this.maxTokens, this.config.maxPositions)} tokens here, got ${length}. Begin with a larger maxTokens, up to the model's ${this.config.maxPositions} positions.`,
      );
    }
    this.#cache.reserve(length);
    for (const id of Array.from(ids)) {
      text.ids.push(id);
      text.layers.push(0);
    }
    text.carry = undefined;
  }

  async advance(rows: readonly number[], layer: number): Promise<readonly TokenAdvance[]> {
    const index = this.programs.groups.findIndex(({ to }) => to === layer);
    const group = this.programs.groups[index];
    if (!group)
      throw new BackboneError("BAD_OPTION", "advance", `there is no exit at layer ${layer}.`);
    const batch = this.#inSlotOrder(rows).map((row) => {
      const text = this.#text(row);
      const first = text.layers.indexOf(group.from);
      if (first < 0 || (text.layers.at(-1) as number) !== group.from) {
        throw new BackboneError(
          "BAD_INPUT",
          `row ${row + 1}`,
          `its newest token must stand at layer ${group.from} to go to ${layer}, got ${text.layers.at(-1) ?? "no token"}.`,
        );
      }
      return { row, text, first, count: text.ids.length - first };
    });
    const S = Math.max(...batch.map(({ count }) => count));
    const slots = batch.map(({ text }) => text.slot);
    const looksAtLast = this.programs.looksAtLast(index);
    const output = await this.programs.group(index).run<GroupOutput>({
      ...this.#tokens(batch, group, S),
      mask: this.#mask(batch, S),
      ...(looksAtLast ? { last: lastTokens(batch, S) } : {}),
      caches: blocksOf(group).map((block) => ({ ...this.#cache.tensors(block, slots) })),
      ...carried(batch, looksAtLast && group.from > 0),
    });
    // The pass may have been disposed of while the graph ran.
    this.#checkAlive();
    const { hidden: H } = this.config;
    const states = output.hidden.data as Float32Array;
    return batch.map(({ row, text, first, count }, at) => {
      blocksOf(group).forEach((block, offset) => {
        const added = output.added[offset] as CacheTensors;
        this.#cache.write(block, text.slot, added, at, first, count);
      });
      const own = states.slice(at * S * H, (at * S + count) * H);
      for (let token = 0; token < count; token += 1) {
        const place = first + token;
        text.layers[place] = layer;
        if (layer === this.config.depth) text.states.delete(place);
        else text.states.set(place, own.subarray(token * H, (token + 1) * H));
      }
      text.carry = output.carry === undefined ? undefined : rowOf(output.carry, at);
      return {
        row,
        first,
        count,
        states: own,
        observed: part(output.values as HostTensor | undefined, at) ?? new Float32Array(0),
        logits: part(output.logits as HostTensor | undefined, at),
      };
    });
  }

  async project(layer: number, states: Float32Array): Promise<Float32Array> {
    const { hidden } = this.config;
    const tensor = {
      dtype: "float32",
      shape: [states.length / hidden, hidden],
      data: states,
    } as const;
    const output = await this.programs
      .projection(layer)
      .run<{ readonly logits: HostTensor }>({ states: tensor });
    return output.logits.data as Float32Array;
  }

  async copyUp(rows: readonly number[]): Promise<void> {
    const left = new Map<number, Moving[]>();
    for (const row of this.#inSlotOrder(rows)) {
      const text = this.#text(row);
      const first = text.ids.length - 1;
      const at = text.layers[first] as number;
      if (at === 0 || at === this.config.depth) continue;
      left.set(at, [...(left.get(at) ?? []), { row, text, first, count: 1 }]);
    }
    for (const [layer, batch] of left)
      for (const { group, program } of this.programs.fillsAbove(layer)) {
        const output = await program.run<{ readonly added: CacheTensors[] & HostTree[] }>(
          this.#tokens(batch, group, 1),
        );
        this.#checkAlive();
        batch.forEach(({ text, first }, at) => {
          blocksOf(group).forEach((block, offset) => {
            this.#cache.write(block, text.slot, output.added[offset] as CacheTensors, at, first, 1);
          });
        });
      }
    for (const row of rows) {
      const text = this.#text(row);
      const place = text.ids.length - 1;
      text.layers[place] = this.config.depth;
      text.states.delete(place);
    }
  }

  truncate(row: number, length: number): void {
    const text = this.#text(row);
    for (let place = length; place < text.ids.length; place += 1) text.states.delete(place);
    text.ids.length = Math.min(length, text.ids.length);
    text.layers.length = text.ids.length;
    text.carry = undefined;
  }

  release(row: number): void {
    const text = this.#texts.get(row);
    if (!text) return;
    this.#texts.delete(row);
    // The last slot moves into the hole, so that the live rows stay one piece.
    const last = this.#texts.size;
    if (text.slot === last) return;
    for (const other of this.#texts.values()) {
      if (other.slot !== last) continue;
      this.#cache.move(last, text.slot);
      other.slot = text.slot;
    }
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#texts.clear();
    this.#cache.clear();
    this.onDispose();
  }

  #text(row: number): Text {
    this.#checkAlive();
    const text = this.#texts.get(row);
    if (text) return text;
    throw new BackboneError(
      "BAD_INPUT",
      `row ${row + 1}`,
      "is not in this batch, or was released.",
    );
  }

  #checkAlive(): void {
    if (!this.#isDisposed) return;
    throw new BackboneError("DISPOSED", "decoder", "the batch was disposed of. Begin another.");
  }

  #inSlotOrder(rows: readonly number[]): number[] {
    return [...rows].sort((a, b) => this.#text(a).slot - this.#text(b).slot);
  }

  /** Ids or states and places of the tokens that move; shorter rows are padded behind their last token. */
  #tokens(batch: readonly Moving[], group: Group, S: number): Record<string, HostTree> {
    const { hidden: H } = this.config;
    const B = batch.length;
    const ids = new Int32Array(group.from === 0 ? B * S : 0);
    const hidden = new Float32Array(group.from === 0 ? 0 : B * S * H);
    const positions = new Int32Array(B * S);
    batch.forEach(({ text, first, count }, row) => {
      for (let token = 0; token < count; token += 1) {
        const at = row * S + token;
        positions[at] = first + token;
        if (group.from === 0) ids[at] = text.ids[first + token] as number;
        else hidden.set(text.states.get(first + token) as Float32Array, at * H);
      }
    });
    return {
      ...(group.from === 0
        ? { ids: { dtype: "int32", shape: [B, S], data: ids } }
        : { hidden: { dtype: "float32", shape: [B, S, H], data: hidden } }),
      positions: { dtype: "int32", shape: [B, S], data: positions },
    };
  }

  /** What tokens may look at: those of the cache, then those that move, `[B, S, C + S]`. */
  #mask(batch: readonly Moving[], S: number): HostTensor {
    const C = this.#cache.capacity;
    const data = new Float32Array(batch.length * S * (C + S));
    batch.forEach(({ first, count }, row) => {
      for (let token = 0; token < S; token += 1) {
        const at = (row * S + token) * (C + S);
        // Padding looks at the past and itself alone; nothing looks at it.
        data.fill(1, at, at + first);
        data.fill(1, at + C + (token < count ? 0 : token), at + C + token + 1);
      }
    });
    return { dtype: "float32", shape: [batch.length, S, C + S], data };
  }
}

interface Moving {
  readonly row: number;
  readonly text: Text;
  /** Place of the first token that moves. */
  readonly first: number;
  readonly count: number;
}

function lastTokens(batch: readonly Moving[], S: number): HostTensor {
  const data = new Float32Array(batch.length * S);
  batch.forEach(({ count }, row) => {
    data[row * S + count - 1] = 1;
  });
  return { dtype: "float32", shape: [batch.length, S], data };
}

function carried(batch: readonly Moving[], isWanted: boolean): Record<string, HostTree> {
  const trees = batch.flatMap(({ text }) => (text.carry === undefined ? [] : [text.carry]));
  return isWanted && trees.length === batch.length ? { carry: stack(trees) } : {};
}

/** Row `row` of every tensor of a tree, as one row. */
function rowOf(tree: HostTree, row: number): HostTree {
  return mapTree([tree], ([tensor]) => {
    const { dtype, shape } = tensor as HostTensor;
    return {
      dtype,
      shape: [1, ...shape.slice(1)],
      data: part(tensor as HostTensor, row) as Float32Array,
    };
  });
}

/** Trees of single rows as one tree of all rows. */
function stack(trees: readonly HostTree[]): HostTree {
  return mapTree(trees, (tensors) => {
    const [{ dtype, shape, data: first }] = tensors as [HostTensor];
    const data = new (first.constructor as Float32ArrayConstructor)(first.length * tensors.length);
    tensors.forEach((tensor, row) => {
      data.set(tensor.data as Float32Array, row * first.length);
    });
    return { dtype, shape: [tensors.length, ...shape.slice(1)], data };
  });
}

function mapTree(
  trees: readonly HostTree[],
  leaf: (tensors: readonly HostTensor[]) => HostTensor,
): HostTree {
  const [tree] = trees as [HostTree];
  if (ArrayBuffer.isView((tree as HostTensor).data)) return leaf(trees as readonly HostTensor[]);
  const keys = Object.keys(tree);
  const children = keys.map((key) =>
    mapTree(
      trees.map((one) => (one as Record<string, HostTree>)[key] as HostTree),
      leaf,
    ),
  );
  return Array.isArray(tree)
    ? children
    : Object.fromEntries(keys.map((key, index) => [key, children[index] as HostTree]));
}

/** Row `row` of a tensor whose first axis is the row. */
function part(tensor: HostTensor | undefined, row: number): Float32Array | undefined {
  if (!tensor) return undefined;
  const size = tensor.data.length / (tensor.shape[0] as number);
  return (tensor.data as Float32Array).slice(row * size, (row + 1) * size);
}
