/**
 * @file Reads vitest's JSON report: prints what was skipped and, as its last line, `N passed, N failed, N skipped`.
 *
 * `node scripts/test-totals.mjs <report.json>` fails when nothing ran, or when a test was skipped whose name does not
 * say which missing thing, out of those that a machine without network may lack, it waits for.
 */
import { readFileSync } from "node:fs";
import { relative } from "node:path";

// What CI cannot install: data that may not be redistributed, a graphics adapter, PyTorch's 300 MB, native TensorFlow.
const allowedToLack = /CEE_DATA_DIR|PyTorch|torch|WebGPU|CUDA|tfjs-node/i;

const path = process.argv[2];
if (path === undefined) throw new Error("usage: node scripts/test-totals.mjs <report.json>");
const report = JSON.parse(readFileSync(path, "utf8"));

let passed = 0;
let failed = 0;
const skipped = [];
for (const file of report.testResults) {
  const name = relative(process.cwd(), file.name);
  // A file that cannot be imported has no tests of its own, and is one failure.
  if (file.status === "failed" && file.assertionResults.length === 0) failed += 1;
  for (const test of file.assertionResults) {
    if (test.status === "passed") passed += 1;
    else if (test.status === "failed") failed += 1;
    else skipped.push(`${name}: ${test.fullName}`);
  }
}

const unexplained = skipped.filter((name) => !allowedToLack.test(name));
for (const name of skipped) {
  console.log(`${unexplained.includes(name) ? "must not be skipped" : "skipped"}: ${name}`);
}
console.log(
  `${passed} passed, ${failed} failed${skipped.length ? `, ${skipped.length} skipped` : ""}`,
);
if (passed === 0 || failed > 0 || unexplained.length > 0) process.exitCode = 1;
