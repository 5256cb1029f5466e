/** @file The HTTP side of an early-exit model: what a request may be, what each failure is answered with, health, metrics. */
import type { ClassifyInput, EarlyExitModel } from "@cee/consistentee";
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import type { MetricReader } from "@opentelemetry/sdk-metrics";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";

/** What a request may cost before it is refused. */
export const LIMITS = { bytes: 64 * 1024, texts: 32, characters: 10_000, milliseconds: 10_000 };

const text = v.pipe(v.string(), v.maxLength(LIMITS.characters));
const input = v.union([text, v.strictObject({ text, pair: text })]);
const body = v.strictObject({
  inputs: v.pipe(v.array(input), v.minLength(1), v.maxLength(LIMITS.texts)),
  maxLayer: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
});

export interface ServiceOptions {
  readonly model: EarlyExitModel;
  /** Where the model's metrics are collected. */
  readonly reader: MetricReader;
  /** Whether the service is shutting down: what comes now is refused, what is there is finished. */
  readonly isDraining: () => boolean;
}

export function createService({ model, reader, isDraining }: ServiceOptions): Hono {
  const service = new Hono();

  service.use(async (context, next) => {
    await next();
    // Whoever keeps the connection open would keep the process open.
    if (isDraining()) context.header("connection", "close");
  });

  const tooLarge = `the body must have at most ${LIMITS.bytes} bytes. Send fewer or shorter texts.`;
  service.post(
    "/classify",
    bodyLimit({
      maxSize: LIMITS.bytes,
      onError: (context) => context.json(problem("TOO_LARGE", tooLarge), 413),
    }),
    async (context) => {
      if (isDraining())
        return context.json(problem("DRAINING", "the service is shutting down."), 503);
      const { inputs, maxLayer } = read(await context.req.text());
      // A client that hangs up costs no further layer; nor does a request that takes too long.
      const client = context.req.raw.signal;
      const signal = AbortSignal.any([client, AbortSignal.timeout(LIMITS.milliseconds)]);
      const options = { signal, ...(maxLayer !== undefined && { maxLayer }) };
      const answers = await model
        .classify(inputs as readonly ClassifyInput[], options)
        .catch((error: unknown) => {
          if (client.aborted) return undefined;
          throw error;
        });
      // Nobody reads it; the number is what servers log for a client that is gone.
      if (!answers) return new Response(null, { status: 499 });
      return context.json({ answers });
    },
  );

  // Ready for requests: 200, to be left alone: 503. `state` says whether the model still exits early.
  service.get("/health", (context) => {
    const { state, reason } = model.health;
    const status = isDraining() ? "draining" : "ready";
    return context.json(
      { status, state, reason, waiting: model.waiting, layers: model.layers },
      isDraining() ? 503 : 200,
    );
  });

  service.get("/metrics", async (context) => {
    const { resourceMetrics, errors } = await reader.collect();
    for (const error of errors) console.error("metrics:", error);
    return context.text(new PrometheusSerializer().serialize(resourceMetrics), 200, {
      "content-type": "text/plain; version=0.0.4; charset=utf-8",
    });
  });

  service.notFound((context) =>
    context.json(problem("NOT_FOUND", "POST /classify, GET /health and GET /metrics exist."), 404),
  );

  service.onError((error, context) => {
    const { code, status } = outcomeOf(error);
    // Whose fault it is decides what a client is told: the inside of the service is for its log.
    if (status === 500) console.error(error);
    const message = status === 500 ? "something failed inside the service." : error.message;
    if (status === 503) context.header("retry-after", "1");
    return context.json(problem(code, message), status);
  });
  return service;
}

class BadRequest extends Error {
  readonly code = "BAD_REQUEST";
}

/** @throws BadRequest */
function read(json: string): v.InferOutput<typeof body> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new BadRequest(`the body is not JSON: ${(cause as Error).message}.`, { cause });
  }
  const { success, issues, output } = v.safeParse(body, value);
  if (success) return output;
  const [first] = issues;
  throw new BadRequest(
    `${v.getDotPath(first) ?? "the body"}: ${first.message}. Send {"inputs": ["a text", {"text": …, "pair": …}], "maxLayer": 3}.`,
  );
}

function outcomeOf(error: Error): {
  readonly code: string;
  readonly status: ContentfulStatusCode;
} {
  const { code, name } = error as { readonly code?: unknown; readonly name: string };
  if (name === "TimeoutError") return { code: "TIMEOUT", status: 504 };
  if (code === "BAD_REQUEST" || code === "BAD_INPUT") return { code, status: 400 };
  if (code === "QUEUE_FULL" || code === "DISPOSED") return { code, status: 503 };
  return { code: "INTERNAL", status: 500 };
}

function problem(code: string, message: string) {
  return { error: { code, message } };
}
