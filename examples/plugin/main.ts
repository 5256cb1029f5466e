/** @file A trained model that leaves by the strategy beside this file. Needs a model in ./model; see the README. */
import { EarlyExitModel } from "@cee/consistentee";
import lead from "./lead.js";

const model = await EarlyExitModel.fromPretrained("./model", { strategy: lead({ margin: 0.4 }) });
for (const text of ["A charming and often affecting journey.", "Not a dull moment."]) {
  const { label, exitLayer, layers } = await model.classify(text);
  console.log(`${label} at layer ${exitLayer} of ${layers}: ${text}`);
}
await model.dispose();
