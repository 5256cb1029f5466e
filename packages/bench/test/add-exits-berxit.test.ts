/** @file BERxiT's learning-to-exit module on exits that were added to a finished model. */
import { createWordPieceTokenizer, createWordVocabulary } from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import { berxit, ltePhase } from "@cee/baselines";
import { addExits, EarlyExitModel } from "@cee/consistentee";
import { describe, expect, it, onTestFinished } from "vitest";

const words = ["fine", "dull", "the", "film", "plot", "warm", "weak", "scene"];
const rows = Array.from({ length: 60 }, (_, row) => ({
  text: [0, 1, 2].map((place) => words[(row * 5 + place * (row + 3)) % words.length]).join(" "),
  label: row % 2,
}));

describe("BERxiT on added exits", () => {
  it("trains its module from the record, and serves", async () => {
    const tokenizer = createWordPieceTokenizer(createWordVocabulary([words.join(" ")], 100));
    const encoder = tinyBert({ depth: 3, hidden: 16, head: berxit.head, tokenizer, seed: 3 });
    const model = { ...encoder, trainedHeads: [3] };
    const strategy = berxit.strategy({ threshold: 0.5 });
    const add = (epochs: number) =>
      addExits(model, {
        rows,
        strategy,
        threads: 1,
        training: { epochs: 2 },
        plan: function* () {
          yield ltePhase({ epochs, batchSize: 16 });
        },
      });
    const [short, long] = [await add(1), await add(20)];
    expect(long.reports?.map(({ phase }) => phase)).toEqual(["exits", "lte"]);
    const lossOf = ({ reports }: typeof long) => (reports?.at(-1) as { loss?: number })?.loss;
    expect(lossOf(long)).toBeLessThan(lossOf(short) as number);
    for (const [path, { data }] of Object.entries(encoder.params))
      if (path.startsWith("backbone.") || path.startsWith("heads.3."))
        expect(long.encoder.params[path]?.data, path).toEqual(data);
    const served = await EarlyExitModel.fromParts(long, { threads: 1 });
    onTestFinished(() => served.dispose());
    expect(await served.classify(rows.map(({ text }) => text))).toHaveLength(rows.length);
    expect(served.strategy.name).toBe("berxit");
    await expect(addExits(model, { rows, strategy, threads: 1 })).rejects.toMatchObject({
      code: "NOT_TRAINABLE",
    });
  });
});
