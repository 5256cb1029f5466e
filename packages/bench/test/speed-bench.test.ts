/** @file `bench speed`: that it compares like with like, its intervals and bars, and what it leaves. No times are judged. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEncoder } from "@cee/backbone";
import { createEngine, createRng } from "@cee/engine";
import { classify, toObserver } from "@cee/exit-policies";
import { describe, expect, it, onTestFinished } from "vitest";
import { main } from "../src/cli.js";
import type { RunHooks } from "../src/glue/progress.js";
import { checkSame, SYSTEMS } from "../src/speed/forced.js";
import { runSpeed } from "../src/speed/index.js";
import { judge } from "../src/speed/judge.js";
import { createSpeedEncoder, forcedBatch, forcedExits, mixedLayers } from "../src/speed/model.js";
import { parseSpeedOptions } from "../src/speed/options.js";
import { interleave, ratioOf, weightedQuantile } from "../src/speed/rounds.js";
import { recorded } from "./helpers.js";

const sizes = { width: 16, depth: 3, length: 8, vocabulary: 256 };

describe("rounds", () => {
  it("run all candidates equally often, in orders that change, and count no warm-up", async () => {
    const order: string[] = [];
    const candidate = (name: string, milliseconds: number) => ({
      name,
      async run() {
        order.push(name);
        // Every other call that counts is disturbed.
        return milliseconds + (order.length > 6 ? 50 * (order.length % 2) : 0);
      },
    });
    const times = await interleave([candidate("a", 2), candidate("b", 3), candidate("c", 4)], {
      rounds: 6,
      warmUp: 2,
      rng: createRng(1),
    });
    // Calls as short as these are made five times, of which two at least are not disturbed.
    expect(Object.fromEntries(times)).toEqual({
      a: Array(6).fill(2),
      b: Array(6).fill(3),
      c: Array(6).fill(4),
    });
    expect(order).toHaveLength(2 * 3 + 6 * 3 * 5);
    const rounds = Array.from({ length: 6 }, (_, round) =>
      [0, 5, 10].map((at) => order[6 + 15 * round + at]),
    );
    for (const round of rounds) expect([...round].sort()).toEqual(["a", "b", "c"]);
    expect(new Set(rounds.map(String)).size).toBeGreaterThan(1);
  });

  it("take quantiles of values that occur as often as their weights say", () => {
    const rng = createRng("quantiles");
    const values = Array.from({ length: 9 }, () => rng.normal());
    for (const share of [0, 0.5, 0.95, 1]) {
      const weights = Int32Array.from(values, () => rng.int(4));
      const spread = values.flatMap((value, at) =>
        Array<number>(weights[at] as number).fill(value),
      );
      spread.sort((a, b) => a - b);
      const at = share * (spread.length - 1);
      const [low, high] = [spread[Math.floor(at)] as number, spread[Math.ceil(at)] as number];
      const expected = low + (at - Math.floor(at)) * (high - low);
      expect(weightedQuantile(values, share)(weights)).toBeCloseTo(expected, 12);
    }
  });

  it("compare round by round: what slows both down in a round is no difference", () => {
    const rng = createRng("busy");
    const busy = Array.from({ length: 25 }, () => 1 + 9 * rng.next());
    const ratio = ratioOf(
      busy.map((factor) => 3 * factor),
      busy.map((factor) => 2 * factor),
      7,
    );
    for (const value of Object.values(ratio)) expect(value).toBeCloseTo(1.5, 12);
    const noisy = ratioOf(
      busy,
      busy.map(() => 5),
      7,
    );
    expect(noisy.low).toBeLessThan(noisy.estimate);
    expect(noisy.high).toBeGreaterThan(noisy.estimate);
  });
});

describe("forced exits", () => {
  it("let rows go where their numbers of tokens say, a fifth of those left at each layer", async () => {
    const layers = mixedLayers(200, 12);
    const left = (layer: number) => layers.filter((own) => own >= layer).length;
    for (let layer = 1; layer < 6; layer += 1)
      expect(left(layer + 1) / left(layer)).toBeCloseTo(0.8, 1);
    const engine = await createEngine({ threads: 1 });
    onTestFinished(() => engine.dispose());
    const encoder = createSpeedEncoder(sizes, { seed: 1 });
    const strategy = forcedExits(sizes);
    const runner = await openEncoder(engine, encoder, encoder.params, toObserver(strategy));
    const wanted = [3, 1, 2, 2, 1, 3];
    const batch = forcedBatch(sizes, wanted, 5);
    expect([batch.rows, batch.length]).toEqual([6, 8]);
    const { exitLayers } = await classify(runner, batch, strategy);
    await runner.dispose();
    expect([...exitLayers]).toEqual(wanted);
  });
});

describe("bars", () => {
  const interval = (estimate: number, spread = 0) => ({
    estimate,
    low: estimate - spread,
    high: estimate + spread,
  });
  const none = { depths: [], mixed: [], full: [], throughput: [], decide: [], memory: undefined };
  const timed = (system: string, ratio: ReturnType<typeof interval>) => ({
    system,
    rounds: [1],
    median: 1,
    ratio,
  });

  it("go by the better end of the worst layer's interval", () => {
    const depth = (layer: number, estimate: number, spread: number) => ({
      width: 384,
      layer,
      timed: [timed(SYSTEMS.graph, interval(estimate, spread))],
    });
    const [met] = judge({ ...none, depths: [depth(1, 1.03, 0), depth(2, 1.09, 0.05)] });
    expect(met).toMatchObject({ value: 1.09, isMet: true });
    const [missed] = judge({ ...none, depths: [depth(1, 1.04, 0), depth(2, 1.09, 0.02)] });
    expect(missed).toMatchObject({ value: 1.09, isMet: false, limit: "at most 1.05" });
    expect(missed?.name).toContain("worst layer (2)");
  });

  it("ask for a share of the ideal gain, a throughput and a memory that stays", () => {
    const mixed = (width: number, efficiency: number) => ({
      width,
      batch: 16,
      meanExitLayer: 4,
      idealGain: 3,
      timed: [{ ...timed(SYSTEMS.file, interval(1)), efficiency: interval(efficiency) }],
    });
    const bars = judge({
      ...none,
      mixed: [mixed(384, 0.91), mixed(768, 0.91)],
      memory: { calls: [10, 20], resident: [0, 21 * 2 ** 20], tensors: [3, 3] },
    });
    expect(bars.map(({ isMet }) => isMet)).toEqual([true, false, false]);
  });
});

describe("a run", () => {
  it("compares what answers alike, and leaves tables, a report and every round", async () => {
    const out = mkdtempSync(join(tmpdir(), "cee-speed-"));
    onTestFinished(() => rmSync(out, { recursive: true, force: true }));
    const options = parseSpeedOptions(
      {
        widths: "16",
        depth: "3",
        length: "8",
        vocabulary: "512",
        threads: "1",
        rounds: "3",
        batches: "1,4",
        backbone: "fresh:2x16",
        requests: "20",
        limit: "64",
        calls: "20,40",
        out,
        "no-torch": true,
      },
      "pnpm bench speed",
    );
    const { hooks, printed } = recorded();
    const { results } = await runSpeed(options, hooks);
    expect(results.depths.map(({ layer }) => layer)).toEqual([1, 2, 3]);
    for (const { timed } of results.depths) {
      const systems = timed.map(({ system }) => system);
      expect(systems).toEqual([SYSTEMS.truncated, SYSTEMS.graph, SYSTEMS.file, SYSTEMS.loop]);
      for (const { rounds } of timed) expect(rounds).toHaveLength(3);
    }
    expect(results.mixed.map(({ batch }) => batch)).toEqual([1, 4]);
    for (const { idealGain, meanExitLayer } of results.mixed)
      expect(idealGain).toBeCloseTo(3 / meanExitLayer, 12);
    expect(results.full.map(({ batch }) => batch)).toEqual([1, 4]);
    expect(results.throughput[0]?.sentences).toBeGreaterThan(100);
    expect(results.versions["@huggingface/transformers"]).toBe("4.3.1");
    expect(results.latency).toHaveLength(3 * 4);
    expect(new Set(results.latency.map(({ load }) => load))).toEqual(
      new Set(["closed", 0.5, 0.7, 0.9]),
    );
    // All answer alike, whatever the load.
    const early = results.latency.filter(({ meanExitLayer }) => meanExitLayer < 2);
    for (const { meanExitLayer } of early)
      expect(meanExitLayer).toBeCloseTo(early[0]?.meanExitLayer as number, 1);
    expect(results.memory?.tensors[0]).toBe(results.memory?.tensors[1]);
    expect(readdirSync(out).sort()).toEqual([
      "forced-exits-16.svg",
      "latency.svg",
      "mixed-exits-16.svg",
      "parts",
      "run.json",
      "speed.html",
      "speed.json",
      "speed.md",
    ]);
    const page = readFileSync(join(out, "speed.html"), "utf8");
    expect(page).toContain("Batch 1, forced exit, width 16");
    expect(page).not.toMatch(/NaN|undefined/);
    expect(JSON.parse(readFileSync(join(out, "speed.json"), "utf8")).depths).toHaveLength(3);
    expect(printed()).toContain("width 16, exit at layer 3: ");
  }, 180_000);

  it("goes on behind the parts that were finished when it was stopped", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cee-speed-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const out = join(folder, "run");
    const run = (more: object, hooks: Partial<RunHooks> = {}) =>
      runSpeed(
        parseSpeedOptions(
          {
            ...{ widths: "16,24", depth: "2", length: "8", vocabulary: "256", threads: "1" },
            ...{ rounds: "3", parts: "depths,decide,memory", calls: "4,8", out, "no-torch": true },
            ...more,
          },
          "pnpm bench speed",
        ),
        { ...recorded().hooks, ...hooks },
      );
    const stop = new AbortController();
    const { progress } = recorded((line) => {
      if (line.startsWith("width 16, decisions")) stop.abort();
    }).hooks;
    await expect(run({}, { progress, signal: stop.signal })).rejects.toMatchObject({
      code: "STOPPED",
    });
    expect(readdirSync(out).sort()).toEqual(["parts", "run.json"]);
    expect(readdirSync(join(out, "parts")).sort()).toEqual(["decide-16.json", "depths-16.json"]);

    await expect(run({ resume: true, rounds: "4" })).rejects.toThrow("rounds 3, now 4");
    const again = recorded();
    const { results } = await run({ resume: true }, again.hooks);
    expect(again.printed()).not.toContain("width 16");
    const kept = JSON.parse(readFileSync(join(out, "parts", "depths-16.json"), "utf8"));
    expect(results.depths.slice(0, 2)).toEqual(kept.measured.depths);
    expect(results.depths.map(({ width }) => width)).toEqual([16, 16, 24, 24]);
    expect(results.decide.map(({ width }) => width)).toEqual([16, 24]);
    expect(results.memory?.calls).toEqual([4, 8]);
    const before = results.notes.filter((note) => note.startsWith("Measured before"));
    expect(before).toEqual([
      `Measured before the run was gone on with: depths-16, ${kept.date}.`,
      expect.stringContaining("decide-16"),
    ]);

    writeFileSync(
      join(out, "parts", "depths-16.json"),
      JSON.stringify({ ...kept, measured: { depths: [{ width: "16" }] } }),
    );
    await expect(run({ resume: true })).rejects.toMatchObject({ code: "BAD_RESULTS" });
    const fresh = recorded();
    await run({ widths: "16", parts: "decide" }, fresh.hooks);
    expect(fresh.printed()).toContain(
      `The results that were in ${out} are kept in ${out}.previous`,
    );
    expect(readdirSync(join(out, "parts"))).toEqual(["decide-16.json"]);
  }, 60_000);

  it("refuses systems that answer differently", () => {
    const [own, other] = [Float32Array.of(1, 2), Float32Array.of(1, 2.1)];
    expect(() => checkSame("it", own, other)).toThrow(
      expect.objectContaining({ code: "RUN_MISMATCH" }),
    );
    expect(() => checkSame("it", own, Float32Array.of(Number.NaN, 2))).toThrow();
    checkSame("it", own, Float32Array.of(1.0001, 2));
  });

  it.each([
    [{ widths: "128,x" }, "--widths"],
    [{ parts: "deptsh" }, 'Did you mean "depths"?'],
    [{ length: "12" }, "--length"],
    [{ calls: "5" }, "--calls"],
    [{ rounds: "1" }, "--rounds"],
    [{ round: "9" }, 'Did you mean "--rounds"?'],
  ])("refuses %j", (args, part) => {
    expect(() => parseSpeedOptions(args, "")).toThrow(part);
  });

  it("explains itself", async () => {
    await expect(main(["speed", "--nothing"])).rejects.toThrow("Known: --widths");
  });
});
