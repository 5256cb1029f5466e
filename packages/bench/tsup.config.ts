import { defineConfig } from "tsup";

export default defineConfig({
  // Flat, so that a worker is started from beside the code that starts it, wherever the bundler put that.
  entry: { index: "src/index.ts", cee: "src/cee.ts", worker: "src/glue/worker.ts" },
  format: ["esm"],
  target: "node20",
  // The program has no types to offer.
  dts: { entry: "src/index.ts" },
  sourcemap: true,
  clean: true,
});
