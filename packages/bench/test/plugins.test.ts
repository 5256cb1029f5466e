/** @file Plugins in a benchmark: parameters and phases of their own, exit heads, options, packages by their short name. */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { bench, benchChild, strategySource, tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const policies = JSON.stringify(path.join(root, "packages/exit-policies/src/index.ts"));

/** A head that reads the mean over the tokens, and a gate on it that is trained in a phase of its own. */
const head = `defineExitHead({
  name: "mean-head",
  params: ({ hidden, classes }, layer, seed) => ({
    weight: {
      dtype: "float32",
      shape: [hidden, classes],
      data: Float32Array.from({ length: hidden * classes }, (_, k) => 0.1 * Math.sin(seed + 10 * layer + k)),
    },
  }),
  apply({ weight }, { hidden, mask, dropout }) {
    const shown = tf.expandDims(mask, 2);
    const pooled = tf.div(tf.sum(tf.mul(hidden, shown), 1), tf.sum(shown, 1));
    return { logits: tf.matMul(dropout(pooled), weight), pooled, features: pooled };
  },
})`;

const gate = `
  needs: ["features"],
  tasks: ["classification"],
  observe: ({ features }, { params }) => tf.squeeze(tf.sigmoid(tf.matMul(features, params.gate)), [1]),
  params: ({ hidden }, _, seed) => ({
    gate: {
      dtype: "float32",
      shape: [hidden, 1],
      data: Float32Array.from({ length: hidden }, (_, k) => 0.1 * Math.sin(seed + k)),
    },
  }),
  *phases() {
    const common = { batchSize: 8, learningRate: 1e-3, epochs: 1 };
    const logLoss = ({ logits }, labels) =>
      tf.neg(tf.sum(tf.mul(tf.oneHot(tf.cast(labels, "int32"), 2), tf.logSoftmax(logits))));
    yield {
      ...common, name: "all-exits", trains: ["backbone.**", "heads.**"],
      losses: { all: ({ exits, labels, perRow }) => tf.mul(tf.addN(exits.map((exit) => logLoss(exit, labels))), perRow) },
    };
    yield {
      ...common, name: "gate", source: "record", trains: ["strategy.**"],
      losses: { gate: ({ exits, params, perRow }) =>
        tf.mul(tf.sum(tf.square(tf.sub(tf.sigmoid(tf.matMul(exits[0].features, params.gate)), 0.7))), perRow) },
    };
  },`;

describe("a plugin", { timeout: 180_000 }, () => {
  it("with parameters, phases and a head of its own is trained and reported beside the others", async () => {
    const source = strategySource("learned-gate", gate);
    const folder = await temporaryFolder({
      "gate.ts": `${source.replace("defineExitStrategy }", "defineExitStrategy, defineExitHead }")}
export const head = ${head};
`,
    });
    const out = path.join(folder, "run");
    const { results, failures, table, steps } = await bench([
      "--tasks=sentiment",
      "--methods=entropy",
      `--strategy=${path.join(folder, "gate.ts")}`,
      '--strategy-options={"learned-gate": {"threshold": 0.25}}',
      `--out=${out}`,
    ]);
    expect(failures).toEqual([]);
    expect(new Set(results.rows.map(({ method }) => method))).toEqual(
      new Set(["full", "entropy", "learned-gate"]),
    );
    const curve = results.rows.filter(({ method }) => method === "learned-gate");
    expect(curve.length).toBeGreaterThan(2);
    expect(curve[0]?.knob?.name).toBe("threshold");
    expect(table).toContain("| learned-gate |");
    for (const phase of ["all-exits", "gate"])
      expect(steps.some((step) => step.includes(`learned-gate · ${phase} epoch`))).toBe(true);
    // The others keep the usual head.
    expect(results.head).toBeUndefined();
    expect(await readFile(path.join(out, "report.html"), "utf8")).toContain("learned-gate");
  });

  it("can be a head alone, which every method then uses", async () => {
    const folder = await temporaryFolder({
      "head.ts": `import { defineExitHead } from ${policies};
import { createRequire } from "node:module";
const tf = createRequire(${JSON.stringify(path.join(root, "packages/bench/package.json"))})("@tensorflow/tfjs");
export default ${head};
`,
      "no-head.ts": strategySource("no-head"),
    });
    const run = (file: string) =>
      bench([
        "--tasks=sentiment",
        "--methods=entropy",
        `--head=${path.join(folder, file)}`,
        `--out=${path.join(folder, "run")}`,
      ]);
    const { results, failures } = await run("head.ts");
    expect(failures).toEqual([]);
    expect(results.head).toContain("head.ts");
    expect(results.rows.some(({ method }) => method === "entropy")).toBe(true);
    await expect(run("no-head.ts")).rejects.toMatchObject({ code: "BAD_OPTION", who: "--head" });
  });

  it("is found as a package by its short name, and only what was named is loaded", async () => {
    const plugin = (name: string, text: string) => ({
      [`node_modules/exit-strategy-${name}/package.json`]: JSON.stringify({
        name: `exit-strategy-${name}`,
        type: "module",
        exports: "./index.js",
      }),
      [`node_modules/exit-strategy-${name}/index.js`]: text,
    });
    const folder = await temporaryFolder({
      // Imports packages by name, which are not installed beside it: they come from the program.
      ...plugin(
        "short",
        `import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
export default defineExitStrategy({
  name: "short",
  options: v.strictObject({}),
  needs: ["probs"],
  tasks: ["classification"],
  start: () => ({}),
  observe: ({ probs }) => tf.max(probs, 1),
  decide: ([top], state) => ({ exit: top > 0.8, state }),
});
`,
      ),
      ...plugin("trap", 'throw new Error("nobody named me");'),
    });
    const out = path.join(folder, "run");
    const words = ["glue", ...tiny, "--tasks=sentiment", "--methods=full", `--out=${out}`];
    const { code, stderr, stdout } = await benchChild([...words, "--strategy=short"], {
      cwd: folder,
    });
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("| short ");
    expect(stderr).not.toContain("nobody");
  });

  it("that needs a build is refused in one line, before anything runs", async () => {
    const name = "exit-strategy-unbuilt";
    const folder = await temporaryFolder({
      [`node_modules/${name}/package.json`]: JSON.stringify({ name, main: "./dist/index.js" }),
      [`node_modules/${name}/src/index.ts`]: strategySource("unbuilt"),
    });
    const words = ["glue", ...tiny, "--out=run", "--strategy=unbuilt"];
    const { code, stdout, stderr } = await benchChild(words, { cwd: folder });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(
      /^\[exit-strategy-unbuilt\] the package in .* names .*dist\/index\.js as its entry, which is not there\. Build or reinstall it\.\n$/,
    );
    expect(await readdir(folder)).toEqual(["node_modules"]);
  });
});
