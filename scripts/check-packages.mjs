/**
 * @file Checks what would be published: packs every package, then publint, arethetypeswrong, the tarball's contents
 * and size, knip (undeclared and unused) and sherif (the workspace's manifests).
 *
 * `pnpm check:pkg` builds what has no `dist` yet. Run `pnpm build` first after a change of the sources.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { allPackages, publicPackages, root, temporaryFolder } from "./workplace.mjs";

const bin = (name) => join(root, "node_modules", ".bin", name);
const required = ["package/package.json", "package/README.md", "package/LICENSE"];
const unwanted =
  /^package\/(src|test|node_modules)\/|\/node_modules\/|\.test\.|tsconfig|tsup\.config|\.DS_Store/;
/** The package that `cee new` writes has sources and a test of its own. */
const template = /^package\/dist\/exit-strategy\/(?!.*(node_modules|\/dist\/))/;

/** What a package may weigh packed, in KiB: about half as much again as it does. */
const limits = {
  "@cee/backbone": 400,
  "@cee/baselines": 140,
  "@cee/bench": 660,
  "@cee/consistentee": 180,
  "@cee/engine": 180,
  "@cee/exit-policies": 260,
  // Weights of its own.
  "@cee/model-mini": 10 * 1024,
};

const packages = publicPackages();
const unpublished = allPackages()
  .map(({ name }) => name)
  .filter((name) => packages.every((one) => one.name !== name));

const results = [];

/** Runs one check and prints its output only when it fails. */
function check(subject, name, run) {
  const problem = run();
  results.push({ subject, name, ok: problem === undefined });
  console.log(`${problem === undefined ? "ok    " : "FAILED"} ${subject}: ${name}`);
  if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, "       "));
}

/** `undefined` when the command exits 0, else what it said. */
function run(command, args, cwd = root) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (error?.code === "ENOENT") {
    return `${command} was not found. Run this as \`npx -y pnpm@<version> check:pkg\`.`;
  }
  return status === 0 ? undefined : `${stdout}${stderr}` || `exit status ${status}`;
}

/** Starts a program from what was built, as somebody without this repository's sources does. */
function help(program) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, "--help"], {
    encoding: "utf8",
  });
  return status === 0 && stdout.startsWith("Usage: ")
    ? undefined
    : `exit status ${status}\n${stdout}${stderr}`;
}

/** The files that an `exports` map promises to others; the sources, which this repository resolves by, are not. */
function targets(entries) {
  return Object.values(entries).flatMap((entry) =>
    typeof entry === "string"
      ? [entry]
      : Object.entries(entry)
          .filter(([condition]) => condition !== "@cee/source")
          .map(([, target]) => target),
  );
}

/** Problems with the files inside a tarball, `undefined` when there are none. */
function contents(tarball, manifest) {
  const files = execFileSync("tar", ["-tzf", tarball], { encoding: "utf8" }).trim().split("\n");
  const packed = JSON.parse(
    execFileSync("tar", ["-xzOf", tarball, "package/package.json"], { encoding: "utf8" }),
  );
  const expected = [...targets(packed.exports), ...Object.values(packed.bin ?? {})];
  const programs = Object.values(packed.bin ?? {}).flatMap((program) => {
    const text = execFileSync("tar", ["-xzOf", tarball, join("package", program)], {
      encoding: "utf8",
    });
    return [...text.matchAll(/["'](\.\.?\/[^"']+)["']/g)].map(([, file]) =>
      join(dirname(program), file),
    );
  });
  const ranges = Object.entries({ ...packed.dependencies, ...packed.peerDependencies });
  const problems = [
    ...required.filter((file) => !files.includes(file)).map((file) => `lacks ${file}`),
    ...expected
      .filter((file) => !files.includes(join("package", file)))
      .map((file) => `lacks ${file}, which package.json promises`),
    ...programs
      .filter((file) => !files.includes(join("package", file)))
      .map((file) => `lacks ${file}, which its program imports`),
    ...files
      .filter((file) => unwanted.test(file) && !template.test(file))
      .map((file) => `should not hold ${file}`),
    ...ranges
      .filter(([, range]) => /^(workspace|catalog|link|file):/.test(range))
      .map(([name, range]) => `depends on ${name}@${range}, which only this workspace can resolve`),
    ...ranges
      .filter(([name]) => unpublished.includes(name))
      .map(([name]) => `depends on ${name}, which is private`),
    ...["description", "license", "engines", "keywords"]
      .filter((field) => packed[field] === undefined)
      .map((field) => `package.json lacks ${field}`),
  ];
  const size = readFileSync(tarball).length / 1024;
  const limit = limits[manifest.name];
  console.log(
    `       ${manifest.name}: ${files.length} files, ${size.toFixed(0)} of at most ${limit} KiB packed`,
  );
  if (limit === undefined) problems.push("has no limit of its size: state one here");
  else if (size > limit)
    problems.push(
      `weighs ${size.toFixed(0)} KiB packed, more than its limit of ${limit}: take something out, or raise the limit with a reason`,
    );
  return problems.length === 0 ? undefined : problems.join("\n");
}

const unbuilt = packages.filter(({ folder, exports: entries }) =>
  targets(entries).some((file) => !existsSync(join(folder, file))),
);
if (unbuilt.length > 0) {
  check("workspace", `build of ${unbuilt.map(({ name }) => name).join(", ")}`, () =>
    run("pnpm", ["-r", ...unbuilt.flatMap(({ name }) => ["--filter", name]), "build"]),
  );
}

const folder = temporaryFolder("check-packages");
for (const manifest of packages) {
  const tarball = join(
    folder,
    `${manifest.name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`,
  );
  check(manifest.name, "pack", () =>
    run("pnpm", ["pack", "--pack-destination", folder], manifest.folder),
  );
  if (!existsSync(tarball)) continue;
  check(manifest.name, "contents", () => contents(tarball, manifest));
  for (const [name, file] of Object.entries(manifest.bin ?? {})) {
    check(manifest.name, `${name} --help`, () => help(join(manifest.folder, file)));
  }
  check(manifest.name, "publint", () => run(bin("publint"), ["run", tarball, "--strict"]));
  check(manifest.name, "arethetypeswrong", () =>
    run(bin("attw"), [tarball, "--profile", "esm-only", "--no-color"]),
  );
}
check("workspace", "knip", () => run(bin("knip"), ["--no-progress", "--no-config-hints"]));
check("workspace", "sherif", () => run(bin("sherif"), []));

const failed = results.filter(({ ok }) => !ok);
console.log(`\n${results.length - failed.length} of ${results.length} package checks hold`);
for (const { subject, name } of failed) console.log(`failed: ${subject}: ${name}`);
if (failed.length > 0) process.exitCode = 1;
