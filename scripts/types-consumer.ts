// What somebody who writes a strategy and uses a model relies on: inferred options, state and answers.
import { EarlyExitModel } from "@cee/consistentee";
import { createRegistry, defineExitStrategy, entropy, patience } from "@cee/exit-policies";
import { conformance } from "@cee/exit-policies/testing";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";

const margin = defineExitStrategy({
  name: "margin",
  options: v.strictObject({ least: v.optional(v.number(), 0.5) }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: { option: "least", grid: [0.2, 0.8], direction: "lower-is-faster" },
  start: () => ({ seen: 0 }),
  observe: ({ probs }) => tf.max<tf.Tensor1D>(probs, 1),
  decide: ([top], { seen }, { options }) => ({
    exit: (top as number) > options.least,
    state: { seen: seen + 1 },
  }),
});
margin({ least: 0.3 });
// @ts-expect-error an option that the schema does not know
margin({ most: 0.3 });
conformance(margin, { configurations: [[], [{ least: 0.1 }]] });
// @ts-expect-error configurations are typed by the schema
conformance(margin, { configurations: [[{ least: "low" }]] });

const registry = createRegistry([entropy, patience, margin]);
registry.create("patience", { patience: 3 });
// @ts-expect-error a name that is not in the registry
registry.create("patients");

export async function answer(): Promise<number> {
  const model = await EarlyExitModel.fromPretrained("folder", { strategy: "entropy" });
  const one: string = (await model.classify("a")).label;
  const many: readonly number[] = (await model.classify([one, "b"])).map((each) => each.exitLayer);
  return many.length;
}
