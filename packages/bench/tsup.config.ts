import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts", "src/cee.ts"],
  format: ["esm"],
  target: "node20",
  // The program has no types to offer.
  dts: { entry: "src/index.ts" },
  sourcemap: true,
  clean: true,
});
