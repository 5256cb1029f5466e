/**
 * @file Metrics under OpenTelemetry's names, for any meter of `@opentelemetry/api`; the package itself is not needed.
 *
 * `gen_ai.*` and `error.type` are OpenTelemetry's semantic conventions; exits have none, and are under `cee.*`.
 */
import type { ServingObserver } from "./events.js";

type Attributes = Record<string, string | number | boolean>;

interface Recorder {
  record(value: number, attributes?: Attributes): void;
}
interface Counter {
  add(value: number, attributes?: Attributes): void;
}
interface MetricOptions {
  description?: string;
  unit?: string;
  advice?: { explicitBucketBoundaries?: number[] };
}

/** The part of OpenTelemetry's `Meter` that is used. */
export interface MeterLike {
  createHistogram(name: string, options?: MetricOptions): Recorder;
  createCounter(name: string, options?: MetricOptions): Counter;
  createUpDownCounter(name: string, options?: MetricOptions): Counter;
}

export interface OpenTelemetryOptions {
  /** `gen_ai.request.model`. @default left out */
  readonly model?: string;
}

/** Seconds, as the conventions advise for request durations. */
const SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80,
];

/** Turns a meter into an observer: `observers: [openTelemetry(metrics.getMeter("my-service"))]`. */
export function openTelemetry(
  meter: MeterLike,
  { model }: OpenTelemetryOptions = {},
): ServingObserver {
  const common: Attributes = {
    "gen_ai.operation.name": "classify",
    "gen_ai.provider.name": "cee",
    ...(model !== undefined && { "gen_ai.request.model": model }),
  };
  const seconds = { unit: "s", advice: { explicitBucketBoundaries: SECONDS } };
  const duration = meter.createHistogram("gen_ai.server.request.duration", {
    description: "From the call until the answer.",
    ...seconds,
  });
  const queued = meter.createHistogram("cee.queue.duration", {
    description: "Time that a request waited for the device.",
    ...seconds,
  });
  const layer = meter.createHistogram("cee.exit.layer", {
    description: "Layer that answered.",
    unit: "{layer}",
    advice: { explicitBucketBoundaries: Array.from({ length: 48 }, (_, index) => index + 1) },
  });
  const batch = meter.createHistogram("cee.batch.size", {
    description: "Requests that ran together.",
    unit: "{request}",
    advice: { explicitBucketBoundaries: [1, 2, 4, 8, 16, 32, 64, 128] },
  });
  const tokens = meter.createHistogram("cee.input.tokens", {
    description: "Tokens of a request, special ones included.",
    unit: "{token}",
    advice: { explicitBucketBoundaries: [8, 16, 32, 64, 128, 256, 512] },
  });
  const audits = meter.createCounter("cee.audit.requests", {
    description: "Requests that full depth was asked about too, by whether the answers agree.",
    unit: "{request}",
  });
  const agreement = meter.createHistogram("cee.audit.agreement", {
    description: "Agreement of a window of audited requests.",
    unit: "1",
    advice: { explicitBucketBoundaries: [0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1] },
  });
  const drift = meter.createHistogram("cee.exit.drift", {
    description: "Population stability index of a window of exit layers.",
    unit: "1",
    advice: { explicitBucketBoundaries: [0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 1] },
  });
  const fallen = meter.createUpDownCounter("cee.fallback.active", {
    description: "1 while the model has fallen back to full depth.",
    unit: "1",
  });
  return {
    onRequest(event) {
      const failed: Attributes =
        event.outcome === "answered" ? {} : { "error.type": errorType(event.outcome, event.error) };
      duration.record(event.milliseconds / 1000, { ...common, ...failed });
      queued.record(event.queueMilliseconds / 1000, common);
      if (event.exitLayer === undefined) return;
      const where = { ...common, "cee.full_depth": event.atFullDepth };
      layer.record(event.exitLayer, where);
      batch.record(event.batchSize, common);
      tokens.record(event.tokens, common);
    },
    onAudit: ({ agrees }) => audits.add(1, { ...common, "cee.audit.agrees": agrees }),
    onAuditReport: (report) => agreement.record(report.agreement, common),
    onDriftReport: ({ psi }) => drift.record(psi, common),
    onFallback: ({ state }) => fallen.add(state === "full-depth" ? 1 : -1, common),
  };
}

function errorType(outcome: string, error: unknown): string {
  if (outcome === "aborted") return "aborted";
  const { code, name } = (error ?? {}) as { readonly code?: unknown; readonly name?: unknown };
  return typeof code === "string" ? code : typeof name === "string" ? name : "_OTHER";
}
