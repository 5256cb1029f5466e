/** @file Six lines to a first early exit. Needs a trained model in ./model; the README beside this file says how to get one. */
import { EarlyExitModel } from "@cee/consistentee";

const model = await EarlyExitModel.fromPretrained("./model");
const text = "A charming and often affecting journey.";
const { label, score, exitLayer, layers } = await model.classify(text);
console.log(`${label} (${score.toFixed(2)}) at layer ${exitLayer} of ${layers}`);
await model.dispose();
