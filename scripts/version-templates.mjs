/** @file Lets `templates/` ask for the packages' present version; part of `pnpm version-packages`. */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(
  readFileSync(join(root, "packages/exit-policies/package.json"), "utf8"),
);
const file = join(root, "templates/exit-strategy/package.json");
const text = readFileSync(file, "utf8");
writeFileSync(file, text.replace(/("@cee\/[\w-]+": )"[^"]*"/g, `$1"^${version}"`));
