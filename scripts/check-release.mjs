/**
 * @file Rehearses a release in a copy of the repository: versions and changelogs, manifests, and `pnpm publish` without
 * publishing. Run `pnpm build` first.
 *
 *     node scripts/check-release.mjs [--keep]
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options } = parseArgs({ options: { keep: { type: "boolean" } } });
const copy = mkdtempSync(join(tmpdir(), "check-release-"));
process.on("exit", () => {
  if (!options.keep) rmSync(copy, { recursive: true, force: true, maxRetries: 3 });
});
const REPOSITORY = "git+https://host.invalid/owner/name.git";
const pnpm = ["npx", "-y", manifestOf(root).packageManager.split("+")[0]];

const folders = readdirSync(join(root, "packages")).filter(
  (name) => manifestOf(join(root, "packages", name)).private !== true,
);
const unbuilt = folders.filter((name) => !existsSync(join(root, "packages", name, "dist")));
if (unbuilt.length > 0) {
  console.error(`[check-release] ${unbuilt.join(", ")}: not built. Run: pnpm build`);
  process.exit(2);
}

console.log(`Working in ${copy}.`);
// Changelogs name commits, so the copy has a history; the working tree's changes lie over it.
run(["git", "clone", "-q", root, "."]);
const listed = execFileSync(
  "git",
  ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
  { cwd: root, encoding: "utf8", maxBuffer: 1 << 26 },
);
for (const path of listed.split("\0")) {
  if (!path) continue;
  if (existsSync(join(root, path))) cpSync(join(root, path), join(copy, path));
  else rmSync(join(copy, path), { force: true });
}
run([...pnpm, "install", "--frozen-lockfile", "--prefer-offline"]);
for (const name of folders)
  cpSync(join(root, "packages", name, "dist"), join(copy, "packages", name, "dist"), {
    recursive: true,
  });

const pending = changesets(copy);
const before = manifestOf(join(copy, "packages", folders[0])).version;
run([...pnpm, "version-packages"]);
run(["node", "scripts/set-repository.mjs", REPOSITORY]);
const version = manifestOf(join(copy, "packages", folders[0])).version;
expect(changesets(copy).length === 0, "no changeset left", changesets(copy).join(", "));
if (pending.length > 0) expect(version !== before, `a version after ${before}`, version);
for (const name of folders) {
  const folder = join(copy, "packages", name);
  const manifest = manifestOf(folder);
  expect(manifest.version === version, `version ${version} of ${name}`, manifest.version);
  expect(
    manifest.repository?.url === REPOSITORY && manifest.repository.directory === `packages/${name}`,
    `${name} to say where its sources are`,
    JSON.stringify(manifest.repository),
  );
  const log = existsSync(join(folder, "CHANGELOG.md"))
    ? readFileSync(join(folder, "CHANGELOG.md"), "utf8")
    : "";
  expect(log.includes(`## ${version}`), `a changelog of ${name} for ${version}`, log.slice(0, 200));
}
const template = readFileSync(join(copy, "templates/exit-strategy/package.json"), "utf8");
const asked = [...template.matchAll(/"@cee\/[\w-]+": "([^"]*)"/g)].map(([, range]) => range);
expect(
  asked.length > 0 && asked.every((range) => range === `^${version}`),
  `the template to ask for ^${version}`,
  asked.join(", "),
);

const published = run([
  ...pnpm,
  ...["publish", "-r", "--dry-run", "--no-git-checks", "--access", "public"],
]);
for (const name of folders)
  expect(
    published.includes(`+ @cee/${name}@${version}`),
    `@cee/${name}@${version} to be published`,
    published.slice(-2000),
  );
console.log(
  `${folders.length} packages would be published at ${version}, from ${pending.length} changesets`,
);

function changesets(folder) {
  return readdirSync(join(folder, ".changeset")).filter(
    (name) => name.endsWith(".md") && name !== "README.md",
  );
}

function manifestOf(folder) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

function run([command, ...words]) {
  console.log(`$ ${command} ${words.join(" ")}`);
  try {
    return execFileSync(command, words, {
      cwd: copy,
      encoding: "utf8",
      maxBuffer: 1 << 26,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
  } catch (error) {
    console.error(`${error.stdout}${error.stderr}`.split("\n").slice(-40).join("\n"));
    console.error(`[check-release] ${command} ${words.join(" ")} failed.`);
    process.exit(1);
  }
}

function expect(isTrue, what, got) {
  if (isTrue) return;
  console.error(`[check-release] expected ${what}, got:\n${got}`);
  process.exit(1);
}
