import { defineConfig } from "vitest/config";

/** Checks of the built site, apart from the tests that need no build. */
export default defineConfig({
  test: { dir: import.meta.dirname, include: ["test/*.test.ts"], testTimeout: 60_000 },
});
