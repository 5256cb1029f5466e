/**
 * @file Rehearses a release in a copy of the repository: versions and changelogs, manifests, and `pnpm publish` without
 * publishing. Run `pnpm build` first.
 *
 *     node scripts/check-release.mjs [--keep]
 */
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  cleanEnvironment,
  copyWorkingTree,
  expect,
  manifestOf,
  pinnedPnpm,
  publicPackages,
  root,
  run,
  temporaryFolder,
} from "./workplace.mjs";

const { values: options } = parseArgs({ options: { keep: { type: "boolean" } } });
const REPOSITORY = "git+https://host.invalid/owner/name.git";

const packages = publicPackages();
const folders = packages.map(({ directory }) => directory);
const unbuilt = packages.filter(({ folder }) => !existsSync(join(folder, "dist")));
if (unbuilt.length > 0) {
  const names = unbuilt.map(({ directory }) => directory).join(", ");
  console.error(`[check-release] ${names}: not built. Run: pnpm build`);
  process.exit(2);
}
const copy = temporaryFolder("check-release", options);
const pnpm = pinnedPnpm();
const here = { cwd: copy, env: cleanEnvironment() };

console.log(`Working in ${copy}.`);
// Changelogs name commits, so the copy has a history; the working tree's changes lie over it.
await run(["git", "clone", "-q", root, "."], here);
copyWorkingTree(copy);
await run([...pnpm, "install", "--frozen-lockfile", "--prefer-offline"], here);
for (const name of folders)
  cpSync(join(root, "packages", name, "dist"), join(copy, "packages", name, "dist"), {
    recursive: true,
  });

const pending = changesets(copy);
const before = manifestOf(join(copy, "packages", folders[0])).version;
await run([...pnpm, "version-packages"], here);
await run(["node", "scripts/set-repository.mjs", REPOSITORY], here);
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

const published = await run(
  [...pnpm, "publish", "-r", "--dry-run", "--no-git-checks", "--access", "public"],
  here,
);
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
