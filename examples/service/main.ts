/**
 * @file Serves a trained model over HTTP until SIGTERM or Ctrl-C, and then finishes what it has begun.
 *
 *     tsx main.ts ./model --port 3000
 */
import { parseArgs } from "node:util";
import { EarlyExitModel, openTelemetry } from "@cee/consistentee";
import { serve } from "@hono/node-server";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import { createService } from "./service.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "3000" },
    /** Milliseconds that a request may wait for company while the device is idle. */
    "max-wait": { type: "string", default: "2" },
  },
});
/** What is not answered this long after the signal is given up. */
const DRAIN_MS = 20_000;

// The service asks for the metrics itself, beside its other routes.
const reader = new PrometheusExporter({ preventServerStart: true });
const meters = new MeterProvider({ readers: [reader] });

const model = await EarlyExitModel.fromPretrained(positionals[0] ?? "./model", {
  maxBatch: 16,
  maxWait: Number(values["max-wait"]),
  maxQueue: 200,
  observers: [openTelemetry(meters.getMeter("example-service"), { model: "example" })],
});

let isDraining = false;
const service = createService({ model, reader, isDraining: () => isDraining });
const server = serve(
  { fetch: service.fetch, hostname: values.host, port: Number(values.port) },
  ({ address, port }) => console.log(`Serving on http://${address}:${port}`),
);

async function shutDown(): Promise<void> {
  if (isDraining) process.exit(1);
  isDraining = true;
  console.log("Draining.");
  setTimeout(() => process.exit(1), DRAIN_MS).unref();
  // No new connections; the requests that are there are answered first.
  await new Promise((resolve) => server.close(resolve));
  await model.dispose();
  await meters.shutdown();
  console.log("Done.");
}
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void shutDown());
