import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createRegistry,
  ExitStrategyError,
  entropy,
  nearest,
  patience,
  resolveExitHead,
  resolvePlugin,
  resolveStrategy,
} from "../src/index.js";

const registry = createRegistry([entropy, patience]);

describe("a registry", () => {
  it("makes strategies by name, with their options", () => {
    expect(registry.names).toEqual(["entropy", "patience"]);
    expect(registry.create("patience", { patience: 3 }).options).toEqual({
      patience: 3,
      tolerance: 0.1,
    });
    expect(registry.create("entropy").options).toEqual({ threshold: 0.1 });
    // @ts-expect-error no such option
    expect(() => registry.create("entropy", { patience: 3 })).toThrowError("[entropy]");
    // @ts-expect-error no such name
    expect(() => registry.create("entropi")).toThrowError(ExitStrategyError);
  });

  it("suggests the nearest name", () => {
    expect(() => registry.createUnknown("entrpy")).toThrowError(
      '[entrpy] no such strategy, got "entrpy". Did you mean "entropy"? Available: entropy, patience.',
    );
    expect(() => registry.createUnknown("x")).toThrowError(/got "x"\. Available/);
    expect(nearest("Patiense", registry.names)).toBe("patience");
  });

  it("refuses two strategies of one name", () => {
    expect(() => createRegistry([entropy, entropy])).toThrowError(
      expect.objectContaining({ code: "DUPLICATE_NAME" }),
    );
  });
});

describe("a specifier", () => {
  let folder: string;
  const from = () => folder;

  const factory = (name: string, apiVersion = 1) =>
    `export default Object.assign(() => ({}), {
      strategyName: "${name}", apiVersion: ${apiVersion}, definition: { name: "${name}" },
    });`;

  async function write(path: string, text: string): Promise<void> {
    const full = join(folder, path);
    await mkdir(join(full, ".."), { recursive: true });
    await writeFile(full, text);
  }

  const pack = async (name: string, manifest: object, entry: string, text: string) => {
    await write(
      `node_modules/${name}/package.json`,
      JSON.stringify({ name, type: "module", ...manifest }),
    );
    await write(`node_modules/${name}/${entry}`, text);
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "plugins-"));
    await write("package.json", JSON.stringify({ type: "module" }));
    await write("margin.js", factory("margin"));
    await write("folder/index.js", factory("inner"));
    await write("empty.js", "export const other = 1;");
    await write("configured.js", 'export default { name: "margin", options: {} };');
    await write("newer.js", factory("newer", 2));
    await write("clash.js", factory("entropy"));
    await write("throws.js", 'throw new Error("no licence");');
    await write("syntax.js", "export default {{{");
    await write("text.strange", "hello");
    const head = '{ name: "mean", apiVersion: 1, params() {}, apply() {} }';
    await write("head.js", `export default ${head};`);
    await write("both.js", `${factory("both")} export const head = ${head};`);
    const build = 'Object.defineProperty(exports, "__esModule", { value: true });';
    await write("head.cjs", `${build} exports.default = ${head};`);
    await write(
      "both.cjs",
      `${build} ${factory("both").replace("export default", "exports.default =")} exports.head = ${head};`,
    );
    await write("plain-head.js", `export default { ...${head}, apiVersion: undefined };`);
    await pack(
      "exit-strategy-gap",
      { exports: { import: "./main.js" } },
      "main.js",
      factory("gap"),
    );
    await pack(
      "@cee/exit-strategy-own",
      { exports: { ".": { types: "./x.d.ts", default: "./dist/own.js" } } },
      "dist/own.js",
      factory("own"),
    );
    await pack("whole-name", { main: "lib.js" }, "lib.js", factory("whole"));
    await pack("@scope/rule", {}, "index.js", factory("scoped"));
    await pack("unbuilt", { exports: "./dist/index.js" }, "src.ts", "");
    await pack("outside", { exports: "./../../margin.js" }, "x.js", "");
    await pack("typed", { exports: { types: "./x.d.ts" } }, "x.js", "");
    await write("node_modules/broken-json/package.json", "{");
    await mkdir(join(folder, "deep/er"), { recursive: true });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Vitest's own import unwraps a CommonJS build's default export; Node's doesn't. */
  const asNode = async (url: string) =>
    url.endsWith(".cjs") ? { default: createRequire(url)(fileURLToPath(url)) } : import(url);

  const resolve = (specifier: string, at = from()) =>
    resolveStrategy(specifier, { registry, from: at });

  it.each([
    ["entropy", "entropy"],
    ["./margin.js", "margin"],
    ["gap", "gap"],
    ["exit-strategy-gap", "gap"],
    ["own", "own"],
    ["@cee/own", "own"],
    ["@cee/exit-strategy-own", "own"],
    ["whole-name", "whole"],
    ["@scope/rule", "scoped"],
  ])("%s is found", async (specifier, name) => {
    expect((await resolve(specifier)).strategyName).toBe(name);
  });

  it("may be an absolute path, a file URL, or lie above the folder", async () => {
    const path = join(folder, "margin.js");
    for (const specifier of [path, pathToFileURL(path).href])
      expect((await resolve(specifier)).strategyName).toBe("margin");
    expect((await resolve("gap", join(folder, "deep/er"))).strategyName).toBe("gap");
    expect((await resolve("../../margin.js", join(folder, "deep/er"))).strategyName).toBe("margin");
  });

  it.each(["./head.js", "./both.js", "./head.cjs", "./both.cjs"])(
    "%s exports an exit head",
    async (specifier) => {
      expect((await resolveExitHead(specifier, { from: folder, load: asNode })).name).toBe("mean");
    },
  );

  it.each(["./both.js", "./both.cjs"])("%s brings its strategy's head", async (specifier) => {
    const options = { registry, from: folder, load: asNode };
    const { strategy, head } = await resolvePlugin(specifier, options);
    expect([strategy.strategyName, head?.name]).toEqual(["both", "mean"]);
  });

  it.each([
    ["./margin.js", /exports no exit head/],
    ["./plain-head.js", /what defineExitHead returned/],
  ])("%s is refused as an exit head", async (specifier, message) => {
    await expect(resolveExitHead(specifier, { from: folder })).rejects.toThrow(message);
  });

  it.each([
    ["./nowhere.js", "UNKNOWN_STRATEGY", /no file at .*nowhere\.js/],
    ["./folder", "UNKNOWN_STRATEGY", /is a folder\. Name the file .*\.\/folder\/index\.js/],
    ["file://%zz", "UNKNOWN_STRATEGY", /usable file URL/],
    ["./empty.js", "BAD_DEFINITION", /no default export \(it exports other\)/],
    ["./configured.js", "BAD_DEFINITION", /Export the factory/],
    ["./newer.js", "API_MISMATCH", /version 2 .* speaks 1\. Upgrade @cee\/exit-policies/],
    ["./clash.js", "DUPLICATE_NAME", /called "entropy"/],
    ["./throws.js", "STRATEGY_THREW", /no licence/],
    ["./syntax.js", "STRATEGY_THREW", /syntax\.js failed/],
    ["entropi", "UNKNOWN_STRATEGY", /Did you mean "entropy"\?.*exit-strategy-entropi/],
    ["unbuilt", "UNKNOWN_STRATEGY", /not there\. Build or reinstall/],
    ["outside", "UNKNOWN_STRATEGY", /lies outside it/],
    ["typed", "UNKNOWN_STRATEGY", /names no entry/],
    ["broken-json", "UNKNOWN_STRATEGY", /not JSON/],
    ["../x y/../z!", "UNKNOWN_STRATEGY", /no file at/],
    ["a b/c", "UNKNOWN_STRATEGY", /no such strategy/],
  ])("%s gives %s", async (specifier, code, message) => {
    const error = await resolve(specifier).then(
      () => undefined,
      (cause: unknown) => cause as ExitStrategyError,
    );
    expect(error).toMatchObject({ name: "ExitStrategyError", code, who: expect.any(String) });
    expect(error?.message).toMatch(message);
  });
});
