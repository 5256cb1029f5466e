/** @file The API reference as Markdown, one page for each public entry of each package, for the site. */
import { readdirSync, readFileSync } from "node:fs";
import { Converter } from "typedoc";

const packages = new URL("../packages/", import.meta.url);

/** Source of each public entry by the name that it is imported by. */
const entries = readdirSync(packages)
  .sort()
  .flatMap((folder) => {
    const { name, exports } = JSON.parse(
      readFileSync(new URL(`${folder}/package.json`, packages), "utf8"),
    );
    return Object.entries(exports)
      .filter(([, target]) => target["@cee/source"] !== undefined)
      .map(([entry, target]) => ({
        name: name + entry.slice(1),
        source: `../packages/${folder}/${target["@cee/source"].slice(2)}`,
      }));
  });

/** TypeDoc calls modules by their place; readers know them by what they import. */
function nameModules(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.children ?? []) {
      const place = module.name.replace(/\/index$/, "");
      const entry = entries.find(
        ({ source }) =>
          source === `../packages/${module.name}.ts` || source === `../packages/${place}/index.ts`,
      );
      if (entry === undefined) throw new Error(`[docs] no package has the entry ${module.name}.`);
      module.name = entry.name;
    }
  });
}

/** The options of a schema are the same for what goes in and what comes out, and so is their comment. */
function expectSharedComments({ logger }) {
  const warn = logger.warn.bind(logger);
  logger.warn = (message, ...rest) => {
    if (!message.includes("has multiple declarations with a comment")) warn(message, ...rest);
  };
}

export default {
  name: "API reference",
  entryPoints: entries.map(({ source }) => source),
  tsconfig: "../tsconfig.docs.json",
  plugin: ["typedoc-plugin-markdown", nameModules, expectSharedComments],
  out: "api",
  readme: "none",
  entryFileName: "index",
  outputFileStrategy: "modules",
  hideBreadcrumbs: true,
  hidePageHeader: true,
  // Its own idea of anchors differs from that of headings where two names are the same but for a dot.
  useHTMLAnchors: true,
  parametersFormat: "table",
  interfacePropertiesFormat: "table",
  typeDeclarationFormat: "table",
  // `pnpm typecheck` has done that.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  disableSources: true,
  includeVersion: false,
  // Comments on a file are for who reads the sources.
  blockTags: [
    "@default",
    "@defaultValue",
    "@deprecated",
    "@example",
    "@file",
    "@module",
    "@param",
    "@remarks",
    "@returns",
    "@see",
    "@template",
    "@throws",
    "@typeParam",
  ],
  excludeTags: ["@file"],
  validation: { notExported: false, invalidLink: true },
  treatWarningsAsErrors: true,
  logLevel: "Warn",
};
