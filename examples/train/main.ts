/**
 * @file Fine-tunes a small pre-trained encoder with an exit after every layer on a CSV file, chooses on held-out rows how
 * early to exit, saves the model, loads it, and asks it.
 *
 *     tsx main.ts [reviews.csv [model]]
 */
import { readFileSync } from "node:fs";
import { fit, loadExitEncoder } from "@cee/backbone";
import { EarlyExitModel, initialisePhase } from "@cee/consistentee";
import { createEngine, createRng } from "@cee/engine";
import { entropy } from "@cee/exit-policies";
import { modelFolder } from "@cee/model-mini";
import { parse } from "csv-parse/sync";

const [file = "../reviews.csv", out = "model"] = process.argv.slice(2);
const SEED = 1;

// Rows, in an order of their own: a file that is sorted by label would train badly.
const rows = parse(readFileSync(file), { columns: true, bom: true }).map((row) => {
  const { review, verdict } = row as { readonly review: string; readonly verdict: string };
  return { text: review, label: verdict };
});
createRng(SEED).shuffle(rows);
const heldOut = rows.splice(0, Math.floor(rows.length / 4));
const labels = [...new Set(rows.map(({ label }) => label))].sort();

// An encoder whose heads are new: one after every layer, for these classes.
const encoder = await loadExitEncoder(modelFolder, { labels, freshHeads: true, seed: SEED });
const { tokenizer } = encoder;
if (!tokenizer) throw new Error(`${modelFolder} has no tokenizer.`);
const train = rows.map(({ text, label }, row) => ({
  id: `row ${row}`,
  ...tokenizer.encode(text, { maxLength: 64 }),
  label: labels.indexOf(label),
}));

// All exits learn together, deep ones weighing more. With `out`, a run that was interrupted goes on.
const engine = await createEngine();
const { params, trained, reports } = await fit({
  engine,
  model: encoder,
  params: encoder.params,
  plan: function* () {
    yield initialisePhase({ epochs: 30, batchSize: 16, learningRate: 3e-4, warmup: 0.1 });
  },
  train,
  dev: [],
  seed: SEED,
  onProgress({ epoch, epochs, loss }) {
    if (process.stderr.isTTY)
      process.stderr.write(`\repoch ${epoch} of ${epochs}, loss ${loss.toFixed(3)} `);
  },
});
await engine.dispose();

// How early to exit: the fastest threshold that keeps a guarantee on rows that trained nothing.
const fresh = await EarlyExitModel.fromParts({
  encoder: { ...encoder, params, trainedHeads: trained.heads },
  strategy: entropy(),
  reports,
  seed: SEED,
});
const { note } = await fresh.selectThreshold({ rows: heldOut, maxLoss: 0.1, confidence: 0.9 });
console.log(note);
await fresh.save(out);
await fresh.dispose();

// From here on as in any program that finds a trained model in a folder.
const model = await EarlyExitModel.fromPretrained(out);
for (const text of ["A lovely cast and a clever script.", "The ending is dull and badly made."]) {
  const { label, score, exitLayer, layers } = await model.classify(text);
  console.log(`${label} (${score.toFixed(2)}) at layer ${exitLayer} of ${layers}: ${text}`);
}
await model.dispose();
