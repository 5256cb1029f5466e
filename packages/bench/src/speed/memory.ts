/** @file What many calls leave behind. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createWordPieceTokenizer, createWordVocabulary } from "@cee/backbone";
import { EarlyExitModel } from "@cee/consistentee";
import { entropy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import type { RunHooks } from "../glue/progress.js";
import { checkStop } from "../glue/stop.js";
import { createSpeedEncoder } from "./model.js";
import type { MemoryPart } from "./results.js";

const texts = ["a charming and often affecting journey", "flat", "the plot goes nowhere", "good"];

/** Classifies texts on a small model, and looks after the first and after the last call. */
export async function measureMemory(
  [from, to]: readonly [number, number],
  { threads, progress, signal }: RunHooks & { readonly threads: number },
): Promise<MemoryPart> {
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(texts, 200));
  const sizes = { width: 16, depth: 2, length: 16, vocabulary: 256 };
  const encoder = createSpeedEncoder(sizes, { seed: 1, tokenizer });
  const model = await EarlyExitModel.fromParts(
    { encoder, strategy: entropy({ threshold: 0.69 }) },
    { threads, maxBatch: 8 },
  );
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const look = async () => {
    for (let turn = 0; turn < 3; turn += 1) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return { resident: process.memoryUsage().rss, tensors: tf.memory().numTensors };
  };
  try {
    let done = 0;
    const run = async (until: number) => {
      while (done < until) {
        checkStop(signal);
        progress.update(`memory, call ${done} of ${to}`);
        // Alone and in company by turns: both ways of running are looked at.
        if (done % 16 < 8) await model.classify(texts[done % texts.length] as string);
        else await model.classify(texts.slice(0, 2));
        done += 1;
      }
    };
    await run(from);
    const before = await look();
    await run(to);
    const after = await look();
    return {
      calls: [from, to],
      resident: [before.resident, after.resident],
      tensors: [before.tensors, after.tensors],
    };
  } finally {
    await model.dispose();
  }
}
