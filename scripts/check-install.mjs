/**
 * @file Shows that the packages install, and that a compiled function then runs, where every download but the npm
 * registry's is blocked.
 *
 *     node scripts/check-install.mjs [--quick] [--only engine] [--keep]
 *
 * Configurations: pnpm in a fresh copy of the workspace; plain `npm install` of the packed tarballs in an empty folder,
 * with and without ONNXRUNTIME_NODE_INSTALL=skip, where the program that a package brings must run too. `--quick` runs the last one only, with the engine alone; `--only`
 * packs one package and what it needs; `--keep` leaves the temporary folder. Everything starts from empty caches.
 *
 * Blocking: all traffic goes through a proxy on this machine that connects to the configured registry's host and to
 * nothing else, and a preloaded script refuses, inside every Node process, connections that go round the proxy.
 */
import { execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const TIME_LIMIT = 15 * 60_000;

const { values: options } = parseArgs({
  options: { quick: { type: "boolean" }, only: { type: "string" }, keep: { type: "boolean" } },
});
if (options.only && !existsSync(join(root, "packages", options.only, "package.json"))) {
  const known = readdirSync(join(root, "packages")).join(", ");
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

const refusedByProxy = new Set();
const workspace = mkdtempSync(join(tmpdir(), "check-install-"));
const refusedInProcess = join(workspace, "refused.txt");
process.on("exit", () => {
  if (!options.keep) rmSync(workspace, { recursive: true, force: true, maxRetries: 3 });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

const registry = new URL(
  execFileSync("npm", ["config", "get", "registry"], {
    cwd: tmpdir(),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    shell: process.platform === "win32",
  }).trim(),
);
const results = [];
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
    const answer = await run(["node", "-e", attempt], workspace, environment);
    if (!answer.includes("blocked: blocked.invalid")) throw new Error(`not refused: ${answer}`);
    rmSync(refusedInProcess);
    return "a direct connection is refused";
  });
  const copy = join(workspace, "workspace");
  const tarballs = join(workspace, "tarballs");
  copyWorkspace(copy);
  const pnpm = [
    "npx",
    "-y",
    JSON.parse(readFileSync(join(root, "package.json"), "utf8")).packageManager.split("+")[0],
  ];
  const store = `--store-dir=${join(workspace, "pnpm-store")}`;
  const names = packagesToPack();

  // The copy is needed for packing even when pnpm itself is not what is being checked.
  const prepared = await step("pnpm install in a fresh copy of the workspace", async () => {
    await run([...pnpm, "install", "--frozen-lockfile", store], copy, environment);
    writeFileSync(
      join(copy, "packages/engine/smoke.ts"),
      `// @ts-nocheck\n${SMOKE.replace("ENGINE", "./src/index.js")}`,
    );
    const tsx = ["exec", "tsx", "--conditions=@cee/source", "packages/engine/smoke.ts"];
    const runtime = runtimeOf(await run([...pnpm, ...tsx], copy, environment));
    rmSync(join(copy, "packages/engine/smoke.ts"));
    return expectRuntime(runtime, ["onnxruntime-node"]);
  });
  const packed =
    prepared &&
    (await step(`build and pack ${names.join(", ")}`, async () => {
      const filters = names.map((name) => `--filter=./packages/${name}`);
      await run([...pnpm, ...filters, "run", "build"], copy, environment);
      mkdirSync(tarballs);
      for (const name of names) {
        await run(
          [...pnpm, "pack", "--pack-destination", tarballs],
          join(copy, "packages", name),
          environment,
        );
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
}

function packagesToPack() {
  const manifest = (name) =>
    JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8"));
  const all = readdirSync(join(root, "packages")).filter(
    (name) => existsSync(join(root, "packages", name, "package.json")) && !manifest(name).private,
  );
  const first = options.only ?? (options.quick ? "engine" : undefined);
  if (!first) return all;
  const needed = new Set([first]);
  for (const name of needed) {
    for (const dependency of Object.keys(manifest(name).dependencies ?? {})) {
      const folder = all.find((other) => manifest(other).name === dependency);
      if (folder) needed.add(folder);
    }
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
  await run(["npm", "install", "--no-audit", "--no-fund", ...files], folder, environment);
  writeFileSync(join(folder, "smoke.js"), SMOKE.replace("ENGINE", "@cee/engine"));
  const runtime = runtimeOf(await run(["node", "smoke.js"], folder, environment));
  if (existsSync(join(folder, "node_modules/@cee/bench"))) {
    const program = join("node_modules", ".bin", "cee");
    const cee = (...words) => run([program, ...words], folder, environment);
    expectText(await cee("--help"), "Usage: cee <command>");
    expectText(await cee("bench", "glue", "--help"), "Usage: cee bench glue");
    // The engine's benchmark is one of the native runtime; everything else must do without.
    if (runtime.startsWith("runtime: onnxruntime-node "))
      expectText(
        await cee("bench", "engine", ...TINY_ENGINE),
        "training step at width 16, compiled: ",
      );
    expectText(await cee("bench", "glue", ...TINY_GLUE), "full");
  }
  if (!options.keep) rmSync(folder, { recursive: true, force: true });
  return expectRuntime(runtime, runtimes);
}

function expectText(output, text) {
  if (!output.includes(text)) throw new Error(`expected "${text}" in:\n${output}`);
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

async function step(name, action) {
  console.log(`\n== ${name}`);
  const start = performance.now();
  try {
    const outcome = await action();
    results.push({ name, passed: true, outcome, seconds: (performance.now() - start) / 1000 });
    console.log(`   ${outcome}`);
    return true;
  } catch (error) {
    const seconds = (performance.now() - start) / 1000;
    results.push({ name, passed: false, outcome: error.message.split("\n")[0], seconds });
    console.log(error.message);
    return false;
  }
}

function summarise() {
  console.log("\n== Summary");
  for (const { name, passed, outcome, seconds } of results) {
    console.log(`${passed ? "ok    " : "FAILED"} ${name} (${seconds.toFixed(0)} s): ${outcome}`);
  }
  const refused = new Set(refusedByProxy);
  if (existsSync(refusedInProcess)) {
    for (const line of readFileSync(refusedInProcess, "utf8").split("\n"))
      if (line) refused.add(line);
  }
  console.log(`Refused: ${refused.size === 0 ? "nothing was asked for" : [...refused].join(", ")}`);
  process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
}

/** What a fresh clone has, with the changes of the working tree. */
function copyWorkspace(target) {
  const listed = execFileSync(
    "git",
    ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    {
      cwd: root,
      encoding: "utf8",
      maxBuffer: 1 << 26,
    },
  );
  for (const path of listed.split("\0")) {
    if (path && existsSync(join(root, path))) cpSync(join(root, path), join(target, path));
  }
}

function run([command, ...parameters], cwd, environment) {
  console.log(`   $ ${command} ${parameters.join(" ")}`);
  return new Promise((done, fail) => {
    const child = spawn(command, parameters, {
      cwd,
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
      timeout: TIME_LIMIT,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk) => (output += chunk));
    child.on("error", fail);
    child.on("close", (code, signal) => {
      if (code === 0) return done(output);
      const end = output.split("\n").slice(-40).join("\n");
      fail(
        new Error(`${command} ${parameters[0]} ended with ${signal ?? `code ${code}`}:\n${end}`),
      );
    });
  });
}

/** The caller's environment without its package-manager settings, with empty caches and only the proxy's way out. */
function blockedEnvironment(proxy) {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|pnpm_|node_options$|.*_proxy$|onnxruntime_node_install)/i.test(name),
  );
  const guard = join(workspace, "guard.cjs");
  writeFileSync(guard, guardSource());
  return {
    ...Object.fromEntries(kept),
    CI: "true",
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
