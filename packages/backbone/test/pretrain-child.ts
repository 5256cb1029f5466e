/** @file Runs `pretrain` in a process of its own, for tests that kill it or fill its disk. */
import { createEngine } from "@cee/engine";
import { type PretrainOptions, pretrain } from "../src/pretrain/pretrain.js";

const options = JSON.parse(process.argv[2] as string) as Omit<PretrainOptions, "engine">;
const engine = await createEngine({ threads: 1 });
try {
  await pretrain({
    ...options,
    engine,
    onProgress: ({ step }) => process.stdout.write(`step ${step}\n`),
  });
} catch (error) {
  process.stderr.write(`${(error as { code?: string }).code}: ${error}\n`);
  process.exitCode = 1;
}
await engine.dispose();
