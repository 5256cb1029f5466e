/** @file The token cache, its held-out part, and the batches made from it. */
import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRng } from "@cee/engine";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Corpus, HELD_OUT_EVERY, openCorpus } from "../src/pretrain/corpus.js";
import { createMlmBatcher, type MlmBatch } from "../src/pretrain/mlm-batch.js";
import { countWords, trainWordPiece } from "../src/wordpiece-trainer.js";

const LENGTH = 24;
const LONGEST = 32;
let folder = "";
let pieces: string[] = [];
let corpus: Corpus;

/** Sentences of a few hundred invented words, numbered so that places can be told apart. */
function invent(sentences: number): string {
  const rng = createRng("text");
  const syllables = ["ba", "du", "ki", "lo", "mer", "not", "pra", "sil", "tun", "vo"];
  const word = () => Array.from({ length: 1 + rng.int(3) }, () => syllables[rng.int(10)]).join("");
  const sentence = () => `${Array.from({ length: 4 + rng.int(9) }, word).join(" ")}.`;
  return Array.from(
    { length: sentences },
    (_, n) => (n % 40 === 0 ? `\n\n= = Part ${n} = = ` : "") + sentence(),
  ).join(" ");
}

const open = (cache = "cache", own = pieces) =>
  openCorpus({
    paths: [join(folder, "text.txt")],
    pieces: own,
    cache: join(folder, cache),
    longest: LONGEST,
  });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cee-corpus-"));
  await writeFile(join(folder, "text.txt"), invent(1200));
  pieces = trainWordPiece(await countWords([join(folder, "text.txt")]), { vocabularySize: 200 });
  corpus = await open();
});
afterAll(async () => {
  corpus.close();
  await rm(folder, { recursive: true, force: true });
});

describe("openCorpus", () => {
  it("counts documents and tokens, and reads windows back as they stand in the text", () => {
    expect(corpus.documents).toBe(30);
    expect(corpus.tokens).toBeGreaterThan(5000);
    const text = [...corpus.window("train", 0, LONGEST)].map((id) => pieces[id]).join(" ");
    expect(text.replaceAll(" ##", "")).toMatch(/^part 0 [a-z]+ /);
  });

  it("never hands out a held-out token for training", () => {
    const size = corpus.size("held-out");
    expect(size).toBeGreaterThanOrEqual(
      Math.floor(corpus.tokens / HELD_OUT_EVERY / HELD_OUT_EVERY),
    );
    expect(corpus.size("train")).toBeGreaterThan(40 * size);
    const key = (window: ArrayLike<number>) => Array.from(window).join(" ");
    const windows = (split: "train" | "held-out") =>
      Array.from({ length: 400 }, (_, n) => key(corpus.window(split, n / 400, LONGEST)));
    const trained = new Set(windows("train"));
    for (const window of windows("held-out")) expect(trained.has(window)).toBe(false);
  });

  it("finds the cache again, and makes it anew when it is torn or the pieces differ", async () => {
    const first = await open("torn");
    first.close();
    expect(first.key).toBe(corpus.key);
    await truncate(join(folder, "torn", first.key, "tokens.bin"), 100);
    const repaired = await open("torn");
    expect(repaired.tokens).toBe(corpus.tokens);
    expect([...repaired.window("train", 0.3, 9)]).toEqual([...corpus.window("train", 0.3, 9)]);
    repaired.close();
    const other = await open("torn", pieces.slice(0, 100));
    other.close();
    expect((await readdir(join(folder, "torn"))).sort()).toEqual([corpus.key, other.key].sort());
  });

  it("refuses a corpus too small for its windows", async () => {
    await writeFile(join(folder, "small.txt"), "A few words only.");
    const small = openCorpus({
      paths: [join(folder, "small.txt")],
      pieces,
      cache: join(folder, "cache"),
      longest: LONGEST,
    });
    await expect(small).rejects.toMatchObject({ code: "EMPTY_CORPUS" });
  });
});

describe("createMlmBatcher", () => {
  const batcher = () => createMlmBatcher(corpus, pieces, { seed: 3 });
  const restored = (batch: MlmBatch): Int32Array => {
    const ids = batch.ids.slice();
    batch.positions.forEach((place, index) => {
      ids[place] = batch.targets[index] as number;
    });
    return ids;
  };

  it("depends on the seed and the row only", () => {
    expect(batcher().batch(96, 8, LENGTH)).toEqual(batcher().batch(96, 8, LENGTH));
    expect(batcher().batch(96, 8, LENGTH)).not.toEqual(batcher().batch(104, 8, LENGTH));
    expect(batcher().batch(100, 4, LENGTH).ids).toEqual(
      batcher()
        .batch(96, 8, LENGTH)
        .ids.slice(4 * LENGTH),
    );
    expect(createMlmBatcher(corpus, pieces, { seed: 4 }).batch(96, 8, LENGTH)).not.toEqual(
      batcher().batch(96, 8, LENGTH),
    );
    expect(batcher().heldOut(5, LENGTH)).toEqual(batcher().heldOut(5, LENGTH));
  });

  it("lays rows out as one segment or two, full to the last place", () => {
    const [cls, sep] = [pieces.indexOf("[CLS]"), pieces.indexOf("[SEP]")];
    const batch = batcher().batch(0, 300, LENGTH);
    const ids = restored(batch);
    for (let row = 0; row < batch.rows; row += 1) {
      const line = ids.subarray(row * LENGTH, (row + 1) * LENGTH);
      expect(line[0]).toBe(cls);
      expect(line[LENGTH - 1]).toBe(sep);
      const second = line.indexOf(sep) + 1;
      const types = batch.types.subarray(row * LENGTH, (row + 1) * LENGTH);
      expect([...types]).toEqual(Array.from(types, (_, at) => (at < second ? 0 : 1)));
      if (batch.pairRows.includes(row)) expect(second).toBeLessThan(LENGTH);
    }
    expect(batch.pairRows.length).toBeGreaterThan(60);
    expect(new Set(batch.pairTargets)).toEqual(new Set([0, 1, 2]));
  });

  it("draws a first segment's words from the second segment, or from near it", () => {
    const [sep] = [pieces.indexOf("[SEP]")];
    const batch = createMlmBatcher(corpus, pieces, { seed: 3, pairTask: "words" }).batch(
      0,
      400,
      LENGTH,
    );
    const ids = restored(batch);
    const shares: Record<number, number[]> = { 0: [], 2: [] };
    batch.pairRows.forEach((row, index) => {
      const line = ids.subarray(row * LENGTH, (row + 1) * LENGTH);
      const cut = line.indexOf(sep);
      const [first, second] = [line.slice(1, cut), line.slice(cut + 1, -1)];
      const relation = batch.pairTargets[index] as number;
      shares[relation]?.push(first.filter((id) => second.includes(id)).length / first.length);
      if (relation !== 0) return;
      // In the order of the text they were drawn from.
      let at = 0;
      for (const id of first) {
        at = second.indexOf(id, at) + 1;
        expect(at).toBeGreaterThan(0);
      }
    });
    expect(shares[0]?.length).toBeGreaterThan(40);
    expect(shares[2]?.length).toBeGreaterThan(40);
    expect(Math.min(...(shares[0] ?? []))).toBe(1);
    expect(shares[2]?.filter((share) => share < 1).length).toBeGreaterThan(30);
  });

  it("mixes the words of both places as far as it is told", () => {
    const options = { seed: 3, pairTask: "words", pairMix: 0.45 } as const;
    const batch = createMlmBatcher(corpus, pieces, options).batch(0, 400, LENGTH);
    const plain = createMlmBatcher(corpus, pieces, { seed: 3, pairTask: "words" });
    expect(batch).not.toEqual(plain.batch(0, 400, LENGTH));
    const ids = restored(batch);
    const sep = pieces.indexOf("[SEP]");
    const shares: Record<number, number[]> = { 0: [], 2: [] };
    batch.pairRows.forEach((row, index) => {
      const line = ids.subarray(row * LENGTH, (row + 1) * LENGTH);
      const cut = line.indexOf(sep);
      expect(line[LENGTH - 1]).toBe(sep);
      const [first, second] = [line.slice(1, cut), line.slice(cut + 1, -1)];
      shares[batch.pairTargets[index] as number]?.push(
        first.filter((id) => second.includes(id)).length / first.length,
      );
    });
    const mean = (values: readonly number[] = []) =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(shares[0]?.some((share) => share < 1)).toBe(true);
    expect(mean(shares[0])).toBeGreaterThan(mean(shares[2]));
  });

  it("masks 15 % in whole words: 80 % hidden, 10 % replaced, 10 % kept", () => {
    const mask = pieces.indexOf("[MASK]");
    const batch = batcher().batch(0, 2000, LENGTH);
    const ids = restored(batch);
    const chosen = new Set(batch.positions);
    const specials = new Set(["[CLS]", "[SEP]"].map((piece) => pieces.indexOf(piece)));
    for (const place of chosen) {
      expect(specials.has(ids[place] as number)).toBe(false);
      const next = ids[place + 1] as number;
      const continues = (pieces[next] as string).startsWith("##");
      // A window may end inside a word; elsewhere a word is masked as a whole.
      if (continues) expect(chosen.has(place + 1)).toBe(true);
    }
    const count = batch.positions.length;
    expect(count / (2000 * (LENGTH - 2))).toBeGreaterThan(0.125);
    expect(count / (2000 * (LENGTH - 2))).toBeLessThanOrEqual(0.15);
    const hidden = [...batch.positions].filter((place) => batch.ids[place] === mask).length;
    const kept = [...batch.positions].filter((place) => batch.ids[place] === ids[place]).length;
    // Four standard deviations of a binomial with 6000 draws.
    expect(Math.abs(hidden / count - 0.8)).toBeLessThan(0.021);
    expect(Math.abs(kept / count - 0.1)).toBeLessThan(0.016);
  });

  it("visits the whole corpus evenly", () => {
    const seen = new Array(20).fill(0);
    const spy: Corpus = {
      ...corpus,
      window: (split, at, count) => {
        seen[Math.floor(at * 20)] += 1;
        return corpus.window(split, at, count);
      },
    };
    createMlmBatcher(spy, pieces, { seed: 3, pairShare: 0 }).batch(0, 1000, LENGTH);
    for (const visits of seen) expect(Math.abs(visits - 50)).toBeLessThanOrEqual(3);
  });
});
