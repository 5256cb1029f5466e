/** @file Which Markdown files of the repository are pages of the site, where they stand there, and how they are linked. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Files are named by their path from here, with slashes. */
export const root = fileURLToPath(new URL("../../", import.meta.url));

/** The file's page, `undefined` for one that has none. */
export function pageOf(file: string): string | undefined {
  const [, docs] = /^docs\/(.+\.md)$/.exec(file) ?? [];
  if (docs !== undefined) return docs;
  const [, folder, name, text] = /^(packages|examples)\/([^/]+)\/([A-Z]+)\.md$/.exec(file) ?? [];
  if (text === "README") return `${folder}/${name}.md`;
  if (text !== undefined && text !== "CHANGELOG")
    return `${folder}/${name}-${text.toLowerCase()}.md`;
  if (file === "examples/README.md") return "examples/index.md";
  return file === "CONTRIBUTING.md" ? "contributing.md" : undefined;
}

/** Markdown that is no page: notes on releases, and what is written for another place. */
export const withoutPage = [
  "!(CONTRIBUTING).md",
  ".*/**",
  "api/**",
  "packages/*/!(README|COMMANDS).md",
  "packages/*/*/**",
  "examples/*/*/**",
  "runs/**",
  "templates/**",
  "test/**",
  "scripts/**",
];

/**
 * Where a link leads on the site: links in the files are relative, so that they work wherever the repository is read.
 * @returns `undefined` for a file of the repository that has no page
 * @throws Error for a link to what is not there
 */
export function linkOf(from: string, href: string): string | undefined {
  if (/^([a-z][a-z+.-]*:|#|\/)/i.test(href)) return href;
  const [, place = "", rest = ""] = /^([^?#]*)(.*)$/.exec(href) ?? [];
  const target = path.posix.join(path.posix.dirname(from), decodeURIComponent(place));
  const found = path.join(root, target);
  if (!existsSync(found)) throw new Error(`[docs] ${from}: there is no ${target}. Mend the link.`);
  // The README is the first page of the repository, as the index is of the site.
  if (target === "README.md") return `/${rest}`;
  const file = statSync(found).isDirectory() ? path.posix.join(target, "README.md") : target;
  const page = pageOf(file);
  return page === undefined || !existsSync(path.join(root, file)) ? undefined : `/${page}${rest}`;
}

/** The Markdown files of a folder that have pages, the index first. */
export function pagesIn(folder: string): string[] {
  const names = existsSync(path.join(root, folder)) ? readdirSync(path.join(root, folder)) : [];
  return names
    .filter((name) => name.endsWith(".md"))
    .sort((a, b) => Number(b === "index.md") - Number(a === "index.md") || (a < b ? -1 : 1))
    .map((name) => `${folder}/${name}`);
}

/** READMEs of the folders in a folder. */
export function readmesIn(folder: string): string[] {
  const names = existsSync(path.join(root, folder)) ? readdirSync(path.join(root, folder)) : [];
  return names
    .sort()
    .map((name) => `${folder}/${name}/README.md`)
    .filter((file) => existsSync(path.join(root, file)));
}

/** The first heading of a file, without its markup. */
export function titleOf(file: string): string {
  const [, title] = /^# (.+)$/m.exec(readFileSync(path.join(root, file), "utf8")) ?? [];
  if (title === undefined) throw new Error(`[docs] ${file} has no title. Open it with "# …".`);
  return title.replaceAll(/[`*]/g, "");
}
