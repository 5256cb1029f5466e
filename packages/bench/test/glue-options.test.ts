/** @file The options of `bench glue`. */
import path from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseArgs } from "../src/arguments.js";
import { commandLine } from "../src/cli.js";
import { glueHelp } from "../src/cli-help.js";
import { chooseMethods } from "../src/glue/choose-methods.js";
import {
  type Args,
  chooseNames,
  glueFlags,
  glueLists,
  maskDataFolder,
  parseFresh,
  parseGlueOptions,
} from "../src/glue/options.js";
import { defaultMethodNames, methodNames } from "../src/methods/registry.js";
import { temporaryFolder } from "./helpers.js";

const parse = (...words: string[]) =>
  parseGlueOptions(parseArgs(words, { flags: glueFlags, lists: glueLists }), "command");

describe("parseGlueOptions", () => {
  it("has defaults for everything", () => {
    expect(parse()).toEqual({
      data: "embedded",
      allTasks: false,
      allMethods: false,
      cells: undefined,
      split: "dev",
      tasks: [],
      methods: [],
      strategies: [],
      strategyOptions: {},
      head: undefined,
      backbone: undefined,
      preset: "small",
      seeds: [42],
      epochs: undefined,
      rate: undefined,
      limit: undefined,
      devLimit: undefined,
      maxLength: undefined,
      out: "runs/embedded",
      resume: false,
      dryRun: false,
      texts: false,
      threads: undefined,
      runtime: undefined,
      hubUrl: undefined,
      command: "command",
    });
  });

  it("takes every option", async () => {
    const data = await temporaryFolder({ "RTE/train.tsv": "" });
    const words =
      `--data ${data} --tasks rte,sst-2 --methods full,entropy --strategy ./a.js --strategy ./b.js,c ` +
      "--backbone fresh:3x24 --preset paper --seeds 1,2,1 --epochs 3 --limit 100 --dev-limit 50 --max-length 40 " +
      "--name mine --resume --dry-run --threads 2 --runtime eager --hub-url http://127.0.0.1:1";
    expect(parse(...words.split(" "))).toMatchObject({
      data,
      tasks: ["rte", "sst-2"],
      methods: ["full", "entropy"],
      strategies: ["./a.js", "./b.js", "c"],
      backbone: "fresh:3x24",
      preset: "paper",
      seeds: [1, 2],
      epochs: 3,
      limit: 100,
      devLimit: 50,
      maxLength: 40,
      out: "runs/mine",
      resume: true,
      dryRun: true,
      texts: false,
      threads: 2,
      runtime: "eager",
      hubUrl: "http://127.0.0.1:1",
    });
  });

  it.each([
    ["--taks=rte", "UNKNOWN_OPTION", 'Did you mean "--tasks"?'],
    ["--preset=smal", "BAD_OPTION", 'Did you mean "small"?'],
    ["--runtime=eagre", "BAD_OPTION", 'Did you mean "eager"?'],
    ["--backbone=fresh:12", "BAD_OPTION", "fresh:<layers>x<width>"],
    ["--backbone=fresh:2x12", "BAD_OPTION", "divisible by 8"],
    ["--backbone=fresh:1x16", "BAD_OPTION", "at least 2 layers"],
    ["--backbone=frsh:2x16", "BAD_OPTION", "no folder"],
    ["--backbone=./nowhere", "BAD_OPTION", "no folder"],
    ["--seeds=1,x", "BAD_OPTION", '"x"'],
    ["--seeds=-1", "BAD_OPTION", '"-1"'],
    ["--epochs=0", "BAD_OPTION", "whole number >= 1"],
    ["--epochs=1.5", "BAD_OPTION", "whole number >= 1"],
    ["--rate=0", "BAD_OPTION", "a number above 0"],
    ["--rate=fast", "BAD_OPTION", "a number above 0"],
    ["--limit=many", "BAD_OPTION", '"many"'],
    ["--limit= ", "BAD_OPTION", "whole number"],
    ["--tasks", "BAD_OPTION", "got nothing"],
    ["--tasks=a,,b", "BAD_OPTION", "separated by commas"],
    ["--methods=", "BAD_OPTION", "separated by commas"],
    ["--strategy", "BAD_OPTION", "separated by commas"],
    ["--out=", "BAD_OPTION", "a value"],
    ["--name=../x", "BAD_OPTION", "--out"],
    ["--hub-url=localhost", "BAD_OPTION", "http(s)"],
    ["--resume=yes", "BAD_OPTION", "takes no value"],
    ["--data=./nowhere", "MISSING_FILE", "no folder"],
  ])("refuses %s, naming the option", (word, code, part) => {
    const option = word.slice(0, word.indexOf("=") < 0 ? undefined : word.indexOf("="));
    let caught: unknown;
    try {
      parse(word);
    } catch (cause) {
      caught = cause;
    }
    expect(caught).toMatchObject({ code, who: option });
    expect((caught as Error).message).toContain(part);
  });

  it("refuses a file as data or as --out, an option given twice, and --out together with --name", async () => {
    const folder = await temporaryFolder({ "file.tsv": "" });
    expect(() => parse("--data", path.join(folder, "file.tsv"))).toThrow("is a file");
    expect(() => parse("--out", path.join(folder, "file.tsv"))).toThrow("Name a folder");
    // What can't be made is found out when it is made.
    expect(() => parse("--cells", path.join(folder, "file.tsv", "below"))).not.toThrow();
    expect(() => parse("--limit=8", "--limit=9")).toThrow("given twice");
    expect(() => parse("--out=a", "--name=b")).toThrow("Leave one of them out");
    expect(() => parse("--rate=2", "--preset=paper")).toThrow("Leave one of the two out");
    expect(() => parse("rte")).toThrow("not expected here");
  });
});

it("reads --name value and --name=value alike", () => {
  const value = fc.string({ minLength: 1 }).filter((text) => !text.startsWith("--"));
  const name = fc.stringMatching(/^[a-z][a-z-]{0,8}$/).filter((text) => text !== "flag");
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key }), (pairs) => {
      const options = { flags: ["flag"], lists: [] };
      const expected: Args = Object.fromEntries(pairs);
      const apart = pairs.flatMap(([key, text]) => [`--${key}`, text]);
      const together = pairs.map(([key, text]) => `--${key}=${text}`);
      expect(parseArgs(apart, options)).toEqual(expected);
      expect(parseArgs(together, options)).toEqual(expected);
      expect(parseArgs([...apart, "--flag"], options)).toEqual({ ...expected, flag: true });
    }),
  );
});

describe("chooseNames", () => {
  const choose = (...wanted: string[]) =>
    chooseNames(wanted, ["sst-2", "rte", "qnli"], "UNKNOWN_TASK", "--tasks");

  it("keeps the order of what there is, and ignores case, dashes and repeats", () => {
    expect(choose()).toEqual(["sst-2", "rte", "qnli"]);
    expect(choose("RTE", "sst2", "rte")).toEqual(["sst-2", "rte"]);
  });

  it("names what is unknown, and what was probably meant", () => {
    expect(() => choose("qnly")).toThrow('[--tasks] there is no "qnly". Did you mean "qnli"?');
  });
});

it("reads sizes of fresh encoders", () => {
  expect(parseFresh("fresh:12x128")).toEqual({ depth: 12, hidden: 128 });
});

describe("the command in the results", () => {
  it("can be pasted into a shell, names the data folder's variable and leaves --resume out", () => {
    const words = ["glue", "--data", "/mnt/data/glue", "--name", "it's", "--resume", "--limit=8"];
    expect(commandLine(words, "/mnt/data/")).toBe(
      "pnpm bench glue --data $CEE_DATA_DIR/glue --name 'it'\\''s' --limit=8",
    );
    expect(commandLine(["glue", "--data=/mnt/data"], "/mnt/data")).toBe(
      "pnpm bench glue --data=$CEE_DATA_DIR",
    );
  });

  it("leaves other folders alone", () => {
    expect(maskDataFolder("/mnt/data2", "/mnt/data")).toBe("/mnt/data2");
    expect(maskDataFolder("/mnt/data", undefined)).toBe("/mnt/data");
  });
});

describe("methods", () => {
  const chosen = (...words: string[]) => chooseMethods(parse(...words));

  it("are the quick ones when nothing is said, and none of them counts as asked for", async () => {
    const { methods, named } = await chosen();
    expect(methods.map(({ name }) => name)).toEqual(defaultMethodNames);
    expect(named.size).toBe(0);
  });

  it("are all of them under the paper's preset, which makes its whole table", () => {
    expect(parse("--preset=paper").allMethods).toBe(true);
    expect(parse("--preset=small").allMethods).toBe(false);
  });

  it("are all of them on request", async () => {
    const { methods, named } = await chosen("--methods=all");
    expect(methods.map(({ name }) => name)).toEqual(methodNames);
    expect(named.size).toBe(0);
  });
});

it("names every method in the help", () => {
  for (const name of methodNames) expect(glueHelp).toContain(name);
});
