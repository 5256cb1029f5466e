/** @file Token-wise models as points of a curve: answers, operations, and the clock. N = rows of dev. */
import { toBatch } from "@cee/backbone";
import { fullMacs, type TokenwiseModel } from "@cee/baselines";
import type { CurvePoint, Workbench } from "./method.js";

const BATCH = 64;

/** Answers all rows of dev with a model that is opened for it, and keeps what it cost as a share of full depth. */
export async function tokenwisePoint(
  bench: Workbench,
  open: () => TokenwiseModel,
  { knob, options }: Pick<CurvePoint, "knob" | "options">,
): Promise<CurvePoint> {
  const { dev, model, shape } = bench;
  const predictions = new Float32Array(dev.length);
  let [spent, whole] = [0, 0];
  const order = dev.map((_, row) => row);
  const lengthOf = (row: number) => (dev[row] as (typeof dev)[number]).ids.length;
  order.sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  const opened = open();
  try {
    for (let at = 0; at < order.length; at += BATCH) {
      const rows = order.slice(at, at + BATCH);
      const batch = toBatch(
        rows.map((row) => dev[row] as (typeof dev)[number]),
        { padId: model.config.padTokenId },
      );
      const outcome = await opened.classify(batch);
      rows.forEach((row, index) => {
        predictions[row] = outcome.predictions[index] as number;
        spent += outcome.macs[index] as number;
        whole += fullMacs(lengthOf(row), shape.depth, model.config);
      });
    }
  } finally {
    await opened.dispose();
  }
  return {
    knob,
    options,
    exitLayers: null,
    cost: spent / whole,
    predictions,
    nonFinite: 0,
    async open() {
      const timed = open();
      return {
        answer: (batch) => timed.classify(batch),
        dispose: () => timed.dispose(),
      };
    },
  };
}
