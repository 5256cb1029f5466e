import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["@cee/source"] },
  ssr: { resolve: { conditions: ["@cee/source"], externalConditions: ["@cee/source"] } },
  test: {
    include: ["packages/*/{src,test}/**/*.test.ts"],
    setupFiles: ["./vitest.setup.ts"],
    testTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
