/** @file The site: guides from `docs/`, the READMEs of packages and examples, and the API reference that TypeDoc makes. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { type DefaultTheme, defineConfig } from "vitepress";
import { linkOf, pageOf, pagesIn, readmesIn, root, titleOf, withoutPage } from "./pages.js";

const docs = (...names: string[]) => names.map((name) => `docs/${name}.md`);

/** The files of each part, in reading order. What stands nowhere here fails the build. */
const parts: Readonly<Record<string, readonly string[]>> = {
  Start: docs("index", "quick-start", "concepts", "words"),
  Guides: docs(
    "choose-a-strategy",
    "train-on-your-data",
    "serving",
    "export",
    "generation",
    "write-a-strategy",
  ),
  Troubleshooting: pagesIn("docs/troubleshooting"),
  Measured: docs(
    "reproduce-the-paper",
    "results",
    "results-generation",
    "performance",
    "reading-the-report",
    "presets",
    "engine",
  ),
  Methods: pagesIn("docs/methods"),
  Examples: ["examples/README.md", ...readmesIn("examples")],
  Packages: [...readmesIn("packages"), "packages/model-mini/COMMANDS.md"],
  Project: [...docs("architecture"), "CONTRIBUTING.md"],
};

const known = new Set(Object.values(parts).flat());
const lost = pagesIn("docs").filter((file) => !known.has(file));
if (lost.length > 0)
  throw new Error(`[docs] ${lost.join(", ")}: in no part of the site. Add them to config.ts.`);

const item = (file: string): DefaultTheme.SidebarItem => ({
  text: titleOf(file),
  link: `/${pageOf(file)}`,
});

/** Layers, the lower two of which ran. */
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#3b82f6" d="M1 11h14v3H1zM1 6.5h14v3H1z"/><path fill="#94a3b8" d="M1 2h14v3H1z"/></svg>`;

/**
 * A figure as part of the page, so that its colours follow the page's light and dark. Where the repository is read as it is,
 * the same file is an image, whose own style follows the reader's system. `undefined` for a drawing that knows nothing of the
 * page (a report's curves, whose classes would be the page's as well): it stays an image.
 */
function figure(file: string, description: string): string | undefined {
  const text = readFileSync(file, "utf8").trim();
  if (!text.includes("html.dark ")) return undefined;
  const [, style = ""] = /<style>([\s\S]*?)<\/style>/.exec(text) ?? [];
  const drawing = text
    .replace(/<style>[\s\S]*?<\/style>/, "")
    // A screen may be narrower.
    .replace(/ width="\d+" height="\d+">/, ' role="img" style="max-width: 100%; height: auto">')
    .replace(/(viewBox="0 0 (\d+) \d+")/, '$1 width="$2"')
    .replace("<svg", `<svg aria-label="${description}"`);
  // Templates take no style element, but a component that becomes one.
  return `<component :is="'style'">${style}</component>${drawing}`;
}

export default defineConfig({
  lang: "en",
  title: "ConsistentEE for TypeScript",
  description: "Early exit for language models: train, compare, serve and export them in Node.",
  head: [["link", { rel: "icon", href: `data:image/svg+xml,${encodeURIComponent(icon)}` }]],
  // A site below a folder of its host.
  base: process.env.CEE_DOCS_BASE ?? "/",
  srcDir: "..",
  srcExclude: withoutPage,
  rewrites: (file) => pageOf(file) ?? file,
  metaChunk: true,
  transformPageData(page) {
    // Tables of ten columns need the place of the outline.
    if (page.relativePath === "methods/features.md") page.frontmatter.aside = false;
  },
  vite: {
    plugins: [
      {
        // Pages outside this folder do not see its packages; what is rendered from them does.
        name: "vue-of-the-site",
        enforce: "pre",
        resolveId: (id, _importer, { ssr }) =>
          ssr && /^vue(\/|$)/.test(id) ? { id, external: true } : undefined,
      },
    ],
  },
  markdown: {
    config(md) {
      const { image } = md.renderer.rules;
      md.renderer.rules.image = (tokens, index, options, env, self) => {
        const token = tokens[index] as (typeof tokens)[number];
        const source = token.attrGet("src") ?? "";
        const drawing =
          source.endsWith(".svg") && !/^[a-z]+:/.test(source)
            ? figure(
                path.resolve(path.dirname(env.realPath ?? env.path), source),
                md.utils.escapeHtml(token.content),
              )
            : undefined;
        return drawing ?? image?.(tokens, index, options, env, self) ?? "";
      };
      md.core.ruler.push("links-on-the-site", ({ tokens, env }) => {
        const from = path.relative(root, env.realPath ?? env.path).replaceAll("\\", "/");
        for (const { children } of tokens) {
          let isDropped = false;
          for (const token of children ?? []) {
            if (token.type === "link_open") {
              const href = linkOf(from, token.attrGet("href") ?? "");
              isDropped = href === undefined;
              if (href !== undefined) token.attrSet("href", href);
            }
            // A file of the repository without a page: its name stays, as text.
            if (isDropped && /^link_(open|close)$/.test(token.type)) {
              token.tag = "span";
              token.attrs = null;
              isDropped = token.type === "link_open";
            }
          }
        }
      });
    },
  },
  themeConfig: {
    search: { provider: "local" },
    outline: { level: [2, 3] },
    nav: [
      { text: "Quick start", link: "/quick-start" },
      { text: "Guides", link: "/choose-a-strategy" },
      { text: "Methods", link: "/methods/" },
      { text: "Results", link: "/results" },
      { text: "API", link: "/api/" },
    ],
    sidebar: [
      ...Object.entries(parts).map(([text, files]) => ({
        text,
        collapsed: ["Troubleshooting", "Methods", "Examples", "Packages"].includes(text),
        items: files.map(item),
      })),
      { text: "API reference", link: "/api/" },
    ],
  },
});
