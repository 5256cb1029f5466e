/**
 * @file Shows that somebody else's strategy works with what would be published: from packed tarballs, in an empty folder
 * outside the workspace, with plain npm.
 *
 *     node scripts/check-plugins.mjs [--keep]
 *
 * 1. `cee new strategy` writes a package; it installs, passes the conformance kit and is packed.
 * 2. A strategy of 30 lines, written from docs/write-a-strategy.md alone, passes the kit as well.
 * 3. Both stand in a benchmark beside the built-in strategies.
 * 4. Broken plugins (scripts/plugins/broken.mjs) join them: each gets one clear error, and the others' results stay equal.
 * 5. What a command line gets wrong about plugins is refused before anything runs.
 *
 * Packages that are not built are built first. `--keep` leaves the temporary folder.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { broken } from "./plugins/broken.mjs";
import {
  cleanEnvironment,
  createSteps,
  expect,
  publicPackages,
  root,
  run,
  temporaryFolder,
} from "./workplace.mjs";

const LEAST_CHECKS = 40;

const { values: options } = parseArgs({ options: { keep: { type: "boolean" } } });

const workspace = temporaryFolder("check-plugins", options);
const environment = cleanEnvironment({ ONNXRUNTIME_NODE_INSTALL: "skip" });
const home = join(workspace, "home");
const packageName = "exit-strategy-proof-margin";
const own = join(home, packageName);
const BENCH = (
  "bench glue --tasks sentiment --methods entropy,patience --backbone fresh:3x16 --limit 48 --dev-limit 24 --epochs 1 " +
  "--max-length 16 --threads 1 --workers 1 --strategy proof-margin --strategy ./settled.ts"
).split(" ");
const { step, summarise } = createSteps();
await main();

async function main() {
  console.log(`Working in ${workspace}.`);
  let tarballs = [];
  let clean;
  const steps = [
    [
      "pack",
      async () => {
        tarballs = await pack();
        return `${tarballs.length} tarballs`;
      },
    ],
    ["cee installs with npm in an empty folder", () => install(tarballs)],
    ["the package of cee new installs, passes the kit and is packed", () => tryTemplate(tarballs)],
    ["a strategy of 30 lines from the guide passes the kit", tryThirtyLines],
    [
      "both stand in a benchmark",
      async () => {
        clean = await benchmark("clean", []);
        return `${clean.rows.length} rows of ${[...clean.methods].join(", ")}`;
      },
    ],
    ["broken plugins are named once each and leave the others alone", () => tryBroken(clean)],
    ["wrong command lines are refused", tryWrongCommandLines],
  ];
  for (const [name, action] of steps) if (!(await step(name, action))) break;
  summarise(steps.length);
}

async function pack() {
  const packages = publicPackages();
  const unbuilt = packages.filter(({ folder }) => !existsSync(join(folder, "dist")));
  if (unbuilt.length > 0)
    await run(["pnpm", "-r", ...unbuilt.flatMap(({ name }) => ["--filter", name]), "build"], {
      cwd: root,
      env: process.env,
    });
  const target = join(workspace, "tarballs");
  mkdirSync(target);
  for (const { folder } of packages)
    await run(["pnpm", "pack", "--pack-destination", target], { cwd: folder, env: process.env });
  return readdirSync(target).map((file) => join(target, file));
}

async function install(tarballs) {
  mkdirSync(home);
  writeFileSync(
    join(home, "package.json"),
    '{ "name": "home", "private": true, "type": "module" }\n',
  );
  await npm(["install", ...tarballs], home);
  const output = await cee(["--help"]);
  expect(output.includes("Usage: cee <command>"), "the help of cee", output);
  return "cee --help";
}

async function tryTemplate(tarballs) {
  await cee(["new", "strategy", "proof-margin"]);
  // As if from the registry: the manifest keeps its ranges.
  await npm(["install", "--no-save", ...tarballs], own);
  const passed = passes(await npm(["test"], own));
  await npm(["pack", "--pack-destination", workspace], own);
  const files = readdirSync(workspace).filter((file) => file.startsWith(packageName));
  expect(files.length === 1, "one tarball", files.join(", "));
  // No devDependencies: what somebody who uses the strategy gets.
  await npm(["install", join(workspace, files[0])], home);
  return `${passed} checks passed`;
}

async function tryThirtyLines() {
  const text = readFileSync(join(root, "scripts/plugins/settled.ts"), "utf8");
  const lines = text.trimEnd().split("\n").length;
  expect(lines <= 30, "at most 30 lines", lines);
  cpSync(join(root, "scripts/plugins/settled.ts"), join(home, "settled.ts"));
  // Compiled and tested beside the template's own, whose compiler is there.
  writeFileSync(join(own, "src/settled.ts"), text);
  writeFileSync(
    join(own, "test/settled.test.ts"),
    `import { test } from "node:test";
import { conformance } from "@cee/exit-policies/testing";
import settled from "../src/settled.js";
for (const { name, run } of conformance(settled, { configurations: [[], [{ certainty: 0.6 }]] })) test(name, run);
`,
  );
  await npm(["run", "build"], own);
  const output = await run(["node", "--test", "--test-reporter=tap", "dist/test/settled.test.js"], {
    cwd: own,
    env: environment,
  });
  return `${lines} lines, ${passes(output)} checks passed`;
}

/** Checks that passed, of a run of node:test in its own words. */
function passes(output) {
  const [, failed] = /^(?:#|ℹ) fail (\d+)$/m.exec(output) ?? [];
  const [, passed] = /^(?:#|ℹ) pass (\d+)$/m.exec(output) ?? [];
  expect(
    failed === "0" && Number(passed) >= LEAST_CHECKS,
    `no failure and at least ${LEAST_CHECKS} checks`,
    output,
  );
  return passed;
}

async function tryBroken(clean) {
  mkdirSync(join(home, "broken"));
  for (const { name, text } of broken) writeFileSync(join(home, "broken", `${name}.ts`), text);
  const specifiers = broken.map(({ name }) => `./broken/${name}.ts`);
  const found = await benchmark("broken", specifiers);
  expect(
    JSON.stringify(found.rows) === JSON.stringify(clean.rows),
    "rows equal to those of the run without broken plugins",
    JSON.stringify(found.rows).slice(0, 500),
  );
  for (const { name, message } of broken) {
    const said = found.failures.filter(({ method }) => method === name);
    expect(said.length === 1, `one failure of ${name}`, JSON.stringify(found.failures, null, 1));
    const text = said[0].message;
    expect(
      text.includes(`./broken/${name}.ts`) && text.includes(message),
      `./broken/${name}.ts and "${message}" in the message`,
      text,
    );
    const lines = found.output
      .split("\n")
      .filter((line) => line.includes(`./broken/${name}.ts`) && line.endsWith("It is left out."));
    expect(lines.length === 1, `one line about ${name}`, found.output);
    console.log(`     ${text}`);
  }
  expect(found.failures.length === broken.length, "no other failure", found.failures.length);
  return `${broken.length} broken plugins, ${clean.rows.length} rows unchanged`;
}

/** Runs the benchmark; what it left, without measured times. */
async function benchmark(name, more) {
  const words = [
    ...BENCH,
    ...more.flatMap((file) => ["--strategy", file]),
    "--out",
    `runs/${name}`,
  ];
  const output = await cee(words, {
    code: more.length > 0 ? 1 : 0,
    env: { CEE_PLUGIN_SECONDS: "30" },
  });
  const { rows, failures = [] } = JSON.parse(
    readFileSync(join(home, "runs", name, "results.json"), "utf8"),
  );
  const methods = new Set(rows.map(({ method }) => method));
  for (const method of ["full", "entropy", "patience", "proof-margin", "settled"])
    expect(methods.has(method), `rows of ${method}`, [...methods].join(", "));
  for (const method of ["proof-margin", "settled"])
    expect(output.includes(`| ${method} `), `${method} in the table`, output);
  for (const file of ["report.html", "table.md", "points.csv"]) {
    const text = readFileSync(join(home, "runs", name, file), "utf8");
    for (const method of ["proof-margin", "settled"])
      expect(text.includes(method), `${method} in ${file}`, text.slice(0, 300));
  }
  expect(
    readdirSync(join(home, "runs", name, "curves")).some((file) => file.endsWith(".svg")),
    "curves",
    name,
  );
  return {
    output,
    methods,
    failures,
    rows: rows.map(({ savedRuntime: _, savedRuntimeRange: __, ...row }) => row),
  };
}

async function tryWrongCommandLines() {
  const unbuilt = join(home, "node_modules/exit-strategy-unbuilt");
  mkdirSync(unbuilt);
  writeFileSync(
    join(unbuilt, "package.json"),
    '{ "name": "exit-strategy-unbuilt", "version": "1.0.0", "type": "module", "exports": "./index.ts" }\n',
  );
  writeFileSync(join(unbuilt, "index.ts"), "export default 1 as number;\n");
  const cases = [
    [["--strategy", "./nowhere.ts"], "no file at"],
    [["--strategy", `./${packageName}`], "is a folder. Name the file"],
    [["--strategy", "unbuilt"], "needs a build"],
    [["--strategy", "setled"], "No package"],
    [
      ["--strategy", "./settled.ts", "--strategy-options", '{"settled": {"certainty": "high"}}'],
      "Expected number",
    ],
  ];
  for (const [words, message] of cases) {
    const output = await cee(["bench", "glue", "--out", "wrong", ...words], { code: 2 });
    expect(output.includes(message), `"${message}"`, output);
    expect(output.trim().split("\n").length === 1, "one line", output);
    expect(!existsSync(join(home, "wrong")), "nothing written", "a folder");
    console.log(`     ${output.trim()}`);
  }
  return `${cases.length} command lines, exit code 2 each`;
}

function cee(words, { code = 0, env = {} } = {}) {
  return run([join("node_modules", ".bin", "cee"), ...words], {
    cwd: home,
    env: { ...environment, ...env },
    expected: code,
  });
}

function npm(words, folder) {
  return run(["npm", ...words, "--no-audit", "--no-fund"], { cwd: folder, env: environment });
}
