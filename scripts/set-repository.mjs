/**
 * @file Writes where the sources are into every public package's manifest, as provenance asks for. Part of a release: the
 * repository itself need not know where it is kept.
 *
 *     node scripts/set-repository.mjs git+https://host/owner/name.git
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [url] = process.argv.slice(2);
if (!/^git\+https:\/\/[^/]+\/.+\.git$/.test(url ?? "")) {
  console.error(
    `[set-repository] expected git+https://host/owner/name.git, got ${url ?? "nothing"}.`,
  );
  process.exit(2);
}
for (const name of readdirSync(join(root, "packages"))) {
  const file = join(root, "packages", name, "package.json");
  const manifest = JSON.parse(readFileSync(file, "utf8"));
  if (manifest.private) continue;
  const { name: own, version, description, license, ...rest } = manifest;
  const repository = { type: "git", url, directory: `packages/${name}` };
  const ordered = { name: own, version, description, license, ...rest, repository };
  writeFileSync(file, `${JSON.stringify(ordered, null, 2)}\n`);
}
