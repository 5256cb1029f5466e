/** @file `cee new strategy <name>`: writes a complete package for an exit strategy of one's own. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { operandsOf } from "../arguments.js";
import { BenchError, suggestNames } from "../errors.js";
import { type Args, createReader } from "../glue/options.js";
import { isSource } from "../plugins/load.js";
import type { CeeCommand } from "./command.js";

const help = (cee: string) => `Usage: ${cee} new strategy <name> [options]

Writes a package exit-strategy-<name>: the strategy in TypeScript, a test that runs the conformance kit, and a README with
what to check before publishing. It compiles, passes its test and takes part in a benchmark as it is.

  --out <folder>   (default: exit-strategy-<name>); must not exist, or be empty
  --json           prints what was written as one JSON object

Examples:
  ${cee} new strategy margin
  ${cee} new strategy margin --out packages/exit-strategy-margin

Then, in the folder:
  npm install
  npm test
  npm run bench
`;

/** What the template calls itself. */
const TEMPLATE = { name: "my-strategy", identifier: "myStrategy" } as const;

/** Beside the built program, or in the repository. */
const templateFolder = fileURLToPath(
  new URL(isSource ? "../../../../templates/exit-strategy" : "./exit-strategy", import.meta.url),
);

/** What can't be packed under its own name. */
const RENAMED: Readonly<Record<string, string>> = {
  gitignore: ".gitignore",
  "manifest.json": "package.json",
};

export const newCommand: CeeCommand = {
  help,
  flags: ["json"],
  lists: [],
  operands: "many",
  async run(args: Args, cee: string): Promise<number> {
    const read = createReader(args, ["out", "json"]);
    const [kind, ...names] = operandsOf(args);
    if (kind !== "strategy")
      throw new BenchError(
        "BAD_OPTION",
        "new",
        kind === undefined
          ? `expected what to write, got nothing. Try: ${cee} new strategy my-rule`
          : `there is no template "${kind}". ${suggestNames(kind, ["strategy"])}`,
      );
    if (names.length !== 1)
      throw new BenchError(
        "BAD_OPTION",
        "new strategy",
        `expected one name, got ${names.length === 0 ? "none" : names.join(" ")}. Try: ${cee} new strategy my-rule`,
      );
    const name = await checkName(names[0] as string);
    const folder = read.text("out") ?? `exit-strategy-${name}`;
    const files = await writeTemplate(name, folder);
    const written = { strategy: name, package: `exit-strategy-${name}`, folder, files };
    process.stdout.write(
      args.json === true
        ? `${JSON.stringify(written)}\n`
        : `Wrote ${files.length} files to ${folder}. Next:

  cd ${folder}
  npm install
  npm test
  npm run bench
`,
    );
    return 0;
  },
};

/** @throws BenchError `BAD_OPTION` for a name that no plugin can have */
async function checkName(given: string): Promise<string> {
  const name = given.replace(/^exit-strategy-/, "");
  const refuse = (problem: string) => new BenchError("BAD_OPTION", "new strategy", problem);
  // npm allows 214 characters.
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name) || name.length > 100)
    throw refuse(
      `a strategy's name is lower-case words joined by dashes, such as steady-margin, got "${given}".`,
    );
  const [{ knownStrategies }, { methodNames }] = await Promise.all([
    import("../plugins/registry.js"),
    import("../methods/registry.js"),
  ]);
  if (knownStrategies.find(name) || methodNames.includes(name))
    throw refuse(`"${name}" is a strategy of this project. Choose another name.`);
  return name;
}

/** Copies the template under its new name. @throws BenchError `WRITE_FAILED` */
async function writeTemplate(name: string, folder: string): Promise<string[]> {
  if (existsSync(folder) && (!statSync(folder).isDirectory() || readdirSync(folder).length > 0))
    throw new BenchError(
      "WRITE_FAILED",
      "--out",
      `${folder} is there already and is not an empty folder. Name another one with --out.`,
    );
  const identifier = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  const version = `^${await ownVersion()}`;
  const entries = await readdir(templateFolder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(templateFolder, path.join(entry.parentPath, entry.name)))
    // What working on the template itself leaves behind.
    .filter((file) => !/(^|[\\/])(node_modules|dist|runs)[\\/]|^package-lock\.json$/.test(file))
    .sort();
  const written: string[] = [];
  for (const file of files) {
    let text = (await readFile(path.join(templateFolder, file), "utf8"))
      .replaceAll(TEMPLATE.name, name)
      .replaceAll(TEMPLATE.identifier, identifier);
    const target = RENAMED[file] ?? file;
    if (target === "package.json")
      text = text.replace(/("@cee\/[\w-]+": )"[^"]*"/g, `$1${JSON.stringify(version)}`);
    try {
      await mkdir(path.dirname(path.join(folder, target)), { recursive: true });
      await writeFile(path.join(folder, target), text);
    } catch (cause) {
      throw new BenchError(
        "WRITE_FAILED",
        "--out",
        `can't write ${path.join(folder, target)}: ${(cause as Error).message}. Name a folder that can be written to.`,
        { cause },
      );
    }
    written.push(target);
  }
  return written;
}

/** The packages are released together. */
async function ownVersion(): Promise<string> {
  const file = createRequire(import.meta.url).resolve("@cee/exit-policies/package.json");
  return (JSON.parse(await readFile(file, "utf8")) as { version: string }).version;
}
