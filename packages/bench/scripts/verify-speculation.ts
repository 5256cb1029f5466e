/**
 * @file Whether self-speculative decoding writes what full depth writes, token for token, on many prompts.
 *
 *   pnpm tsx --conditions=@cee/source packages/bench/scripts/verify-speculation.ts <model> [prompts] [new tokens]
 *
 * The model is a LLaMA folder or a llama2.c file. Prompts are generated texts; the drafting layer and the draft length
 * change from batch to batch. Texts may differ only behind a near tie of full depth, which is counted. Exit code 1 for
 * any other difference.
 */
import { loadCausalDecoder } from "@cee/backbone";
import { CausalLM, type Generation } from "@cee/consistentee";
import { alwaysAt } from "@cee/exit-policies";
import { generateArticles, generateInstructions } from "../src/data/embedded-texts.js";

const [model, count = "1000", tokens = "48"] = process.argv.slice(2);
if (model === undefined) throw new Error("Give the model: a LLaMA folder or a llama2.c file.");
const [wanted, maxNewTokens] = [Number(count), Number(tokens)];
const BATCH = 10;

const decoder = await loadCausalDecoder(model);
const { depth } = decoder.config;
const texts = [...generateInstructions(wanted, 7), ...generateArticles(wanted, 7)]
  .map(({ instruction, input }) => `${input} ${instruction}`)
  .map((text, index) => text.slice(index % 17, (index % 17) + 12 + (index % 150)));
const prompts = texts.filter((_, index) => index % 2 === 0).slice(0, wanted);

const full = await CausalLM.open(decoder, { threads: 1 });
const drafting = new Map<number, CausalLM>();
let [same, behindTies, drafted, accepted, generated] = [0, 0, 0, 0, 0];
const wrong: string[] = [];
for (let at = 0; at < prompts.length; at += BATCH) {
  const part = prompts.slice(at, at + BATCH);
  const layer = 1 + ((at / BATCH) % (depth - 1));
  const draftLength = 1 + ((at / BATCH) % 6);
  const speculative =
    drafting.get(layer) ??
    (await CausalLM.open(decoder, { threads: 1, strategy: alwaysAt({ layer }), exits: [layer] }));
  drafting.set(layer, speculative);
  const reference = await full.generateBatch(part, { maxNewTokens });
  const drafts = await speculative.generateBatch(part, {
    maxNewTokens,
    keyValues: "verify",
    draftLength,
  });
  drafted += drafts.stats.drafted;
  accepted += drafts.stats.accepted;
  part.forEach((prompt, row) => {
    const [left, right] = [reference.rows[row], drafts.rows[row]] as [Generation, Generation];
    generated += left.ids.length;
    const first = left.ids.findIndex((id, place) => id !== right.ids[place]);
    if (first < 0 && left.ids.length === right.ids.length) same += 1;
    else if (left.nearTies.some((place) => place <= first)) behindTies += 1;
    else wrong.push(`prompt ${at + row + 1} (layer ${layer}, drafts of ${draftLength}): ${prompt}`);
  });
}
console.log(
  `${prompts.length} prompts, ${generated} tokens at depth ${depth}: ${same} texts equal token for token, ${behindTies} differ behind a near tie, ${wrong.length} differ otherwise; ${accepted} of ${drafted} drafts accepted.`,
);
for (const line of wrong) console.log(line);
for (const opened of [full, ...drafting.values()]) await opened.dispose();
process.exitCode = wrong.length > 0 ? 1 : 0;
