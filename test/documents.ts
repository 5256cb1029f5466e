/** @file The Markdown that readers are shown, and the code in it. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Below these every Markdown file counts; of packages only what is written for readers. */
const folders = ["docs", "examples", "templates"];
/** What tools made. */
const made = /(^|\/)(node_modules|dist|runs|api|cache|model|site)\//;

/** By their path from the root. */
export const documents: readonly string[] = [
  "README.md",
  "CONTRIBUTING.md",
  ...folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
      .filter((name) => name.endsWith(".md") && !made.test(name)),
  ),
  ...readdirSync(join(root, "packages")).flatMap((name) =>
    readdirSync(join(root, "packages", name))
      .filter((file) => /^[A-Z]+\.md$/.test(file) && file !== "CHANGELOG.md")
      .map((file) => `packages/${name}/${file}`),
  ),
].sort();

export function textOf(document: string): string {
  return readFileSync(join(root, document), "utf8");
}

export interface Block {
  /** Empty for a drawing. */
  readonly language: string;
  readonly code: string;
}

/** The fenced blocks of a Markdown text, those inside lists too. */
export function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^( *)```(\S*).*\n([\s\S]*?)^ *```$/gm)].map(
    ([, , language = "", code = ""]) => ({ language, code }),
  );
}
