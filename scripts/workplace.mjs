/**
 * @file What the checks beside this file share: the packages, a temporary folder, commands in it, and steps that end in a
 * summary.
 */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Of one command. */
const TIME_LIMIT = 15 * 60_000;

export function manifestOf(folder) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

/** Manifests of all packages, each with its `folder` and the `directory` it is called. */
export function allPackages() {
  return readdirSync(join(root, "packages"))
    .map((directory) => ({ directory, folder: join(root, "packages", directory) }))
    .filter(({ folder }) => existsSync(join(folder, "package.json")))
    .map((place) => ({ ...manifestOf(place.folder), ...place }));
}

/** Those that are published. */
export function publicPackages() {
  return allPackages().filter(({ private: isPrivate }) => isPrivate !== true);
}

/** The package manager that the workspace pins, as a command. */
export function pinnedPnpm() {
  return ["npx", "-y", manifestOf(root).packageManager.split("+")[0]];
}

/** A temporary folder that goes with this process, unless it is to be kept. */
export function temporaryFolder(name, { keep = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), `${name}-`));
  process.on("exit", () => {
    if (!keep) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
  return folder;
}

/** What a fresh clone has, with the changes of the working tree; what these deleted goes from the target, too. */
export function copyWorkingTree(target) {
  const listed = execFileSync(
    "git",
    ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    { cwd: root, encoding: "utf8", maxBuffer: 1 << 26 },
  );
  for (const path of listed.split("\0")) {
    if (!path) continue;
    if (existsSync(join(root, path))) cpSync(join(root, path), join(target, path));
    else rmSync(join(target, path), { force: true });
  }
}

/** The caller's environment without what package managers set for the scripts that they run. */
export function cleanEnvironment(more = {}) {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|pnpm_)(?!config_registry)|^node_options$/i.test(name),
  );
  return { ...Object.fromEntries(kept), CI: "true", NO_COLOR: "1", ...more };
}

/**
 * Runs a command and returns what it printed, on both streams.
 * @param expected the exit code that it must end with
 */
export function run([command, ...words], { cwd, env = cleanEnvironment(), expected = 0 }) {
  console.log(`   $ ${command} ${words.join(" ")}`);
  return new Promise((done, fail) => {
    const child = spawn(command, words, {
      cwd,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
      timeout: TIME_LIMIT,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk) => {
        output += chunk;
      });
    child.on("error", fail);
    child.on("close", (code, signal) => {
      if (code === expected) return done(output);
      const end = output.split("\n").slice(-40).join("\n");
      const what = [command, ...words.slice(0, 3)].join(" ");
      fail(
        new Error(
          `${what} ended with ${signal ?? `code ${code}`}, expected code ${expected}:\n${end}`,
        ),
      );
    });
  });
}

/** @throws Error that says what was expected, and what was there instead */
export function expect(isTrue, what, got) {
  if (!isTrue) throw new Error(`expected ${what}, got:\n${got}`);
}

/** Steps that are timed, and may fail without ending the program. */
export function createSteps() {
  const results = [];
  return {
    /** Whether the action came to an end; what it returns is said of it. */
    async step(name, action) {
      console.log(`\n== ${name}`);
      const start = performance.now();
      const done = (passed, outcome) => {
        const seconds = (performance.now() - start) / 1000;
        results.push({ name, passed, outcome: outcome.split("\n")[0], seconds });
        console.log(passed ? `   ${outcome}` : outcome);
        return passed;
      };
      try {
        return done(true, await action());
      } catch (error) {
        return done(false, error.message);
      }
    },
    /** Prints all of them, and sets the exit code: 1 if one failed, or fewer ran than were planned. */
    summarise(planned = results.length) {
      console.log("\n== Summary");
      for (const { name, passed, outcome, seconds } of results)
        console.log(
          `${passed ? "ok    " : "FAILED"} ${name} (${seconds.toFixed(0)} s): ${outcome}`,
        );
      if (results.length < planned || results.some(({ passed }) => !passed)) process.exitCode = 1;
    },
  };
}
