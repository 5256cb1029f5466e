/**
 * @file Walks every import and holds the packages to the dependency direction of docs/architecture.md.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

interface Reach {
  readonly run: readonly string[];
  readonly types: readonly string[];
}

/** What the sources of each package may import of the others. */
const allowed: Record<string, Reach> = {
  engine: { run: [], types: [] },
  "exit-policies": { run: [], types: [] },
  backbone: { run: ["engine"], types: ["engine", "exit-policies"] },
  consistentee: {
    run: ["engine", "backbone", "exit-policies"],
    types: ["engine", "backbone", "exit-policies"],
  },
  baselines: {
    run: ["engine", "backbone", "exit-policies"],
    types: ["engine", "backbone", "exit-policies"],
  },
  bench: {
    run: ["engine", "backbone", "exit-policies", "consistentee", "baselines", "model-mini"],
    types: ["engine", "backbone", "exit-policies", "consistentee", "baselines", "model-mini"],
  },
  // Weights and a vocabulary; whoever wants them names them.
  "model-mini": { run: [], types: [] },
};

/** The one file that may name TensorFlow.js backends, so that a library user chooses and not a package. */
const backendsFile = "packages/engine/src/backends.ts";
const backend = /^@tensorflow\/tfjs-(backend-|node)/;

interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

interface Source {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  readonly package: string;
  /** `src`, `test`, … */
  readonly part: string;
  readonly imports: readonly Import[];
}

interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

const packages = readdirSync(join(root, "packages"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
const manifests = new Map(
  packages.map((name) => {
    const text = readFileSync(join(root, "packages", name, "package.json"), "utf8");
    return [name, JSON.parse(text) as Manifest];
  }),
);
const sources = packages.flatMap(sourcesOf);

describe("the import graph", () => {
  it("knows every package", () => {
    expect(packages.toSorted()).toEqual(Object.keys(allowed).toSorted());
    for (const name of packages) expect(manifests.get(name)?.name).toBe(`@cee/${name}`);
  });

  it("sees imports of every form", () => {
    const text = `
      import a from "one"; import type { B } from "two"; export { c } from "three"; export type { D } from "four";
      const e = await import("five"); type F = import("six").F; import g = require("seven");
      const h = require("eight"); import { type I } from "nine"; import "ten"; // import "none"`;
    expect(importsOf("example.ts", text)).toEqual([
      { specifier: "one", typeOnly: false },
      { specifier: "two", typeOnly: true },
      { specifier: "three", typeOnly: false },
      { specifier: "four", typeOnly: true },
      { specifier: "five", typeOnly: false },
      { specifier: "six", typeOnly: true },
      { specifier: "seven", typeOnly: false },
      { specifier: "eight", typeOnly: false },
      { specifier: "nine", typeOnly: false },
      { specifier: "ten", typeOnly: false },
    ]);
    expect(sources.filter(({ part }) => part === "src").length).toBeGreaterThan(packages.length);
  });

  it("points one way", () => {
    const wrong = ofPart("src").flatMap((source) =>
      source.imports
        .filter(({ specifier, typeOnly }) => {
          const target = ownPackage(specifier);
          const { run, types } = allowed[source.package] as Reach;
          if (target === undefined || target === source.package) return false;
          return !(typeOnly ? types : run).includes(target);
        })
        .map(({ specifier }) => `${source.path} imports ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it("enters other packages by their exports only", () => {
    const wrong = sources.flatMap((source) =>
      source.imports
        .filter(({ specifier }) => !entersProperly(source, specifier))
        .map(({ specifier }) => `${source.path} reaches into ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it("is declared in the manifests", () => {
    const wrong = sources.flatMap((source) =>
      source.imports
        .filter(({ specifier }) => !isDeclared(source, specifier))
        .map(
          ({ specifier }) => `${source.path} imports ${specifier}, which its package.json lacks`,
        ),
    );
    expect(wrong).toEqual([]);
  });

  it("names TensorFlow.js backends in one file", () => {
    const wrong = ofPart("src")
      .filter(({ path }) => path !== backendsFile)
      .flatMap(({ path, imports }) =>
        imports
          .filter(({ specifier }) => backend.test(specifier))
          .map(({ specifier }) => `${path} imports ${specifier}`),
      );
    expect(wrong).toEqual([]);
  });
});

function ofPart(part: string): readonly Source[] {
  return sources.filter((source) => source.part === part);
}

/** `engine` for `@cee/engine` and `@cee/engine/x`. */
function ownPackage(specifier: string): string | undefined {
  return /^@cee\/([^/]+)/.exec(specifier)?.[1];
}

function entersProperly(source: Source, specifier: string): boolean {
  if (specifier.startsWith(".")) {
    const target = relative(root, resolve(root, dirname(source.path), specifier)).split(sep);
    if (target[0] === "packages") return target[1] === source.package;
    return source.part !== "src" && target[0] === "test";
  }
  const target = ownPackage(specifier);
  if (target === undefined) return true;
  const entry = `.${specifier.slice(`@cee/${target}`.length)}`;
  return Object.hasOwn(manifests.get(target)?.exports ?? {}, entry);
}

function isDeclared(source: Source, specifier: string): boolean {
  const target = ownPackage(specifier);
  if (target === undefined || target === source.package) return true;
  const { dependencies, optionalDependencies, peerDependencies, devDependencies } = manifests.get(
    source.package,
  ) as Manifest;
  const shipped = { ...dependencies, ...optionalDependencies, ...peerDependencies };
  const usable = source.part === "src" ? shipped : { ...shipped, ...devDependencies };
  return Object.hasOwn(usable, `@cee/${target}`);
}

function sourcesOf(name: string): Source[] {
  const folder = join(root, "packages", name);
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((file) => file.split(sep).join("/"))
    .filter((file) => /\.m?[tj]s$/.test(file) && !/(^|\/)(node_modules|dist|runs)\//.test(file))
    .map((file) => {
      const path = `packages/${name}/${file}`;
      const imports = importsOf(path, readFileSync(join(root, path), "utf8"));
      return { path, package: name, part: file.split("/")[0] as string, imports };
    });
}

function importsOf(path: string, text: string): Import[] {
  const imports: Import[] = [];
  const add = (node: ts.Node | undefined, typeOnly: boolean) => {
    if (node !== undefined && ts.isStringLiteralLike(node)) {
      imports.push({ specifier: node.text, typeOnly });
    }
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      // `import { type X }` counts as a run-time import: with verbatimModuleSyntax the statement stays.
      add(node.moduleSpecifier, node.importClause?.isTypeOnly === true);
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportEqualsDeclaration(node)) {
      if (ts.isExternalModuleReference(node.moduleReference)) {
        add(node.moduleReference.expression, node.isTypeOnly);
      }
    } else if (ts.isImportTypeNode(node)) {
      if (ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    } else if (ts.isCallExpression(node)) {
      const { expression } = node;
      const loads =
        expression.kind === ts.SyntaxKind.ImportKeyword ||
        /^(require|require\.resolve|import\.meta\.resolve)$/.test(expression.getText(file));
      if (loads) add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, false);
  ts.forEachChild(file, visit);
  return imports;
}
