/** @file What several tests of this package need: temporary folders. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { onTestFinished } from "vitest";
import { createProgressLine } from "../src/glue/progress.js";

/** Hooks of a run as in a pipe, and what it got to see. */
export function recorded(onPrint: (line: string) => void = () => undefined) {
  let text = "";
  const progress = createProgressLine({
    write(more) {
      text += more;
      onPrint(more);
    },
  });
  return { hooks: { progress }, printed: () => text };
}

/** A folder that is gone after the test, holding the given files. */
export async function temporaryFolder(files: Record<string, string | Uint8Array> = {}) {
  const folder = await mkdtemp(path.join(os.tmpdir(), "cee-bench-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  return folder;
}
