/** @file A tokenizer in a model's folder: `tokenizer.json`, or `vocab.txt` alone. */
import { join } from "node:path";
import { BackboneError } from "./errors.js";
import { exists, readJson, readText, toJsonText, writeAtomically } from "./files.js";
import { createTokenizer, createWordPieceTokenizer, type TextTokenizer } from "./tokenizer.js";

/**
 * Reads `tokenizer.json`, else `vocab.txt`, from a model folder.
 * @throws BackboneError `MISSING_FILE`, `BAD_FILE`, `BAD_TOKENIZER`
 */
export async function loadTokenizer(folder: string): Promise<TextTokenizer> {
  const jsonPath = join(folder, "tokenizer.json");
  const vocabPath = join(folder, "vocab.txt");
  const configPath = join(folder, "tokenizer_config.json");
  const options = (await exists(configPath)) ? await readJson(configPath) : {};
  const config = typeof options === "object" && options !== null ? options : {};
  if (await exists(jsonPath)) {
    return createTokenizer(await readJson(jsonPath), { who: jsonPath, config });
  }
  if (!(await exists(vocabPath))) {
    throw new BackboneError(
      "MISSING_FILE",
      folder,
      "holds neither tokenizer.json nor vocab.txt. Copy one of them from the model's page.",
    );
  }
  const vocabulary = parseVocabulary(await readText(vocabPath));
  const setting = (config as { do_lower_case?: unknown }).do_lower_case;
  // Without the setting, a vocabulary with capitals is a cased one.
  const lowercase = typeof setting === "boolean" ? setting : !vocabulary.some(hasCapitals);
  return createWordPieceTokenizer(vocabulary, { lowercase, who: vocabPath });
}

/** Writes `tokenizer.json`, and `vocab.txt` where the model is WordPiece. */
export async function saveTokenizer(tokenizer: TextTokenizer, folder: string): Promise<void> {
  await writeAtomically(join(folder, "tokenizer.json"), toJsonText(tokenizer.toJson()));
  const { model } = tokenizer.toJson() as { model: { type?: string } };
  if (model.type !== "WordPiece") return;
  const lines = Array.from(
    tokenizer.vocabulary(),
    (token, id) => `${token ?? `[unused-id-${id}]`}\n`,
  );
  await writeAtomically(join(folder, "vocab.txt"), lines.join(""));
}

/** The tokens of a `vocab.txt`, one a line. */
function parseVocabulary(text: string): string[] {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

function hasCapitals(token: string): boolean {
  return /\p{Lu}/u.test(token) && !/^\[.*\]$/.test(token);
}
