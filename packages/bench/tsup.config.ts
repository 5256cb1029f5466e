import { rename } from "node:fs/promises";
import { join } from "node:path";
import { defineConfig } from "tsup";

export default defineConfig(({ outDir = "dist" }) => ({
  entry: {
    index: "src/index.ts",
    cee: "src/cee.ts",
    // Started as processes of their own. Flat, so that they lie beside the code that starts them, wherever the bundler put that.
    worker: "src/glue/worker.ts",
    "paper-companion": "src/paper/companion.ts",
    "vet-child": "src/plugins/vet-child.ts",
  },
  // What `cee new` writes, as `exit-strategy/` beside the program.
  publicDir: "../../templates",
  // A manifest inside a package would be taken for one of its own.
  onSuccess: () =>
    rename(join(outDir, "exit-strategy/package.json"), join(outDir, "exit-strategy/manifest.json")),
  format: ["esm"],
  target: "node20",
  // The program has no types to offer.
  dts: { entry: "src/index.ts" },
  sourcemap: true,
  clean: true,
}));
