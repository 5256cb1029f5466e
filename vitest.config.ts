import { defineConfig } from "vitest/config";

// CI counts passed, failed and skipped tests in this file; the command itself stays the one that people type.
const report = process.env.CEE_TEST_REPORT;

export default defineConfig({
  resolve: { conditions: ["@cee/source"] },
  ssr: { resolve: { conditions: ["@cee/source"], externalConditions: ["@cee/source"] } },
  test: {
    include: [
      "packages/*/{src,test}/**/*.test.ts",
      "examples/*/test/**/*.test.ts",
      "test/**/*.test.ts",
    ],
    // Tests leave nothing in a home folder.
    env: { CEE_GRAPH_CACHE: "off" },
    setupFiles: ["./vitest.setup.ts"],
    testTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
    // TensorFlow.js advertises its native backend once per process.
    onConsoleLog: (text) => !text.includes("you are running TensorFlow.js in Node.js"),
    ...(report === undefined
      ? {}
      : { reporters: ["default", "json"], outputFile: { json: report } }),
  },
});
