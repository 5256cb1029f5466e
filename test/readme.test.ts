/** @file Holds the READMEs to their word: the pinned commands, the links, and the code that they show, which runs here. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { inspect } from "node:util";
import { afterAll, describe, expect, it, vi } from "vitest";
import {
  createCausalDecoder,
  createLlamaConfig,
  saveCausalDecoder,
} from "../packages/backbone/src/index.js";
import { saveEarlyExitModel } from "../packages/consistentee/src/index.js";
import { graded } from "../packages/consistentee/test/support.js";
import { scratchFolder, texts, tinyParts } from "../packages/consistentee/test/tiny-model.js";
import { GUIDE_SECTIONS } from "../packages/exit-policies/src/testing/guide.js";
import type { ConformanceCheck } from "../packages/exit-policies/src/testing/index.js";
import { blocksOf, documents, root, textOf } from "./documents.js";

const readme = readFileSync(join(root, "README.md"), "utf8");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** The blocks that tests here asked for, each to run it. */
const taken = new Set<string>();

function take(blocks: readonly string[]): readonly string[] {
  for (const block of blocks) taken.add(block);
  return blocks;
}

function programsOf(markdown: string): string[] {
  return blocksOf(markdown).flatMap(({ language, code }) => (language === "ts" ? [code] : []));
}

/** The TypeScript blocks of a Markdown text, in order, as one module. */
function codeOf(markdown: string): string {
  return take(programsOf(markdown)).join("\n");
}

/** The one block that holds a text. */
function blockWith(text: string, markdown: string): string {
  const found = programsOf(markdown).filter((block) => block.includes(text));
  expect(found).toHaveLength(1);
  return take(found)[0] as string;
}

/** Writes a module inside a package, where its imports resolve. The folder is ignored by git. */
function moduleOf(name: string, code: string): string {
  const cache = join(root, "packages", name, ".cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "readme-"));
  folders.push(folder);
  const path = join(folder, "example.ts");
  writeFileSync(path, code);
  return path;
}

/** What a module prints with `console.log` while it runs. */
async function printedBy(path: string): Promise<string[]> {
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...all) => {
    const isPlain = (one: unknown) => typeof one === "object" && !Array.isArray(one);
    printed.push(all.map((one) => (isPlain(one) ? inspect(one) : one)).join(" "));
  });
  const write = vi.spyOn(process.stdout, "write").mockImplementation(() => true);
  try {
    await import(/* @vite-ignore */ path);
  } finally {
    log.mockRestore();
    write.mockRestore();
  }
  return printed;
}

const kit = `export { conformance } from "@cee/exit-policies/testing";`;
const own = blockWith("defineExitStrategy({", readme);
const strategy = moduleOf("exit-policies", `${own}\n${kit}`);
const { default: shown, conformance } = await import(/* @vite-ignore */ strategy);

describe("the README", () => {
  it("gives the two commands with the pinned package manager", () => {
    for (const command of ["bench glue", "test"])
      expect(readme.split("\n")).toContain(`npx -y ${manifest.packageManager} ${command}`);
  });

  it.each(documents)("links to what is there: %s", (page) => {
    const text = readFileSync(join(root, page), "utf8");
    const links = [...text.matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, link]) => link as string);
    for (const link of links) {
      if (!/^[a-z]+:/.test(link))
        expect(existsSync(join(root, dirname(page), link)), link).toBe(true);
    }
  });

  describe("shows a strategy that", () => {
    for (const check of conformance(shown, { configurations: [[], [{ threshold: 0.6 }]] }))
      it(check.name, check.run);
  });
});

/** The checks that a test file registers with `it`, as a program. */
async function checksOf(path: string): Promise<readonly ConformanceCheck[]> {
  const { checks } = await import(/* @vite-ignore */ path);
  expect(checks.length).toBeGreaterThan(20);
  return checks;
}

const collecting = `export const checks = [];
const it = (name, run) => checks.push({ name, run });
`;

const guide = readFileSync(join(root, "docs", "write-a-strategy.md"), "utf8");
const guided = moduleOf("exit-policies", blockWith("defineExitStrategy({", guide));
cpSync(guided, join(dirname(guided), "steady-margin.ts"));
const guidedTest = join(dirname(guided), "test.ts");
writeFileSync(guidedTest, `${collecting}${blockWith("conformance(steadyMargin", guide)}`);
const guidedChecks = await checksOf(guidedTest);

describe("the guide to writing a strategy", () => {
  it("has every section that a failed check may name", () => {
    const headings = [...guide.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
    expect(headings).toEqual(Object.values(GUIDE_SECTIONS));
  });

  describe("shows a test that says of its strategy that", () => {
    for (const check of guidedChecks) it(check.name, check.run);
  });
});

describe("the page of a method", () => {
  const pages = [
    "berxit",
    "cat",
    "deebert",
    "fastbert",
    "pabee",
    "past-future",
    "pcee-bert",
    "right-tool",
    "romebert",
    "ztw",
    "consistentee",
  ];

  it.each([
    ["calm", "calm lower-is-faster"],
    ["free", "shallow-deep shallow-deep"],
  ])("of generation shows a program that runs: %s", async (page, printed) => {
    const markdown = readFileSync(join(root, "docs", "methods", `${page}.md`), "utf8");
    expect(await printedBy(moduleOf("baselines", codeOf(markdown)))).toEqual([printed]);
  });

  it.each(pages)("shows a program that runs: %s", async (page) => {
    const markdown = readFileSync(join(root, "docs", "methods", `${page}.md`), "utf8");
    const name = page === "consistentee" ? "consistentee" : "baselines";
    const printed = await printedBy(moduleOf(name, codeOf(markdown)));
    expect(printed.join("\n")).toContain(
      page === "consistentee" ? "consistentee" : "classification",
    );
  });
});

/** What programs of the documentation open: models with and without exits, and rows. */
async function writeModels(folder: string): Promise<void> {
  const parts = tinyParts();
  for (const name of ["model", "runs/reviews"]) await saveEarlyExitModel(parts, join(folder, name));
  // What Hugging Face's classes would have written.
  mkdirSync(join(folder, "bert-sst2"));
  for (const name of ["config.json", "model.safetensors", "tokenizer.json"])
    cpSync(join(folder, "model", name), join(folder, "bert-sst2", name));
  const lines = (count: number) =>
    Array.from({ length: count }, (_, row) =>
      JSON.stringify({ text: texts[row % texts.length], label: row % 2 }),
    ).join("\n");
  writeFileSync(join(folder, "train.jsonl"), lines(40));
  writeFileSync(join(folder, "held-out.jsonl"), lines(320));
}

/** A tiny decoder whose vocabulary is letters. */
async function writeLlama(folder: string): Promise<void> {
  await saveCausalDecoder(
    createCausalDecoder({
      config: createLlamaConfig({
        vocabSize: 40,
        hidden: 16,
        depth: 4,
        heads: 2,
        intermediate: 24,
        maxPositions: 64,
        initializerRange: 0.35,
      }),
      seed: 1,
    }),
    folder,
  );
  const letters = Array.from("\u2581abcdefghijklmnopqrstuvwxyzOT");
  const vocab = Object.fromEntries(["<unk>", ...letters].map((piece, id) => [piece, id]));
  const tokenizer = {
    added_tokens: [],
    normalizer: { type: "Replace", pattern: { String: " " }, content: "\u2581" },
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Replace", pattern: { String: "\u2581" }, content: " " },
    model: { type: "BPE", unk_token: "<unk>", vocab, merges: [] },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
}

describe("a page of the documentation", () => {
  it("shows a program that runs: serving", async () => {
    const folder = scratchFolder();
    await writeModels(folder);
    const page = readFileSync(join(root, "docs", "serving.md"), "utf8");
    const code = codeOf(page).replaceAll('"./', `"${folder}/`);
    const printed = await printedBy(moduleOf("consistentee", code));
    const [note, ...rest] = printed;
    expect(note).toMatch(/320 held-out rows/);
    expect(rest.slice(0, 3)).toEqual([
      expect.stringMatching(/^(negative|positive) [01]\.\d\d [123] true$/),
      expect.stringMatching(/^(negative|positive) [01]\.\d\d [12] true$/),
      expect.stringMatching(/^(negative|positive) [01]\.\d\d [123] true$/),
    ]);
    expect(rest[3]).toMatch(/^(negative|positive),BAD_INPUT,(negative|positive)$/);
    expect(rest[4]).toMatch(
      /^(early-exit fine|full-depth Full depth).* no audit yet no window yet$/,
    );
    expect(rest.slice(5)).toHaveLength(2);
  });
});

describe("a guide", () => {
  const onnxruntime = createRequire(join(root, "packages/engine/package.json")).resolve(
    "onnxruntime-node",
  );
  const exit = /^(negative|positive) \([01]\.\d\d\) at layer [123] of 3$/;
  const layers = "[123](,[123])*";

  it.each([
    ["quick-start", "consistentee", [exit, exit, "true"]],
    ["concepts", "backbone", [/^0 4$/, /^0\.69 [1-4]/, /^0\.7 1$/]],
    [
      "choose-a-strategy",
      "consistentee",
      [new RegExp(`^entropy ${layers}$`), new RegExp(`^patience ${layers}$`)],
    ],
    ["reproduce-the-paper", "consistentee", [/reward.+hardness.+sampled/s]],
    ["export", "consistentee", [/^consistentee: 0 of 2 rows/, /^class [01] at layer [123]$/]],
    ["troubleshooting/batches", "consistentee", ["true", "true", "true"]],
    [
      "troubleshooting/all-or-nothing",
      "consistentee",
      [/^0\.05 [123] /, /^0\.3 [123] /, /^0\.6 [123] /, "nothing was chosen"],
    ],
    ["troubleshooting/which-threshold", "consistentee", [/^(true|false) .*320 held-out rows/]],
    ["troubleshooting/checkpoints", "consistentee", ["NO_EXITS", "entropy 3"]],
    [
      "troubleshooting/generation",
      "consistentee",
      [/^copy 2 /, /^recompute 2 /, /^verify .+ as full depth$/],
    ],
    ["troubleshooting/numbers-differ", "exit-policies", ["1 0"]],
  ] as const)("shows a program that runs: %s", async (page, home, expected) => {
    const folder = scratchFolder();
    await writeModels(folder);
    await writeLlama(join(folder, "llama"));
    const code = codeOf(textOf(`docs/${page}.md`))
      .replaceAll('"./', `"${folder}/`)
      // A dependency of a reader's own.
      .replace(/"onnxruntime-node"/, JSON.stringify(onnxruntime));
    expect(await printedBy(moduleOf(home, code))).toEqual(
      expected.map((line) => (typeof line === "string" ? line : expect.stringMatching(line))),
    );
  });
});

describe("the page about generation", () => {
  it("shows a program that runs", async () => {
    const folder = scratchFolder();
    await writeLlama(join(folder, "llama"));
    const page = readFileSync(join(root, "docs", "generation.md"), "utf8");
    const code = codeOf(page).replaceAll('"./', `"${folder}/`);
    const printed = await printedBy(moduleOf("consistentee", code));
    expect(printed).toEqual([
      expect.stringMatching(
        /^\d+ characters, layers 4(,[1-4]){15}, on average [1-4](\.\d+)? of 4$/,
      ),
      "0",
      expect.stringMatching(/^\d+ of [1-9]\d* drafts accepted$/),
      "4 phases, 8 tokens",
      "the same layers: true",
    ]);
  });
});

describe("a package's README", () => {
  it.each(["engine", "backbone"])("shows code that runs: %s", async (name) => {
    const text = readFileSync(join(root, "packages", name, "README.md"), "utf8");
    const code = codeOf(text);
    expect(code).toContain(`from "@cee/${name}"`);
    await import(/* @vite-ignore */ moduleOf(name, code));
  });

  it("shows how to load the weights: model-mini", async () => {
    const text = readFileSync(join(root, "packages/model-mini/README.md"), "utf8");
    const printed = await printedBy(moduleOf("bench", codeOf(text)));
    expect(printed).toEqual([/\/\/ (.+)$/m.exec(codeOf(text))?.[1]]);
  });

  it("shows a model that answers, in the words of the README: consistentee", async () => {
    const text = readFileSync(join(root, "packages", "consistentee", "README.md"), "utf8");
    const shown = blockWith("fromPretrained(", text);
    expect(blockWith("fromPretrained(", readme)).toBe(shown);
    const folder = "./model";
    expect(shown).toContain(JSON.stringify(folder));

    const parts = tinyParts();
    const model = scratchFolder();
    await saveEarlyExitModel(parts, model);
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    try {
      const code = shown.replace(JSON.stringify(folder), JSON.stringify(model));
      await import(/* @vite-ignore */ moduleOf("consistentee", code));
      expect(log.mock.calls).toEqual([
        [expect.stringMatching(/^(negative|positive) \([01]\.\d\d\) at layer [123] of 3$/)],
      ]);
    } finally {
      log.mockRestore();
    }
  });

  it("shows the same strategy and its test: exit-policies", async () => {
    const text = readFileSync(join(root, "packages", "exit-policies", "README.md"), "utf8");
    const body = own.slice(own.indexOf("defineExitStrategy({"));
    expect(body).not.toBe("");
    const code = codeOf(text);
    expect(code).toContain(body);
    for (const { run } of await checksOf(moduleOf("exit-policies", `${collecting}${code}`)))
      await run();
  });

  it("shows what a trained policy says: consistentee", async () => {
    const text = readFileSync(join(root, "packages", "consistentee", "README.md"), "utf8");
    const code = blockWith("policyReport(record", text);
    const imports = code.match(/^import .*;$/gm) ?? [];
    const path = moduleOf(
      "consistentee",
      `${imports.join("\n")}
export function run(model, record) {
${code.replace(/^import .*;$/gm, "")}
return { first: plan().next().value.name, exitLayers, objective, gap, oracleObjective };
}
`,
    );
    const { run } = await import(/* @vite-ignore */ path);
    const { record } = graded(20, 1);
    const said = run({ shape: record.shape }, record);
    expect(said.first).toBe("initialise");
    expect(said.exitLayers).toHaveLength(20);
    expect(said.gap).not.toBeNaN();
    expect(said.oracleObjective).toBeGreaterThanOrEqual(said.objective);
  });
});

// Last, when every other test has taken what it runs.
describe("a program in a document", () => {
  /** `packages/baselines/test/docs.test.ts` runs these, with a model at hand. */
  const elsewhere = ["hashee", "tr-bert", "cascade", "controls"].map(
    (page) => `docs/methods/${page}.md`,
  );
  const left = [...elsewhere, "packages/baselines/README.md"];

  it.each(documents.filter((document) => !left.includes(document)))("runs: %s", (document) => {
    expect(programsOf(textOf(document)).filter((block) => !taken.has(block))).toEqual([]);
  });
});
