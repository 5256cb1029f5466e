/** @file The audit, the drift check, the fall-back and the metrics, on the monitor itself and on a served model. */
import { entropy, never, shareInterval } from "@cee/exit-policies";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import {
  type AuditEvent,
  type AuditReport,
  type DriftReport,
  EarlyExitModel,
  type EarlyExitParts,
  type FallbackEvent,
  type MeterLike,
  type ModelOptions,
  openTelemetry,
  type RequestEvent,
} from "../src/index.js";
import { stabilityIndex } from "../src/monitor/drift.js";
import { Monitor, type MonitorOptions } from "../src/monitor/monitor.js";
import { texts, tinyParts } from "./tiny-model.js";

const LAYERS = 4;
const REFERENCE = [400, 300, 200, 100];

function monitor(options: MonitorOptions, minAgreement?: number) {
  const audits: AuditReport[] = [];
  const drifts: DriftReport[] = [];
  const falls: FallbackEvent[] = [];
  const made = new Monitor(
    {
      ...options,
      observers: [
        {
          onAuditReport: (report) => void audits.push(report),
          onDriftReport: (report) => void drifts.push(report),
          onFallback: (event) => void falls.push(event),
        },
      ],
    },
    { layers: LAYERS, reference: REFERENCE, minAgreement, fullDepthBecause: undefined },
  );
  return { made, audits, drifts, falls };
}

function exits(made: Monitor, counts: readonly number[]) {
  counts.forEach((count, index) => {
    for (let row = 0; row < count; row += 1) made.countExit(index + 1);
  });
}

function audits(made: Monitor, right: number, wrong: number) {
  for (let row = 0; row < right + wrong; row += 1)
    made.countAudit(2, row < right ? 1 : 0, 1, false);
}

describe("the stability index", () => {
  it("is 0 for equal shares and the sum of (p - q) ln(p / q) otherwise", () => {
    expect(stabilityIndex([4, 3, 2, 1], [4, 3, 2, 1])).toBe(0);
    expect(stabilityIndex([40, 0, 60], [2, 0, 3])).toBeCloseTo(0, 12);
    const large = stabilityIndex([100_000, 300_000], [200_000, 200_000]);
    expect(large).toBeCloseTo(-0.25 * Math.log(0.5) + 0.25 * Math.log(1.5), 4);
    expect(stabilityIndex([0, 10], [10, 0])).toBeLessThan(10);
    expect(stabilityIndex([1, 2, 3], [3, 2, 1])).toBeCloseTo(
      stabilityIndex([3, 2, 1], [1, 2, 3]),
      12,
    );
  });
});

describe("drift", () => {
  it("trips when a window of exits has moved, and stays until it is reset by hand", () => {
    const { made, drifts, falls } = monitor({ drift: { window: 100 } });
    exits(made, [40, 30, 20, 10]);
    exits(made, [36, 33, 19, 12]);
    expect(drifts.map(({ hasTripped }) => hasTripped)).toEqual([false, false]);
    expect(made.isAtFullDepth).toBe(false);
    exits(made, [5, 10, 20, 65]);
    expect(drifts[2]).toMatchObject({ rows: 100, hasTripped: true, histogram: [5, 10, 20, 65] });
    expect(made.health).toMatchObject({ state: "full-depth", drift: { hasTripped: true } });
    expect(made.reason).toMatch(/drifted.*over 100 requests, above 0\.25/);
    exits(made, [40, 30, 20, 10]);
    expect(made.isAtFullDepth).toBe(true);
    expect(made.reset()).toBe(true);
    expect(made.reset()).toBe(false);
    expect(falls.map(({ state }) => state)).toEqual(["full-depth", "early-exit"]);
  });

  it("starts afresh with another operating point, and says so", () => {
    const { made, falls } = monitor({ drift: { window: 100 } });
    exits(made, [0, 0, 0, 150]);
    expect(made.isAtFullDepth).toBe(true);
    made.restart({
      layers: LAYERS,
      reference: [0, 0, 0, 9],
      minAgreement: undefined,
      fullDepthBecause: undefined,
    });
    expect(made.health).toEqual({
      state: "early-exit",
      reason: undefined,
      audit: undefined,
      drift: undefined,
    });
    expect(falls.map(({ state }) => state)).toEqual(["full-depth", "early-exit"]);
    // What was counted before the new point does not count against it.
    exits(made, [0, 0, 0, 99]);
    expect(made.health.drift).toBeUndefined();
    exits(made, [0, 0, 0, 1]);
    expect(made.health.drift).toMatchObject({ rows: 100, hasTripped: false });
  });

  it("does not announce early exits when the new operating point is full depth", () => {
    const { made, falls } = monitor({ drift: { window: 100 } });
    exits(made, [0, 0, 0, 150]);
    made.restart({
      layers: LAYERS,
      reference: REFERENCE,
      minAgreement: undefined,
      fullDepthBecause: "too few rows",
    });
    expect(made.health).toMatchObject({ state: "full-depth", reason: "too few rows" });
    expect(falls.map(({ state }) => state)).toEqual(["full-depth"]);
  });

  it("recovers by itself only when a whole window is at most half as far", () => {
    const { made, falls } = monitor({
      drift: { window: 100, maxPsi: 0.2 },
      fallback: { recovery: "automatic" },
    });
    exits(made, [5, 10, 20, 65]);
    expect(made.isAtFullDepth).toBe(true);
    // Between half of the limit and the limit: neither trips nor recovers.
    const between = [28, 28, 24, 20];
    const psi = stabilityIndex(between, REFERENCE);
    expect(psi).toBeGreaterThan(0.1);
    expect(psi).toBeLessThan(0.2);
    exits(made, between);
    expect(made.isAtFullDepth).toBe(true);
    exits(made, [40, 30, 20, 10]);
    expect(made.isAtFullDepth).toBe(false);
    expect(falls).toHaveLength(2);
  });

  it("rarely trips on rows like the stored ones", () => {
    const { made, drifts } = monitor({ drift: { window: 200 }, fallback: false });
    // A linear congruential generator: the same draws every time.
    let state = 1;
    for (let row = 0; row < 200 * 500; row += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const at = state / 2 ** 32;
      made.countExit(at < 0.4 ? 1 : at < 0.7 ? 2 : at < 0.9 ? 3 : 4);
    }
    expect(drifts).toHaveLength(500);
    expect(drifts.filter(({ hasTripped }) => hasTripped)).toHaveLength(0);
  });
});

describe("the audit", () => {
  it("reports agreement with its interval, and trips when the whole interval lies below the limit", () => {
    const {
      made,
      audits: reports,
      falls,
    } = monitor({
      audit: { share: 1, window: 100, minAgreement: 0.95 },
    });
    audits(made, 93, 7);
    expect(reports[0]).toMatchObject({
      rows: 100,
      agreeing: 93,
      agreement: 0.93,
      hasTripped: false,
    });
    expect(reports[0]?.interval).toEqual(shareInterval(93, 100, 0.95));
    audits(made, 80, 20);
    expect(reports[1]).toMatchObject({ agreeing: 80, hasTripped: true });
    expect(falls).toEqual([
      { state: "full-depth", reason: expect.stringMatching(/80 of 100 .* below 0\.95/) },
    ]);
  });

  it("takes its limit from the model's guarantee, only reports without one, and recovers with drift", () => {
    const stored = monitor({ audit: { share: 1, window: 50 } }, 0.99);
    audits(stored.made, 40, 10);
    expect(stored.made.isAtFullDepth).toBe(true);
    const none = monitor({ audit: { share: 1, window: 50 } });
    audits(none.made, 10, 40);
    expect(none.audits[0]).toMatchObject({ hasTripped: false, minAgreement: undefined });
    const both = monitor({
      audit: { share: 1, window: 50, minAgreement: 0.9 },
      drift: { window: 100 },
      fallback: { recovery: "automatic" },
    });
    audits(both.made, 20, 30);
    audits(both.made, 50, 0);
    expect(both.made.isAtFullDepth).toBe(true);
    exits(both.made, [40, 30, 20, 10]);
    expect(both.made.isAtFullDepth).toBe(false);
    const reporting = monitor({
      audit: { share: 1, window: 50, minAgreement: 0.9 },
      fallback: false,
    });
    audits(reporting.made, 0, 50);
    expect(reporting.audits[0]?.hasTripped).toBe(true);
    expect(reporting.made.isAtFullDepth).toBe(false);
  });

  it("draws the share that was asked for, the same rows for one seed", () => {
    const drawn = (seed: number) => {
      const { made } = monitor({ audit: { share: 0.1, seed } });
      return Array.from({ length: 5000 }, () => made.draws());
    };
    const first = drawn(1);
    expect(drawn(1)).toEqual(first);
    expect(drawn(2)).not.toEqual(first);
    const share = first.filter(Boolean).length / 5000;
    expect(Math.abs(share - 0.1)).toBeLessThan(3 * Math.sqrt(0.09 / 5000));
  });

  it("counts an answer that full depth had to refuse as no agreement", () => {
    const { made, audits: reports } = monitor({ audit: { share: 1, window: 2 } });
    made.countAudit(4, -1, -1, false);
    made.countAudit(4, Number.NaN, Number.NaN, true);
    expect(reports[0]).toMatchObject({ agreement: 0 });
  });

  it("counts numbers as the same within a tolerance", () => {
    const { made, audits: reports } = monitor({ audit: { share: 1, window: 3, tolerance: 0.2 } });
    for (const early of [1, 1.15, 1.3]) made.countAudit(1, early, 1, true);
    expect(reports[0]?.agreeing).toBe(2);
  });
});

describe("options that cannot work", () => {
  it.each<[string, MonitorOptions]>([
    ["audit.share", { audit: { share: 2 } }],
    ["audit.window", { audit: { share: 0.1, window: 0 } }],
    ["audit.confidence", { audit: { share: 0.1, confidence: 1 } }],
    ["audit.minAgreement", { audit: { share: 0.1, minAgreement: 95 } }],
    ["drift.window", { drift: { window: 0.5 } }],
    ["drift.maxPsi", { drift: { maxPsi: 0 } }],
    ["drift.reference", { drift: { reference: [1, 2] } }],
  ])("are refused: %s", (who, options) => {
    expect(() => monitor(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", who }));
  });

  it("are refused: drift without a stored distribution", async () => {
    await expect(EarlyExitModel.fromParts(tinyParts(), { drift: {} })).rejects.toThrow(
      /drift\.reference.*selectThreshold/,
    );
  });
});

describe("a served model", () => {
  async function opened(options: ModelOptions, parts: EarlyExitParts = tinyParts()) {
    const model = await EarlyExitModel.fromParts(parts, { threads: 1, ...options });
    onTestFinished(() => model.dispose());
    return model;
  }

  it("audits with the answers of full depth, without changing any answer", async () => {
    const plain = await (await opened({})).classify(texts);
    const full = await (
      await opened({}, { encoder: tinyParts().encoder, strategy: never() })
    ).classify(texts);
    const events: AuditEvent[] = [];
    const model = await opened({
      audit: { share: 1, window: texts.length },
      observers: [{ onAudit: (event) => void events.push(event) }],
    });
    const answers = await model.classify(texts);
    expect(answers.map(({ exitLayer, label }) => [exitLayer, label])).toEqual(
      plain.map(({ exitLayer, label }) => [exitLayer, label]),
    );
    // The answers are there first; the rest of the batch follows.
    await model.classify("good", { maxLayer: 1 });
    expect(events).toHaveLength(texts.length);
    const agreeing = plain.filter(({ label }, index) => label === full[index]?.label).length;
    expect(agreeing).toBeLessThan(texts.length);
    expect(model.health.audit).toMatchObject({ rows: texts.length, agreeing });
    // Requests with a budget of their own are not audited.
    expect(events.map(({ agrees }) => agrees).filter(Boolean)).toHaveLength(agreeing);
  });

  it("falls back to full depth for later requests, says so, and goes on watching what would have left", async () => {
    const plain = await (await opened({})).classify(texts);
    const full = await (
      await opened({}, { encoder: tinyParts().encoder, strategy: never() })
    ).classify(texts);
    const falls: FallbackEvent[] = [];
    const events: RequestEvent[] = [];
    const model = await opened({
      drift: { window: texts.length, reference: [0, 0, 1000] },
      audit: { share: 0, window: texts.length },
      observers: [
        {
          onFallback: (event) => void falls.push(event),
          onRequest: (event) => void events.push(event),
        },
      ],
    });
    await model.classify(texts);
    expect(model.health).toMatchObject({ state: "full-depth", drift: { hasTripped: true } });
    expect(falls).toHaveLength(1);
    events.length = 0;
    const answers = await model.classify(texts);
    expect(answers.map(({ exitLayer }) => exitLayer)).toEqual(texts.map(() => 3));
    answers.forEach(({ probabilities }, index) => {
      expect(probabilities).toBeAllclose(full[index]?.probabilities ?? [], { atol: 1e-5 });
    });
    expect(events.every(({ atFullDepth }) => atFullDepth)).toBe(true);
    // At full depth every request is an audit, at no cost.
    const agreeing = plain.filter(({ label }, index) => label === full[index]?.label).length;
    expect(model.health.audit).toMatchObject({ rows: texts.length, agreeing });
    const byText = events.map(({ strategyLayer }) => strategyLayer ?? 3).sort();
    expect(byText).toEqual(plain.map(({ exitLayer }) => exitLayer).sort());
    expect((await model.classify("good", { maxLayer: 1 })).exitLayer).toBe(1);
    expect(model.resetFallback()).toBe(true);
    expect((await model.classify(texts)).map(({ exitLayer }) => exitLayer)).toEqual(
      plain.map(({ exitLayer }) => exitLayer),
    );
  });

  it("is not harmed by an observer that throws, and warns once", async () => {
    const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    onTestFinished(() => warn.mockRestore());
    const seen: RequestEvent[] = [];
    const model = await opened({
      observers: [
        {
          onRequest() {
            throw new Error("no disk");
          },
        },
        { onRequest: (event) => void seen.push(event) },
      ],
    });
    expect(await model.classify(texts)).toHaveLength(texts.length);
    expect(seen).toHaveLength(texts.length);
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/onRequest threw: no disk/), { code: "CEE_OBSERVER" }],
    ]);
  });

  it("gives metrics under OpenTelemetry's names", async () => {
    const points: [string, number, Record<string, unknown> | undefined][] = [];
    const units: Record<string, string | undefined> = {};
    const create = (name: string, options?: { unit?: string }) => {
      units[name] = options?.unit;
      const put = (value: number, attributes?: Record<string, unknown>) =>
        void points.push([name, value, attributes]);
      return { record: put, add: put };
    };
    const meter: MeterLike = {
      createHistogram: create,
      createCounter: create,
      createUpDownCounter: create,
    };
    const model = await opened(
      {
        observers: [openTelemetry(meter, { model: "tiny" })],
        audit: { share: 1, window: 2 },
        drift: { window: 2, reference: [0, 0, 900] },
      },
      { encoder: tinyParts().encoder, strategy: entropy({ threshold: 9 }) },
    );
    await model.classify(texts.slice(0, 2));
    const controller = new AbortController();
    const gone = model.classify("good", { signal: controller.signal });
    controller.abort();
    await expect(gone).rejects.toBeDefined();
    // Audited rows run on after their answers.
    await model.dispose();
    const of = (name: string) => points.filter(([own]) => own === name);
    const durations = of("gen_ai.server.request.duration");
    expect(durations).toHaveLength(3);
    expect(durations[0]?.[1]).toBeLessThan(60);
    expect(durations[0]?.[2]).toEqual({
      "gen_ai.operation.name": "classify",
      "gen_ai.provider.name": "cee",
      "gen_ai.request.model": "tiny",
    });
    expect(durations[2]?.[2]).toMatchObject({ "error.type": "aborted" });
    expect(of("cee.exit.layer").map(([, layer]) => layer)).toEqual([1, 1]);
    expect(of("cee.batch.size").map(([, size]) => size)).toEqual([2, 2]);
    expect(of("cee.exit.drift")).toHaveLength(1);
    expect(of("cee.fallback.active").map(([, value]) => value)).toEqual([1]);
    expect(of("cee.audit.requests")).toHaveLength(2);
    expect(units["gen_ai.server.request.duration"]).toBe("s");
  });
});
