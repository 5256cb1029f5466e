/**
 * @file The public interface of every package as text, one file per entry in `api/`: a change of it shows in review.
 *
 *     node scripts/api-report.mjs            fails where a report is out of date
 *     node scripts/api-report.mjs --write    writes them
 *
 * Read from the built declarations: run `pnpm build` first. A report lists what an entry exports, and below that the
 * declarations that these refer to without exporting them.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ts from "typescript";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "api");
const { values: options } = parseArgs({ options: { write: { type: "boolean" } } });

const entries = publicEntries();
const stale = entries.filter(({ types, source }) => !isBuilt(types, source));
if (stale.length > 0) {
  console.error(
    `[api-report] ${stale.map(({ name }) => name).join(", ")}: the declarations are missing or older than the sources. Run: pnpm build`,
  );
  process.exit(2);
}

const program = ts.createProgram(
  entries.map(({ types }) => types),
  {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    skipLibCheck: true,
    noEmit: true,
  },
);
const checker = program.getTypeChecker();
const printer = ts.createPrinter({ removeComments: true });

let changed = 0;
if (options.write) mkdirSync(folder, { recursive: true });
const names = new Set();
for (const entry of entries) {
  const file = join(folder, `${entry.name.replace("@cee/", "").replaceAll("/", "-")}.api.md`);
  names.add(file);
  const text = reportOf(entry);
  const before = existsSync(file) ? readFileSync(file, "utf8") : "";
  if (before === text) continue;
  changed += 1;
  const shown = relative(root, file);
  if (options.write) {
    writeFileSync(file, text);
    console.log(`wrote ${shown}`);
  } else {
    console.error(`${shown} is out of date:`);
    for (const line of differences(before, text).slice(0, 20)) console.error(`  ${line}`);
  }
}
for (const name of existsSync(folder) ? readdirSync(folder) : []) {
  const file = join(folder, name);
  if (names.has(file)) continue;
  changed += 1;
  if (options.write) rmSync(file);
  console.log(`${relative(root, file)} is of no public entry${options.write ? ": removed" : ""}`);
}
if (changed > 0 && !options.write) {
  console.error(
    "Where the change is meant, run: pnpm build && pnpm api --write. It belongs into the changeset, too.",
  );
  process.exit(1);
}
if (changed === 0) console.log(`${entries.length} API reports are up to date`);

/** Every entry that others may import, with its declarations. */
function publicEntries() {
  const found = [];
  for (const name of readdirSync(join(root, "packages"))) {
    const home = join(root, "packages", name);
    if (!existsSync(join(home, "package.json"))) continue;
    const manifest = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
    if (manifest.private) continue;
    for (const [path, targets] of Object.entries(manifest.exports))
      if (typeof targets === "object")
        found.push({
          name: join(manifest.name, path),
          types: join(home, targets.types),
          source: join(home, "src"),
        });
  }
  return found;
}

function isBuilt(types, source) {
  if (!existsSync(types)) return false;
  const built = statSync(types).mtimeMs;
  return readdirSync(source, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .every((file) => statSync(join(file.parentPath, file.name)).mtimeMs <= built);
}

function reportOf({ name, types }) {
  const file = program.getSourceFile(types);
  const module = checker.getSymbolAtLocation(file);
  const exported = new Map(
    checker.getExportsOfModule(module).map((symbol) => [symbol.name, target(symbol)]),
  );
  const shown = new Set(exported.values());
  const hidden = new Map();
  const home = types.slice(0, types.lastIndexOf(`${sep}dist${sep}`));
  const visit = (node) => {
    if (ts.isIdentifier(node)) {
      const symbol = checker.getSymbolAtLocation(node);
      const found = symbol && target(symbol);
      if (found && !shown.has(found) && isOwn(found, home)) {
        shown.add(found);
        hidden.set(found.name, found);
        for (const declaration of declarationsOf(found)) visit(declaration);
      }
    }
    ts.forEachChild(node, visit);
  };
  for (const symbol of exported.values())
    for (const declaration of declarationsOf(symbol)) visit(declaration);
  const blocks = (symbols) =>
    [...symbols]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([exportedName, symbol]) => textOf(exportedName, symbol))
      .join("\n\n");
  return [
    `# ${name}`,
    "Made by `pnpm api --write` from the built declarations.",
    "```ts",
    blocks(exported),
    "```",
    ...(hidden.size > 0 ? ["Referred to, not exported:", "```ts", blocks(hidden), "```"] : []),
    "",
  ].join("\n\n");
}

/** Follows re-exports. */
function target(symbol) {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

/** Declared at the top of a file of this package, not inside something else. */
function isOwn({ declarations = [] }, home) {
  return (
    declarations.length > 0 &&
    declarations.every(
      (declaration) =>
        declaration.getSourceFile().fileName.startsWith(`${home}/`) && isStatement(declaration),
    )
  );
}

function isStatement(declaration) {
  return (
    ts.isInterfaceDeclaration(declaration) ||
    ts.isTypeAliasDeclaration(declaration) ||
    ts.isClassDeclaration(declaration) ||
    ts.isFunctionDeclaration(declaration) ||
    ts.isEnumDeclaration(declaration) ||
    ts.isModuleDeclaration(declaration) ||
    (ts.isVariableDeclaration(declaration) && ts.isVariableStatement(declaration.parent.parent))
  );
}

function declarationsOf(symbol) {
  return (symbol.declarations ?? []).filter(
    (declaration) => !declaration.getSourceFile().fileName.includes("node_modules"),
  );
}

/** The statement that holds a declaration. */
function statementOf(declaration) {
  return ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
}

function textOf(name, symbol) {
  const declarations = symbol.declarations ?? [];
  const texts = declarations.map((declaration) =>
    printer
      .printNode(ts.EmitHint.Unspecified, statementOf(declaration), declaration.getSourceFile())
      .replace(/^(export )?(declare )?/, ""),
  );
  const text = [...new Set(texts)].join("\n");
  return symbol.name === name ? text : `// as ${name}\n${text}`;
}

/** Lines that only one of two texts has. */
function differences(before, after) {
  const [old, now] = [before, after].map((text) => text.split("\n"));
  const [had, has] = [new Set(old), new Set(now)];
  return [
    ...old.filter((line) => !has.has(line)).map((line) => `- ${line}`),
    ...now.filter((line) => !had.has(line)).map((line) => `+ ${line}`),
  ];
}
