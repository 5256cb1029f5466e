/** @file Plugins with one defect each, and what a benchmark must say about them. */

/** A sound strategy; `body` overrides members, `after` follows the definition. */
const source = (name, body, after = "export default strategy;") => `
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";

const strategy = defineExitStrategy({
  name: "${name}",
  options: v.strictObject({ threshold: v.optional(v.number(), 0.8) }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: { option: "threshold", grid: [0.6, 0.9], direction: "lower-is-faster" },
  observe: ({ probs }) => tf.max(probs, 1),
  start: () => ({}),
  decide: ([top], state, { options }) => ({ exit: top > options.threshold, state }),
  ${body}
});
${after}
`;

/** File name without its ending, what is in it, and the part of the one message that says what is wrong. */
export const broken = [
  {
    name: "throws",
    text: source("throws", 'decide() { throw new Error("out of cheese"); },'),
    message: "got out of cheese",
  },
  {
    name: "not-a-number",
    text: source("not-a-number", "observe: ({ probs }) => tf.log(tf.mul(tf.max(probs, 1), -1)),"),
    message: "observe must give finite numbers",
  },
  {
    name: "wrong-shape",
    text: source("wrong-shape", "observe: ({ probs }) => tf.max(probs),"),
    message: "observe must return a tensor of shape",
  },
  {
    name: "couples-rows",
    text: source(
      "couples-rows",
      "observe: ({ probs }) => tf.sub(tf.max(probs, 1), tf.mean(tf.max(probs, 1))),",
    ),
    message: "no mean, maximum or softmax over the first axis",
  },
  {
    name: "impure-decide",
    text: `let calls = 0;${source(
      "impure-decide",
      "decide: (_, state) => ({ exit: ++calls % 3 === 0, state }),",
    )}`,
    message: "keep what rows remember in the state",
  },
  {
    name: "wrong-version",
    text: source(
      "wrong-version",
      "",
      "export default Object.assign((options) => strategy(options), strategy, { apiVersion: 99 });",
    ),
    message: "version 99 of the strategy contract",
  },
  {
    name: "name-clash",
    text: source("entropy", ""),
    message: 'called "entropy", like one that is already registered',
  },
  {
    name: "no-default",
    text: source("no-default", "", "export { strategy };"),
    message: "has no default export (it exports strategy)",
  },
  {
    name: "asynchronous-schema",
    text: source(
      "asynchronous-schema",
      'options: { "~standard": { version: 1, vendor: "own", validate: async (value) => ({ value }) } },',
    ),
    message: "validates asynchronously",
  },
  {
    name: "leaks",
    text: source(
      "leaks",
      "observe: ({ probs }) => { tf.keep(tf.max(probs, 1)); return tf.max(probs, 1); },",
    ),
    message: "observe must leave no tensors behind",
  },
  {
    name: "never-returns",
    text: source("never-returns", "decide() { for (;;); },"),
    message: "did not return within",
  },
  {
    name: "taken-twice",
    text: source("settled", ""),
    message: `called "settled", like another plugin's`,
  },
];
