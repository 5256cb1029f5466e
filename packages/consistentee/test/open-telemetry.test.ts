/** @file Metrics through OpenTelemetry's own SDK. */
import { metrics } from "@opentelemetry/api";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { describe, expect, it, onTestFinished } from "vitest";
import { EarlyExitModel, openTelemetry } from "../src/index.js";
import { texts, tinyParts } from "./tiny-model.js";

describe("OpenTelemetry", () => {
  it("receives what a served model tells", async () => {
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 1e6 });
    metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
    onTestFinished(() => reader.shutdown());
    const model = await EarlyExitModel.fromParts(tinyParts(), {
      threads: 1,
      observers: [openTelemetry(metrics.getMeter("my-service"), { model: "tiny" })],
      audit: { share: 1, window: texts.length },
    });
    const answers = await model.classify(texts);
    await model.dispose();
    await reader.forceFlush();
    const found = exporter
      .getMetrics()
      .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics: all }) => all));
    const pointsOf = (name: string) =>
      found.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? [];
    const [duration] = pointsOf("gen_ai.server.request.duration");
    expect(duration?.value).toMatchObject({ count: texts.length });
    expect(duration?.attributes).toEqual({
      "gen_ai.operation.name": "classify",
      "gen_ai.provider.name": "cee",
      "gen_ai.request.model": "tiny",
    });
    const [layer] = pointsOf("cee.exit.layer");
    const counts = (layer?.value as { buckets: { counts: number[] } } | undefined)?.buckets.counts;
    expect(counts?.slice(0, 3)).toEqual(
      [1, 2, 3].map((one) => answers.filter(({ exitLayer }) => exitLayer === one).length),
    );
    const audited = pointsOf("cee.audit.requests").map(({ value }) => value as number);
    expect(audited.reduce((a, b) => a + b, 0)).toBe(texts.length);
  });
});
