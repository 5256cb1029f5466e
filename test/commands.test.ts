/**
 * @file Every command that a document shows, in a block or in a sentence, is one that works.
 *
 * What is cheap runs: help, the doctor, on a tiny model whatever asks, scores or exports one, and `cee train` with a tiny encoder on
 * a table in the format that the file's name promises. The rest takes minutes, installs, serves, or needs a reader's files;
 * of that everything is checked that can be without doing it. A command without a rule fails.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { parseArgs } from "../packages/bench/src/arguments.js";
import { cee } from "../packages/bench/src/cee.js";
import { glueTaskNames } from "../packages/bench/src/data/glue-tasks.js";
import { readTable } from "../packages/bench/src/data/table-file.js";
import { isModelSize, parseGenerationOptions } from "../packages/bench/src/generation/options.js";
import { chooseMethods } from "../packages/bench/src/glue/choose-methods.js";
import {
  chooseNames,
  glueFlags,
  glueLists,
  parseGlueOptions,
} from "../packages/bench/src/glue/options.js";
import { embeddedTaskNames } from "../packages/bench/src/index.js";
import { writeTable } from "../packages/bench/test/write-table.js";
import { saveEarlyExitModel } from "../packages/consistentee/src/index.js";
import { scratchFolder, texts, tinyParts } from "../packages/consistentee/test/tiny-model.js";
import { blocksOf, documents, root, textOf } from "./documents.js";

interface Manifest {
  readonly name: string;
  readonly packageManager?: string;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
const whole = manifestOf(".");

interface Command {
  readonly words: readonly string[];
  /** Where a reader is, from the root. */
  readonly folder: string;
}

/** Splits a line as a shell does; a comment ends it. */
function split(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (const letter of line) {
    if (quote !== "") {
      if (letter === quote) quote = "";
      else word += letter;
    } else if (letter === "'" || letter === '"') {
      quote = letter;
      word ??= "";
    } else if (/\s/.test(letter)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (letter === "#" && word === undefined) {
      break;
    } else {
      word = (word ?? "") + letter;
    }
  }
  expect(quote, `${line}: a quote that does not end`).toBe("");
  return word === undefined ? words : [...words, word];
}

/** The commands of a block; `cd` moves those after it. */
function commandsOf(code: string, start: string): Command[] {
  let folder = start;
  const commands: Command[] = [];
  for (const line of code.replaceAll("\\\n", " ").split("\n")) {
    let words: string[] = [];
    const take = () => {
      if (words[0] === "cd") folder = join(folder, words[1] as string);
      else if (words.length > 0) commands.push({ words, folder });
      words = [];
    };
    // Where an answer is written to changes nothing about the command.
    for (const word of split(line.replace(/ > \S+$/m, "")))
      if (word === "&&" || word === "|") take();
      else words.push(word);
    take();
  }
  return commands;
}

/** Commands in sentences: those that are whole, and not the name of one. */
function inSentences(markdown: string): string[] {
  const sentences = markdown.replaceAll(/^ *```[\s\S]*?^ *```$/gm, "");
  return [...sentences.matchAll(/`((?:pnpm|cee) [^`]+)`/g)]
    .map(([, code]) => (code as string).replaceAll(/\s+/g, " "))
    .filter((code) => !/^cee <command>|(<\w+>|--methods|--exit-logits)$/.test(code));
}

afterEach(() => vi.restoreAllMocks());

/** Runs the program in this process. */
async function printedBy(words: readonly string[]): Promise<string> {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  expect(await cee(words), printed).toBe(0);
  vi.restoreAllMocks();
  return printed;
}

/** What a document leaves to its reader. */
const isLeftOpen = (word: unknown) => typeof word === "string" && /[<>$]/.test(word);

/** Names and numbers that options are given, where they say more than which file. */
const values: Readonly<Record<string, (words: readonly string[]) => Promise<void> | void>> = {
  async glue(words) {
    const { data, backbone, ...own } = parseArgs(words, { flags: glueFlags, lists: glueLists });
    const options = parseGlueOptions(
      { ...own, ...(isLeftOpen(backbone) || backbone === undefined ? {} : { backbone }) },
      "",
    );
    // A reader's own strategy is a file.
    const strategies = options.strategies.filter((name) => !name.startsWith("."));
    await chooseMethods({ ...options, strategies: strategies.filter((name) => name !== TEMPLATE) });
    const tasks = data === undefined ? embeddedTaskNames : glueTaskNames;
    chooseNames(options.tasks, tasks, "UNKNOWN_TASK", "--tasks");
  },
  generation(words) {
    const {
      data: _,
      backbone,
      ...own
    } = parseArgs(words, {
      flags: ["resume", "dry-run", "lora"],
      lists: [],
    });
    // A name of sizes is told from a file.
    const isFile = typeof backbone === "string" && /[./$]/.test(backbone);
    parseGenerationOptions({ ...own, ...(isFile || !backbone ? {} : { backbone }) }, "");
  },
};

/** What the template is called before it gets a name. */
const TEMPLATE = "my-strategy";

/** A model that answers at once, in place of a reader's. */
async function tinyModel(): Promise<string> {
  const folder = scratchFolder();
  await saveEarlyExitModel(tinyParts(), folder);
  return folder;
}

/** The words with another value for an option that is among them. */
function replaced(words: readonly string[], option: string, value: string): string[] {
  const at = words.indexOf(option);
  return at < 0 ? [...words] : words.with(at + 1, value);
}

/** The words with a value for an option, whether it was among them or not. */
function given(words: readonly string[], option: string, value: string): string[] {
  return words.includes(option) ? replaced(words, option, value) : [...words, option, value];
}

/** Commands that are quick, on files of the test's own where they read a reader's. */
const quick: Readonly<Record<string, (words: readonly string[]) => Promise<void>>> = {
  async doctor(words) {
    expect(await printedBy(words)).toContain("Models run on");
  },
  async predict([command = "", _model, ...rest]) {
    const printed = await printedBy([command, await tinyModel(), ...rest]);
    const answers = printed.trim().split("\n");
    for (const answer of answers) expect(JSON.parse(answer)).toHaveProperty("exitLayer");
  },
  async evaluate([command = "", _model, ...rest]) {
    const optionOf = (option: string, otherwise: string) => {
      const at = rest.indexOf(option);
      return at < 0 ? otherwise : (rest[at + 1] as string);
    };
    const file = join(scratchFolder(), "rows.jsonl");
    const rows = texts.map((text, row) => ({
      [optionOf("--text", "text")]: text,
      [optionOf("--label", "label")]: row % 2 === 0 ? "negative" : "positive",
    }));
    writeFileSync(file, rows.map((row) => JSON.stringify(row)).join("\n"));
    const words = replaced([command, await tinyModel(), ...rest], "--data", file);
    expect(await printedBy(words)).toContain("accuracy");
  },
  async train(words) {
    const args = parseArgs(words.slice(1), { flags: ["regression", "json"], lists: [] });
    const nameOf = (option: string, otherwise?: string) =>
      typeof args[option] === "string" ? (args[option] as string) : otherwise;
    // Whoever reads this has installed it by then, as `check:plugins` does.
    if (args.strategy === TEMPLATE) return;
    const folder = scratchFolder();
    const rows = Array.from({ length: 30 }, (_, row) => row);
    const columns = {
      [nameOf("text", "text") as string]: rows.map((row) => `${texts[row % texts.length]} ${row}`),
      ...(args.pair ? { [nameOf("pair") as string]: rows.map((row) => `and ${row % 7}`) } : {}),
      [nameOf("label", "label") as string]: rows.map((row) =>
        args.regression ? row / 10 : row % 2 === 0 ? "good" : "bad",
      ),
    };
    let small = given(words, "--out", join(folder, "model"));
    for (const option of ["data", "dev"]) {
      const name = nameOf(option);
      if (name === undefined) continue;
      const file = join(folder, basename(name));
      writeTable(file, columns);
      small = replaced(small, `--${option}`, file);
    }
    const sizes = {
      "--backbone": "fresh:2x16",
      "--epochs": "1",
      "--max-length": "16",
      "--threads": "1",
    };
    for (const [option, value] of Object.entries(sizes)) small = given(small, option, value);
    const report = JSON.parse(await printedBy([...small, "--json"]));
    expect(report.labels).toEqual(args.regression ? [] : ["bad", "good"]);
    expect(report.rows.dev).toBe(args.dev ? 30 : 3);
    expect(existsSync(join(folder, "model", "cee.json"))).toBe(true);
  },
  async export([command = "", _model, ...rest]) {
    const sentences = join(scratchFolder(), "sentences.txt");
    writeFileSync(sentences, texts.join("\n"));
    const out = join(scratchFolder(), "model.onnx");
    const given = replaced(replaced(rest, "--texts", sentences), "--out", out);
    const named = rest.includes("--out") ? given : [...given, "--out", out];
    await printedBy([command, await tinyModel(), ...named]);
    expect(statSync(out).size).toBeGreaterThan(0);
  },
  async new(words) {
    const folder = join(scratchFolder(), "strategy");
    await printedBy([...words, "--out", folder]);
    expect(existsSync(join(folder, "package.json"))).toBe(true);
  },
};

/** A size that no machine has to hold: what training it would take is counted. */
const isCounted = (words: readonly string[]) =>
  words.includes("--dry-run") && words.some((word) => isModelSize(word));

/** Commands of the program: what trains takes minutes to hours, and most reads a reader's files. */
async function checkProgram(words: readonly string[]): Promise<void> {
  if (words.includes("--help")) {
    expect(await printedBy(words)).toMatch(/^Usage: /);
    return;
  }
  // The command and the options before it are known where this one is the first that is not.
  const unknown = "--no-such-option";
  await expect(cee([...words, unknown])).rejects.toThrow(unknown);
  const isWhole = !words.some(isLeftOpen) && !words.includes("--plugin");
  if (
    isWhole &&
    (words.length > 1 || words[0] === "doctor") &&
    quick[words[0] as string] !== undefined
  )
    await quick[words[0] as string]?.(words);
  else if (isCounted(words)) expect(await printedBy(words)).toContain("Nothing was written");
  else if (isWhole && words[0] === "bench" && words[1] !== undefined)
    await values[words[1]]?.(words.slice(2));
  else if (isWhole) await values[words[0] as string]?.(words.slice(1));
}

/** Scripts and programs of the workspace: some build, others are the tests themselves. */
async function checkWorkspace(words: readonly string[], folder: string): Promise<void> {
  const [first, ...rest] = words;
  if (first === "-w") return checkWorkspace(rest, ".");
  if (first === "exec") return checkWorkspace(rest, folder);
  if (first === "-r") {
    // Each package would take a relative path for one of its own.
    expect(rest.slice(0, -1)).toEqual(["--filter", "./packages/*", "pack", "--pack-destination"]);
    expect(rest.at(-1)).toMatch(/^\//);
    return;
  }
  const { scripts = {} } = manifestOf(folder);
  const script = scripts[first as string];
  if (script?.includes("packages/bench/src/bin.ts")) {
    const [, own = ""] = script.split("packages/bench/src/bin.ts");
    return checkProgram([...split(own), ...rest]);
  }
  if (script !== undefined) return;
  if (first === "vitest") {
    expect(rest[0]).toBe("run");
    for (const path of rest.slice(1)) expect(existsSync(join(root, path)), path).toBe(true);
    return;
  }
  if (first === "tsx") {
    const [condition, file, ...settings] = rest;
    expect(condition).toBe("--conditions=@cee/source");
    if (!existsSync(join(root, file as string))) {
      // The reader writes it, where a package of this project is installed.
      const { dependencies = {} } = manifestOf(dirname(file as string));
      expect(Object.keys(dependencies)).toContain("@cee/consistentee");
      return;
    }
    const source = readFileSync(join(root, file as string), "utf8");
    for (const setting of settings) {
      const [, name] = /^([\w-]+)=/.exec(setting) ?? [];
      if (name) expect(source, setting).toContain(`"${name}"`);
    }
    return;
  }
  // pnpm's own, and the program of changesets.
  expect(["install", "changeset"]).toContain(first);
}

/** Installing asks a registry; that the packages install is checked from packed tarballs, by scripts of their own. */
function checkInstall(names: readonly string[]): void {
  const manifests = [
    ...readdirSync(join(root, "packages")).map((name) => manifestOf(`packages/${name}`)),
    manifestOf("templates/exit-strategy"),
  ];
  const known = new Set(
    manifests.flatMap(({ name, dependencies, peerDependencies }) => [
      name,
      ...Object.keys({ ...dependencies, ...peerDependencies }),
    ]),
  );
  for (const name of names) expect(known).toContain(name);
}

/** Requests to the example service, which `examples.test.ts` starts and asks the same. */
function checkRequest(words: readonly string[]): void {
  const [address = "", flag, body] = words;
  const [, route] = /^localhost:\d+(\/\w+)$/.exec(address) ?? [];
  expect(readFileSync(join(root, "examples/service/service.ts"), "utf8")).toContain(`"${route}"`);
  if (flag !== undefined) {
    expect(flag).toBe("-d");
    expect(JSON.parse(body as string)).toHaveProperty("inputs");
  }
}

/** @throws Error for a command that no rule is about */
async function check({ words, folder }: Command): Promise<void> {
  const [program, ...rest] = words;
  switch (program) {
    case "npx": {
      const [yes, packageManager, ...own] = rest;
      expect([yes, packageManager]).toEqual(["-y", whole.packageManager]);
      return checkWorkspace(own, folder);
    }
    case "pnpm":
      return checkWorkspace(rest, folder);
    case "cee":
      return checkProgram(rest);
    case "npm": {
      const [command, ...names] = rest;
      if (command === "install") return checkInstall(names);
      // It packs, and asks nobody.
      if (command === "pack") return;
      const name = command === "run" ? names[0] : command;
      return expect(Object.keys(manifestOf(folder).scripts ?? {})).toContain(name);
    }
    case "curl":
      return checkRequest(rest);
    case "apt-get":
      // It needs root. The benchmark that misses these packages names them in the same words.
      return expect(
        readFileSync(join(root, "packages/bench/src/engine/torch.ts"), "utf8"),
      ).toContain(words.join(" "));
    case ".ci/run":
      // All tests, this one among them.
      return expect(statSync(join(root, program)).mode & 0o111).not.toBe(0);
    default:
      throw new Error(`no rule says how to check "${words.join(" ")}". Write one, or mend it.`);
  }
}

/** A template's README is read in the package that it becomes. */
const startOf = (document: string) =>
  document.startsWith("templates/") ? join(document, "..") : ".";

const commands = documents.flatMap((document) => {
  const markdown = textOf(document);
  const blocks = blocksOf(markdown).filter(({ language }) => language === "sh");
  return [...blocks.map(({ code }) => code), ...inSentences(markdown)].flatMap((code) =>
    commandsOf(code, startOf(document)).map((command) => ({ document, ...command })),
  );
});

it.each(commands.map((command) => [command.document, command.words.join(" "), command] as const))(
  "%s: %s",
  { timeout: 120_000 },
  (_document, _line, command) => check(command),
);

it("finds the commands", () => {
  expect(commands.length).toBeGreaterThan(80);
  expect(split(`cee predict m "a b" --x='{"y": 1}' # why`)).toEqual([
    "cee",
    "predict",
    "m",
    "a b",
    '--x={"y": 1}',
  ]);
  expect(commandsOf("cd a\npnpm b && c d > e\n# only a comment\n", ".")).toEqual([
    { words: ["pnpm", "b"], folder: "a" },
    { words: ["c", "d"], folder: "a" },
  ]);
});

it.each([
  ["pnpm bench glue --task rte", "--task"],
  ["pnpm bench glue --methods deebrt", 'Did you mean "deebert"'],
  ["pnpm bench glue --tasks sentimental", "sentimental"],
  ["pnpm bench generation --methods kalm", "kalm"],
  ["cee train --data a.csv --strategy entrpy", 'Did you mean "entropy"'],
  ["cee pretrian", "pretrian"],
  ["npx -y pnpm@1.2.3 test", "pnpm@1.2.3"],
  ["pnpm no-such-script", "no-such-script"],
  ["npm install @cee/no-such-package", "no-such-package"],
  ["curl localhost:3000/nowhere", "nowhere"],
  ["make all", "no rule says"],
])("would notice: %s", async (line, problem) => {
  const [command] = commandsOf(line, ".");
  await expect(check(command as Command)).rejects.toThrow(problem);
});

it("every block is of a language that is checked", async () => {
  const blocks = documents.flatMap((document) =>
    blocksOf(textOf(document)).map(({ language, code }) => ({ document, language, code })),
  );
  for (const { document, language, code } of blocks) {
    // TypeScript runs in `readme.test.ts`. A block without a language is a drawing or an output.
    expect(["sh", "ts", "json", "csv", "tsv", "jsonl", ""], document).toContain(language);
    if (language === "json") expect(() => JSON.parse(code), document).not.toThrow();
    if (["csv", "tsv", "jsonl"].includes(language)) {
      const file = join(scratchFolder(), `rows.${language}`);
      writeFileSync(file, code);
      const { columns, rows, malformed } = await readTable(file);
      expect({ document, columns, malformed }).toEqual({
        document,
        columns: ["review", "stars"],
        malformed: [],
      });
      expect(rows.map(({ values }) => values.stars)).toEqual(["good", "bad"]);
    }
  }
});
