/**
 * @file Compiles a program that imports every public entry with each TypeScript version that the README promises, and
 * looks for errors in that program and in the packages' own declarations. Run `pnpm build` first; the compilers come from
 * the npm registry.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { manifestOf, publicPackages, root } from "./workplace.mjs";

/** The oldest and the newest minor release that the README promises, and what builds the packages. */
const VERSIONS = ["5.5.4", "5.9.3", "6.0.3"];

// Inside the package that a user starts from, so that it and what it depends on are found by name.
const home = join(root, "packages/consistentee");
const cache = join(home, ".cache");
mkdirSync(cache, { recursive: true });
const folder = mkdtempSync(join(cache, "types-"));
try {
  const consumer = join(folder, "consumer.ts");
  const example = readFileSync(join(root, "scripts/types-consumer.ts"), "utf8");
  writeFileSync(consumer, `${imports()}\n${example}`);
  const load = compilers(join(folder, "compilers"));
  for (const version of VERSIONS) {
    const problems = problemsOf(load(version), consumer);
    console.log(`${problems.length === 0 ? "ok    " : "FAILED"} TypeScript ${version}`);
    for (const problem of problems.slice(0, 10)) console.log(`       ${problem}`);
    if (problems.length > 0) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/**
 * Installs the compilers beside the workspace: among its dependencies, pnpm would take one of them for the one that builds.
 */
function compilers(into) {
  mkdirSync(into);
  const dependencies = Object.fromEntries(
    VERSIONS.map((version) => [`typescript-${version}`, `npm:typescript@${version}`]),
  );
  writeFileSync(join(into, "package.json"), JSON.stringify({ private: true, dependencies }));
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline"], {
    cwd: into,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  const require = createRequire(join(into, "package.json"));
  return (version) => require(`typescript-${version}`);
}

/** Every entry that a package exports. */
function imports() {
  const lines = [];
  const { name: own, dependencies } = manifestOf(home);
  for (const { folder: package_, ...manifest } of publicPackages()) {
    for (const [path, targets] of Object.entries(manifest.exports)) {
      if (typeof targets !== "object") continue;
      if (!existsSync(join(package_, targets.types))) {
        console.error(`[check-types] ${manifest.name} is not built. Run: pnpm build`);
        process.exit(2);
      }
      const entry = join(manifest.name, path);
      // The others are taken from where they lie.
      const isNear = manifest.name in dependencies || manifest.name === own;
      const from = isNear ? entry : join(package_, targets.types).replace(/\.d\.ts$/, ".js");
      lines.push(`export type * as ${entry.replace(/\W+/g, "_")} from ${JSON.stringify(from)};`);
    }
  }
  return lines.join("\n");
}

function problemsOf(ts, consumer) {
  const program = ts.createProgram([consumer], {
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts"],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: false,
    types: ["node"],
    typeRoots: [join(root, "node_modules/@types")],
  });
  const isOurs = ({ file }) =>
    file === undefined ||
    file.fileName === consumer ||
    /\/packages\/[\w-]+\/dist\//.test(file.fileName);
  return ts
    .getPreEmitDiagnostics(program)
    .filter(isOurs)
    .map(({ file, start, messageText }) => {
      const where = file
        ? `${file.fileName.slice(root.length + 1)}:${ts.getLineAndCharacterOfPosition(file, start).line + 1} `
        : "";
      return `${where}${ts.flattenDiagnosticMessageText(messageText, " ")}`;
    });
}
