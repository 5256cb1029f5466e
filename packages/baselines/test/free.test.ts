/** @file FREE's adaptive threshold on worked-out numbers. */
import { createCausalDecoder, createLlamaConfig, fitDecoder, openDecoder } from "@cee/backbone";
import { createEngine, createRng, type HostTensor, valueAndGrads } from "@cee/engine";
import { type ExitRecord, generateTokens, shallowDeep, toObserver } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { AdaptiveThreshold, estimateThreshold } from "../src/free/adaptive-threshold.js";
import { generateFree } from "../src/free/generate.js";
import { type FreeAlignment, freePhase, layerPairs, nearest } from "../src/free/training.js";

const confidences = [0.2, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
const confirmed = [0, 0, 1, 0, 1, 1, 1, 1];

describe("FREE's adaptive threshold", () => {
  it("fits both components by weighted moments", () => {
    const result = estimateThreshold(confidences, confirmed);
    expect([result.refuted.a, result.refuted.b]).toBeAllclose([2.0817, 2.7186], {
      atol: 1e-4,
      rtol: 0,
    });
    expect([result.confirmed.a, result.confirmed.b]).toBeAllclose([2.9792, 0.6194], {
      atol: 1e-4,
      rtol: 0,
    });
    expect(result.threshold).toBeCloseTo(0.7, 10);
  });

  it("is lowest where everything was confirmed", () => {
    expect(
      estimateThreshold(
        confidences,
        confidences.map(() => 1),
      ).threshold,
    ).toBeCloseTo(0.3, 10);
  });

  it("stays a number where confidences do not vary", () => {
    for (const label of [0, 1])
      for (const value of [0, 0.5, 1]) {
        const { threshold } = estimateThreshold([value, value], [label, label]);
        expect(threshold).toBeGreaterThanOrEqual(0.3);
        expect(threshold).toBeLessThanOrEqual(0.9);
      }
  });

  it("is the configured one before any comparison, and stops moving", () => {
    const adaptive = new AdaptiveThreshold({ initial: 0.8, maxUpdates: 1 });
    expect(adaptive.next()).toBe(0.8);
    confidences.forEach((value, index) => {
      adaptive.add(value, confirmed[index] === 1);
    });
    expect(adaptive.next()).toBeCloseTo(0.7, 10);
    for (const value of confidences) adaptive.add(value, true);
    expect(adaptive.next()).toBeCloseTo(0.7, 10);
  });
});

describe("FREE's training and loop", () => {
  it("pairs shallow with evenly spread deep layers", () => {
    expect(layerPairs(6, 24).map(([, teacher]) => teacher)).toEqual([4, 8, 12, 16, 20, 24]);
    expect(layerPairs(8, 24).map(([, teacher]) => teacher)).toEqual([3, 6, 9, 12, 15, 18, 21, 24]);
  });

  it("teaches the nearest shallow layer, from the top teacher down and always below the one before", async () => {
    const distances = [
      // Teacher 1 of 3 has nothing left below student 1, and teaches it again.
      [3, 1, 2],
      [2, 5, 9],
      [8, 4, 6],
    ];
    const engine = await createEngine({ threads: 1 });
    const program = engine.compile(
      ({ rows }: { rows: tf.Tensor1D[] }) => {
        const { loss, gradients } = valueAndGrads(
          (own) => nearest(Object.values(own) as tf.Tensor1D[]).reduce((a, b) => tf.add(a, b)),
          Object.fromEntries(rows.map((row, index) => [index, row])),
        );
        return { loss, gradients };
      },
      {
        name: "nearest",
        inputs: { rows: distances.map(() => ({ dtype: "float32", shape: [3] })) },
      },
    );
    const rows = distances.map((row) => ({
      dtype: "float32" as const,
      shape: [3],
      data: Float32Array.from(row),
    }));
    const { loss, gradients } = await program.run<{
      loss: HostTensor;
      gradients: Record<string, HostTensor>;
    }>({ rows });
    // Of teacher 3 student 2, of teacher 2 student 1, and of teacher 1 student 1 once more.
    expect(loss.data[0]).toBe(4 + 2 + 3);
    expect(Object.values(gradients).map(({ data }) => [...data])).toEqual([
      [1, 0, 0],
      [1, 0, 0],
      [0, 1, 0],
    ]);
    await engine.dispose();
  });

  it.each<FreeAlignment>(["dynamic", "fixed", "last"])(
    "trains two exits with %s alignment, and moves the threshold of the texts to come",
    async (align) => {
      const engine = await createEngine({ threads: 1 });
      const decoder = createCausalDecoder({
        config: createLlamaConfig({
          vocabSize: 14,
          hidden: 16,
          depth: 4,
          heads: 2,
          intermediate: 24,
          maxPositions: 64,
          initializerRange: 0.2,
        }),
        seed: 5,
      });
      const texts = Array.from({ length: 16 }, (_, row) => {
        const rng = createRng(`free ${row}`);
        const start = rng.int(12);
        return {
          id: `${row}`,
          ids: Int32Array.from({ length: 16 }, (_, at) => 2 + ((start + at) % 12)),
          from: 1,
        };
      });
      const losses: number[][] = [];
      const measure = ({ tokens, ids, shape: { depth } }: ExitRecord) => {
        const own = tokens?.losses as Float32Array;
        const at = (layer: number) =>
          ids.reduce((sum, _, row) => sum + (own[row * depth + layer - 1] as number), 0) /
          ids.length;
        losses.push([at(2), at(4)]);
        return {};
      };
      const settings = { layer: 2, epochs: 25, batchSize: 8, learningRate: 1e-2, align };
      const fitted = await fitDecoder({
        engine,
        decoder,
        *plan() {
          yield { ...freePhase(settings), name: "before", learningRate: 0, epochs: 1, measure };
          yield { ...freePhase(settings), measure };
        },
        train: texts,
        dev: texts,
        seed: 1,
      });
      const [before, after] = losses as [number[], number[]];
      for (const exit of [0, 1]) expect(after[exit]).toBeLessThan((before[exit] as number) / 2);

      const strategy = shallowDeep({ layer: 2 });
      const observer = toObserver(strategy);
      const runner = await openDecoder(engine, fitted.decoder, { observer, exits: [2] });
      const threshold = new AdaptiveThreshold({ initial: 0 });
      const prompts = [2, 5, 9].map((id) => ({ ids: [id, id + 1] }));
      const seen: boolean[] = [];
      const thresholds: number[] = [];
      const onDeep = ({ shallowToken, deepToken }: { shallowToken: number; deepToken: number }) =>
        seen.push(shallowToken === deepToken);
      const settings2 = { layer: 2, threshold, maxNewTokens: 40, onDeep };
      for await (const text of generateFree(runner, prompts, settings2)) {
        thresholds.push(text.threshold);
        expect(text.tokens).toHaveLength(40);
        // The same as the plain loop with that threshold.
        const loop = generateTokens(runner, [prompts[thresholds.length - 1] as { ids: number[] }], {
          strategy: shallowDeep({ layer: 2, threshold: text.threshold }),
          keyValues: "recompute",
          maxNewTokens: 40,
        });
        const ids: number[] = [];
        for await (const { id } of loop) ids.push(id);
        expect(text.tokens.map(({ id }) => id)).toEqual(ids);
      }
      expect(thresholds[0]).toBe(0);
      if (seen.length > 1) expect(thresholds.slice(1)).toContain(threshold.next());
      await runner.dispose();
      await engine.dispose();
    },
    60_000,
  );
});
