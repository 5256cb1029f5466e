/**
 * @file Shows that the packages install, and that a compiled function then runs, where every download but the npm
 * registry's is blocked.
 *
 *     node scripts/check-install.mjs [--quick] [--only engine] [--keep]
 *
 * Configurations: pnpm in a fresh copy of the workspace; plain `npm install` of the packed tarballs in an empty folder,
 * with and without ONNXRUNTIME_NODE_INSTALL=skip, where the program that a package brings must run too: its help, its
 * benchmarks, and the way from a table to a model, its score, its answers and its file. `--quick` runs the last one only, with
 * the engine alone; `--only` packs one package and what it needs; `--keep` leaves the temporary folder. Everything starts from
 * empty caches.
 *
 * Blocking: all traffic goes through a proxy on this machine that connects to the configured registry's host and to
 * nothing else, and a preloaded script refuses, inside every Node process, connections that go round the proxy.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  allPackages,
  cleanEnvironment,
  copyWorkingTree,
  createSteps,
  expect,
  pinnedPnpm,
  publicPackages,
  root,
  run,
  temporaryFolder,
} from "./workplace.mjs";

const { values: options } = parseArgs({
  options: { quick: { type: "boolean" }, only: { type: "string" }, keep: { type: "boolean" } },
});
const directories = allPackages().map(({ directory }) => directory);
if (options.only && !directories.includes(options.only)) {
  const known = directories.join(", ");
  console.error(`[check-install] there is no package "${options.only}". Known: ${known}.`);
  process.exit(2);
}

const SMOKE = `
import { createEngine } from "ENGINE";
import * as tf from "@tensorflow/tfjs";
const engine = await createEngine();
const f = engine.compile(({ x }) => ({ y: tf.matMul(x, tf.transpose(x)) }), {
  name: "smoke",
  inputs: { x: { dtype: "float32", shape: ["batch", 2] } },
});
const { y } = await f.run({ x: { dtype: "float32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) } });
const numbers = Array.from(y.data).join();
if (numbers !== "5,11,11,25") throw new Error("the compiled function gave " + numbers);
console.log("runtime: " + engine.runtime + " (" + engine.description + ")");
await engine.dispose();
`;

const TINY_ENGINE = (
  "--widths 16 --depth 2 --heads 2 --vocabulary 64 --batch 2 --length 8 " +
  "--threads 1 --rounds 1 --wasm-rounds 1 --no-torch"
).split(" ");
const TINY_GLUE = (
  "--tasks sentiment --methods full,patience --backbone fresh:2x16 " +
  "--limit 24 --dev-limit 12 --epochs 1 --max-length 16 --threads 1"
).split(" ");
const TABLE = ["--data", "reviews.csv", "--text", "review", "--label", "verdict"];
const TINY_MODEL = "--strategy entropy --backbone fresh:2x16 --epochs 1 --max-length 16".split(" ");

const refusedByProxy = new Set();
const workspace = temporaryFolder("check-install", options);
const refusedInProcess = join(workspace, "refused.txt");

const registry = new URL(
  execFileSync("npm", ["config", "get", "registry"], {
    cwd: tmpdir(),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    shell: process.platform === "win32",
  }).trim(),
);
const { step, summarise } = createSteps();
await main();

async function main() {
  const proxy = await startProxy();
  const address = `http://127.0.0.1:${proxy.address().port}`;
  const environment = blockedEnvironment(address);
  console.log(`Only ${registry.host} can be reached. Working in ${workspace}.`);

  await step("the blocking itself", async () => {
    const attempt = `
      const https = require("node:https");
      https.get("https://blocked.invalid").on("error", (error) => console.log(error.message));
    `;
    const answer = await run(["node", "-e", attempt], { cwd: workspace, env: environment });
    if (!answer.includes("blocked: blocked.invalid")) throw new Error(`not refused: ${answer}`);
    rmSync(refusedInProcess);
    return "a direct connection is refused";
  });
  const copy = join(workspace, "workspace");
  const tarballs = join(workspace, "tarballs");
  copyWorkingTree(copy);
  const pnpm = pinnedPnpm();
  const inCopy = { cwd: copy, env: environment };
  const store = `--store-dir=${join(workspace, "pnpm-store")}`;
  const names = packagesToPack();

  // The copy is needed for packing even when pnpm itself is not what is being checked.
  const prepared = await step("pnpm install in a fresh copy of the workspace", async () => {
    await run([...pnpm, "install", "--frozen-lockfile", store], inCopy);
    writeFileSync(
      join(copy, "packages/engine/smoke.ts"),
      `// @ts-nocheck\n${SMOKE.replace("ENGINE", "./src/index.js")}`,
    );
    const tsx = ["exec", "tsx", "--conditions=@cee/source", "packages/engine/smoke.ts"];
    const runtime = runtimeOf(await run([...pnpm, ...tsx], inCopy));
    rmSync(join(copy, "packages/engine/smoke.ts"));
    return expectRuntime(runtime, ["onnxruntime-node"]);
  });
  const packed =
    prepared &&
    (await step(`build and pack ${names.join(", ")}`, async () => {
      const filters = names.map((name) => `--filter=./packages/${name}`);
      await run([...pnpm, ...filters, "run", "build"], inCopy);
      mkdirSync(tarballs);
      for (const name of names) {
        await run([...pnpm, "pack", "--pack-destination", tarballs], {
          cwd: join(copy, "packages", name),
          env: environment,
        });
      }
      return `${readdirSync(tarballs).length} tarballs`;
    }));
  // Its place on the disk is worth more than another look at it.
  if (!options.keep) rmSync(copy, { recursive: true, force: true });

  if (packed) {
    const skip = { ONNXRUNTIME_NODE_INSTALL: "skip" };
    await step("npm install of the tarballs, ONNXRUNTIME_NODE_INSTALL=skip", () =>
      npmInstall("with-skip", tarballs, { ...environment, ...skip }, ["onnxruntime-node"]),
    );
    if (!options.quick) {
      await step("npm install of the tarballs, nothing set", () =>
        npmInstall("plain", tarballs, environment, ["onnxruntime-node", "onnxruntime-web"]),
      );
    }
  }
  proxy.close();
  proxy.closeAllConnections();
  summarise();
  sayWhatWasRefused();
}

function packagesToPack() {
  const all = publicPackages();
  const first = options.only ?? (options.quick ? "engine" : undefined);
  if (!first) return all.map(({ directory }) => directory);
  const needed = new Set([first]);
  for (const directory of needed) {
    const { dependencies = {} } = all.find((one) => one.directory === directory);
    for (const one of all) if (one.name in dependencies) needed.add(one.directory);
  }
  return [...needed];
}

async function npmInstall(name, tarballs, environment, runtimes) {
  const folder = join(workspace, name);
  mkdirSync(folder);
  writeFileSync(
    join(folder, "package.json"),
    '{ "name": "fresh", "private": true, "type": "module" }\n',
  );
  const files = readdirSync(tarballs).map((file) => join(tarballs, file));
  const here = { cwd: folder, env: environment };
  await run(["npm", "install", "--no-audit", "--no-fund", ...files], here);
  writeFileSync(join(folder, "smoke.js"), SMOKE.replace("ENGINE", "@cee/engine"));
  const runtime = runtimeOf(await run(["node", "smoke.js"], here));
  if (existsSync(join(folder, "node_modules/@cee/bench"))) {
    const program = join("node_modules", ".bin", "cee");
    const cee = (...words) => run([program, ...words], here);
    expectText(await cee("--help"), "Usage: cee <command>");
    expectText(await cee("bench", "glue", "--help"), "Usage: cee bench glue");
    // The engine's benchmark is one of the native runtime; everything else must do without.
    if (runtime.startsWith("runtime: onnxruntime-node "))
      expectText(
        await cee("bench", "engine", ...TINY_ENGINE),
        "training step at width 16, compiled: ",
      );
    expectText(await cee("bench", "glue", ...TINY_GLUE), "full");
    await fromTableToAnswers(folder, here, cee);
  }
  if (!options.keep) rmSync(folder, { recursive: true, force: true });
  return expectRuntime(runtime, runtimes);
}

/** What a user does with a table, and the lines of the README that open a trained model. */
async function fromTableToAnswers(folder, here, cee) {
  cpSync(join(root, "examples/reviews.csv"), join(folder, "reviews.csv"));
  expectText(await cee("doctor"), "Models run on");
  expectText(await cee("train", ...TABLE, ...TINY_MODEL, "--out", "model"), "Saved in model.");
  expectText(await cee("evaluate", "model", ...TABLE, "--limit", "40"), "accuracy");
  expectText(await cee("predict", "model", "A charming journey."), '"exitLayer":');
  expectText(await cee("export", "model", "--out", "model.onnx"), "model.onnx");
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code);
  const opening = blocks.find((code) => code.includes("fromPretrained("));
  expect(opening !== undefined, "a block in the README that opens a model", blocks.length);
  writeFileSync(join(folder, "lines.js"), opening);
  const answer = await run(["node", "lines.js"], here);
  expect(/^\S+ \([01]\.\d\d\) at layer [12] of 2$/m.test(answer), "an answer", answer);
}

function expectText(output, text) {
  expect(output.includes(text), `"${text}"`, output);
}

function runtimeOf(output) {
  const line = output.split("\n").find((text) => text.startsWith("runtime: "));
  if (!line) throw new Error(`the script printed no runtime:\n${output}`);
  return line;
}

function expectRuntime(line, runtimes) {
  if (runtimes.some((runtime) => line.startsWith(`runtime: ${runtime} `))) return line;
  throw new Error(`expected ${runtimes.join(" or ")}, got ${line}`);
}

function sayWhatWasRefused() {
  const refused = new Set(refusedByProxy);
  if (existsSync(refusedInProcess)) {
    for (const line of readFileSync(refusedInProcess, "utf8").split("\n"))
      if (line) refused.add(line);
  }
  console.log(`Refused: ${refused.size === 0 ? "nothing was asked for" : [...refused].join(", ")}`);
}

/** The caller's environment without its package-manager settings, with empty caches and only the proxy's way out. */
function blockedEnvironment(proxy) {
  const kept = Object.entries(cleanEnvironment()).filter(
    ([name]) => !/^(npm_|pnpm_|.*_proxy$|onnxruntime_node_install)/i.test(name),
  );
  const guard = join(workspace, "guard.cjs");
  writeFileSync(guard, guardSource());
  return {
    ...Object.fromEntries(kept),
    NODE_OPTIONS: `--require ${JSON.stringify(guard)}`,
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    http_proxy: proxy,
    https_proxy: proxy,
    npm_config_registry: registry.href,
    npm_config_proxy: proxy,
    npm_config_https_proxy: proxy,
    npm_config_noproxy: "",
    npm_config_cache: join(workspace, "npm-cache"),
    XDG_CACHE_HOME: join(workspace, "cache"),
  };
}

/** Preloaded into every Node process: many install scripts know nothing of proxies. */
function guardSource() {
  return `
const net = require("node:net");
const fs = require("node:fs");
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...parameters) {
  const [first] = Array.isArray(parameters[0]) ? parameters[0] : parameters;
  const target = typeof first === "object" && first !== null ? first : { port: first, host: parameters[1] };
  const host = target.host ?? "localhost";
  if (target.path || /^(localhost|127\\.|::1$)/.test(host)) return connect.apply(this, parameters);
  fs.appendFileSync(${JSON.stringify(refusedInProcess)}, host + "\\n");
  process.nextTick(() => this.destroy(Object.assign(new Error("blocked: " + host), { code: "ENETUNREACH" })));
  return this;
};
`;
}

function startProxy() {
  const server = createServer((incoming, response) => {
    const url = new URL(incoming.url, "http://unknown");
    if (registry.protocol !== "http:" || url.host !== registry.host) {
      refusedByProxy.add(url.host);
      response.writeHead(403).end("blocked");
      return;
    }
    const { method, headers } = incoming;
    const outgoing = request(url, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    outgoing.on("error", () => response.destroy());
    incoming.pipe(outgoing);
  });
  const registryPort = registry.port || (registry.protocol === "http:" ? "80" : "443");
  server.on("connect", ({ url: target }, client, head) => {
    client.on("error", () => client.destroy());
    const [host, port] = target.split(/:(?=\d+$)/);
    if (host !== registry.hostname || port !== registryPort) {
      refusedByProxy.add(host);
      client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
      return;
    }
    tunnel(target, client, head);
  });
  return new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server)));
}

/** Connects a client to the registry, through the caller's own proxy if there is one. */
function tunnel(target, client, head) {
  const outer = process.env.HTTPS_PROXY ?? process.env.https_proxy;
  const [host, port] = target.split(/:(?=\d+$)/);
  const via = outer ? new URL(outer) : undefined;
  const upstream = connect(Number(via ? via.port || 80 : port), via ? via.hostname : host);
  upstream.on("error", () => client.destroy());
  client.on("close", () => upstream.destroy());
  upstream.on("connect", () => {
    if (via) {
      const login = via.username
        ? `Proxy-Authorization: Basic ${Buffer.from(`${via.username}:${via.password}`).toString("base64")}\r\n`
        : "";
      upstream.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${login}\r\n`);
    } else client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    upstream.write(head);
    upstream.pipe(client);
    client.pipe(upstream);
  });
}
