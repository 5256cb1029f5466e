/** @file A folder per test, removed afterwards. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "cee-backbone-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
