import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts", "src/hub.ts", "src/testing.ts", "src/tokenizer.ts"],
  format: ["esm"],
  target: "node20",
  dts: true,
  sourcemap: true,
  clean: true,
});
