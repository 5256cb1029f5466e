/** @file The generated tasks: vocabulary, lengths, balance, shares, determinism, and that hardness means what it says. */
import { describe, expect, it } from "vitest";
import {
  embeddedTask,
  embeddedTaskNames,
  embeddedTasks,
  loadEmbeddedTask,
} from "../src/data/embedded.js";
import { embeddedVocabulary, giveaways, words } from "../src/data/embedded-words.js";
import type { DataRow } from "../src/data/task.js";

const wordsOf = (row: DataRow) => [
  ...row.text.split(" "),
  ...(row.pair === undefined ? [] : row.pair.split(" ")),
];

describe.each(embeddedTasks.map((task) => [task.name, task] as const))("%s", (name, task) => {
  const { splits } = loadEmbeddedTask(name, { seed: 5 });
  const all = [...splits.train, ...splits.dev];

  it("has rows of the default counts in the task's shape", () => {
    expect([splits.train.length, splits.dev.length]).toEqual([1200, 400]);
    for (const row of all) {
      expect(row.pair !== undefined).toBe(task.pair);
      expect(Number.isInteger(row.label)).toBe(true);
      expect(row.label).toBeLessThan(task.regression ? 6 : task.labels.length);
    }
    expect(new Set(splits.train.map(({ id }) => id)).size).toBe(1200);
  });

  it("uses the closed vocabulary only, 4 to 20 words a sentence", () => {
    const known = new Set(embeddedVocabulary());
    for (const row of all) {
      for (const word of wordsOf(row)) expect(known.has(word), word).toBe(true);
      for (const sentence of [row.text, row.pair ?? row.text]) {
        const length = sentence.split(" ").length;
        expect(length, sentence).toBeGreaterThanOrEqual(4);
        expect(length, sentence).toBeLessThanOrEqual(20);
      }
    }
  });

  it("repeats no text, within or between the splits", () => {
    expect(new Set(all.map(({ text, pair }) => `${text}\t${pair}`)).size).toBe(all.length);
  });

  it("keeps the stated balance of labels and the stated shares of hardness", () => {
    const total = task.balance.reduce((sum, part) => sum + part, 0);
    for (const rows of [splits.train, splits.dev]) {
      for (const [label, part] of task.balance.entries()) {
        const share = rows.filter((row) => row.label === label).length / rows.length;
        expect(share).toBeCloseTo(part / total, 1.9);
      }
      const shares = ["word", "phrase", "whole"].map(
        (level) => rows.filter((row) => row.hardness === level).length / rows.length,
      );
      expect(shares).toEqual([0.5, 0.3, 0.2]);
    }
  });

  it("is fixed by its seed", () => {
    expect(loadEmbeddedTask(name, { seed: 5 }).splits).toEqual(splits);
    expect(loadEmbeddedTask(name, { seed: 6 }).splits.dev).not.toEqual(splits.dev);
  });

  it("needs one word for `word` rows, and more than one for the others", () => {
    // The best rule of one word, learned on train: each row is given the label of its most telling word.
    const accuracyOf = (level: string) => {
      const rows = splits.train.filter((row) => row.hardness === level);
      const counts = new Map<string, number[]>();
      for (const row of rows) {
        for (const word of new Set(wordsOf(row))) {
          const entry = counts.get(word) ?? task.balance.map(() => 0);
          entry[row.label]!++;
          counts.set(word, entry);
        }
      }
      const purity = (entry: number[]) =>
        Math.max(...entry) / (entry.reduce((sum, count) => sum + count, 0) + 2);
      const dev = splits.dev.filter((row) => row.hardness === level);
      let right = 0;
      for (const row of dev) {
        const entries = wordsOf(row).flatMap((word) => counts.get(word) ?? []);
        const entry = wordsOf(row)
          .map((word) => counts.get(word))
          .filter((found) => found !== undefined)
          .sort((a, b) => purity(b) - purity(a))[0];
        expect(entries.length).toBeGreaterThan(0);
        if (entry!.indexOf(Math.max(...entry!)) === row.label) right++;
      }
      return right / dev.length;
    };
    expect(accuracyOf("word")).toBeGreaterThan(0.97);
    expect(accuracyOf("phrase")).toBeLessThan(0.85);
    expect(accuracyOf("whole")).toBeLessThan(0.85);
  });
});

/** What a reader who knows the rules answers; written without the generator's code. */
const readers: Record<string, (row: DataRow) => number> = {
  sentiment({ text }) {
    const found = text.split(" ");
    const has = (group: readonly string[]) => found.findIndex((word) => group.includes(word));
    const [praise, blame, good, bad] = [words.praise, words.blame, words.good, words.bad].map(has);
    if (praise! >= 0 && blame! >= 0) {
      const last = praise! > blame! ? 1 : 0;
      return found.includes("but") ? last : 1 - last;
    }
    if (praise! >= 0 || blame! >= 0) return praise! >= 0 ? 1 : 0;
    const kind = good! >= 0 ? 1 : 0;
    expect(Math.max(good!, bad!)).toBeGreaterThanOrEqual(0);
    return found.includes("not") ? 1 - kind : kind;
  },
  similarity({ text, pair }) {
    const [first, second] = [text.split(" "), pair!.split(" ")];
    const graded = second.map((word) => giveaways.graded.indexOf(word as "hardly"));
    if (Math.max(...graded) >= 0) return Math.max(...graded);
    const number = (found: string[]) =>
      Math.max(...found.map((word) => words.numbers.indexOf(word as "one")));
    if (first.includes("saw")) return 5 - Math.abs(number(first) - number(second));
    const kinds = [words.people, words.numbers, words.colours, words.objects, words.places];
    return kinds.filter((kind) => {
      const of = (found: string[]) =>
        found.find((word) => (kind as readonly string[]).includes(word));
      return of(first) === of(second);
    }).length;
  },
};

describe("labels follow from the text", () => {
  it.each(Object.keys(readers))("%s", (name) => {
    const { splits } = loadEmbeddedTask(name, { seed: 11 });
    for (const row of [...splits.train, ...splits.dev]) {
      expect(readers[name]!(row), `${row.text} | ${row.pair}`).toBe(row.label);
    }
  });
});

describe("options", () => {
  it("keep the vocabulary at 200 words or fewer", () => {
    expect(embeddedVocabulary().length).toBeLessThanOrEqual(200);
    expect(new Set(embeddedVocabulary()).size).toBe(embeddedVocabulary().length);
  });

  it("set the numbers of rows and the limits", () => {
    const { splits } = loadEmbeddedTask("entail", {
      trainRows: 90,
      devRows: 30,
      limit: { train: 40 },
    });
    expect([splits.train.length, splits.dev.length]).toEqual([40, 30]);
  });

  it("leave dev alone when train grows", () => {
    const small = loadEmbeddedTask("entail", { trainRows: 100 });
    const large = loadEmbeddedTask("entail", { trainRows: 2000 });
    expect(large.splits.dev).toEqual(small.splits.dev);
  });

  it("refuse an unknown task and more rows than there are sentences", () => {
    expect(() => embeddedTask("sentment")).toThrow(/Did you mean "sentiment"/);
    expect(() => loadEmbeddedTask("sentiment", { trainRows: 100_000 })).toThrow(
      /too few distinct sentences/,
    );
    expect(() => loadEmbeddedTask("sentiment", { devRows: 1.5 })).toThrow(/got 1.5/);
    expect(embeddedTaskNames).toHaveLength(6);
  });
});
