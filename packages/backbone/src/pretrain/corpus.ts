/**
 * @file A corpus tokenised once into a file of ids, from which windows are read by offset: it may be larger than memory.
 *
 * The file is a stream of ids with `[SEP]` where one document ends and another starts (text itself never gives that id).
 * It is cut into blocks; every {@link HELD_OUT_EVERY}th is held out of training.
 */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, openSync, readSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { endianness } from "node:os";
import { join } from "node:path";
import { BackboneError } from "../errors.js";
import { readJson, reason, toJsonText, writeAtomically } from "../files.js";
import { createBasicTokenizer, createPieceEncoder } from "./basic-tokenizer.js";
import { listCorpusFiles, readTextBlocks, type TextStreamOptions } from "./text-stream.js";

export const HELD_OUT_EVERY = 50;
const FORMAT = 1;
const BLOCK_TOKENS = 4096;
const TOKENS = "tokens.bin";
const INFO = "corpus.json";

export type Split = "train" | "held-out";
export type TokenArray = Uint16Array | Uint32Array;

export interface Corpus {
  /** The same for the same texts and pieces. */
  readonly key: string;
  /** Ids in the file, document ends included. */
  readonly tokens: number;
  readonly documents: number;
  /** Characters of text for each token: what makes losses comparable across vocabularies. */
  readonly charactersPerToken: number;
  /** Ids that a split offers. */
  size(split: Split): number;
  /**
   * Reads at most `count` consecutive ids that lie in one block of the split; `at` in [0, 1) says where. Near the end of a
   * block the window starts earlier, so that it is full.
   */
  window(split: Split, at: number, count: number): TokenArray;
  close(): void;
}

export interface CorpusOptions extends TextStreamOptions {
  /** Files, or folders that are searched. */
  readonly paths: readonly string[];
  readonly pieces: readonly string[];
  /** Where the tokenised form is kept; it is found again by content. */
  readonly cache: string;
  /** The longest window that will be read. */
  readonly longest: number;
  readonly log?: ((line: string) => void) | undefined;
}

/**
 * Opens the tokenised form of a corpus, making it first where it is not there yet.
 * @throws BackboneError `MISSING_FILE`, `EMPTY_CORPUS`, `NOT_UTF8`, `ENDLESS_LINE` or `WRITE_FAILED`
 */
export async function openCorpus(options: CorpusOptions): Promise<Corpus> {
  const files = await listCorpusFiles(options.paths);
  const key = await contentKey(files, options);
  const folder = join(options.cache, key);
  let info = await readInfo(folder, key);
  if (info === undefined) {
    options.log?.(`tokenising ${files.length} files into ${folder}`);
    await tokenise(files, folder, key, options);
    info = await readInfo(folder, key);
    if (info === undefined) throw new Error("internal: the tokenised corpus is not readable");
  }
  return createCorpus(folder, info, options.longest);
}

interface Info {
  readonly format: number;
  readonly key: string;
  readonly tokens: number;
  readonly documents: number;
  readonly characters: number;
  /** Bytes of one id. */
  readonly width: 2 | 4;
}

async function contentKey(files: readonly string[], options: CorpusOptions): Promise<string> {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([FORMAT, options.pieces, options.maxBlock, options.maxRun]));
  for (const file of files) {
    const content = createHash("sha256");
    try {
      for await (const chunk of createReadStream(file)) content.update(chunk as Buffer);
    } catch (cause) {
      const message = `a corpus file cannot be read: ${reason(cause)}. Check the path.`;
      throw new BackboneError("MISSING_FILE", file, message, { cause });
    }
    hash.update(content.digest());
  }
  return hash.digest("hex").slice(0, 32);
}

/** `undefined` where there is no complete cache; a torn one is not an error, it is made anew. */
async function readInfo(folder: string, key: string): Promise<Info | undefined> {
  const info = (await readJson(join(folder, INFO)).catch(() => undefined)) as Info | undefined;
  const size = await stat(join(folder, TOKENS)).catch(() => undefined);
  if (info?.format !== FORMAT || info.key !== key || size === undefined) return undefined;
  return size.size === info.tokens * info.width ? info : undefined;
}

async function tokenise(
  files: readonly string[],
  folder: string,
  key: string,
  options: CorpusOptions,
): Promise<void> {
  const basic = createBasicTokenizer();
  const encoder = createPieceEncoder(options.pieces);
  const separator = options.pieces.indexOf("[SEP]");
  const width = encoder.size <= 2 ** 16 ? 2 : 4;
  const temporary = `${folder}.${process.pid}.tmp`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    const file = await open(join(temporary, TOKENS), "wx");
    let documents = 0;
    let characters = 0;
    let tokens = 0;
    try {
      const writer = createTokenWriter(file, width);
      for await (const block of readTextBlocks(files, options)) {
        if (block.startsDocument) {
          if (documents > 0) await writer.write([separator]);
          documents += 1;
        }
        characters += block.text.length + 1;
        for (const word of basic.words(block.text)) await writer.write(encoder.encodeWord(word));
      }
      tokens = await writer.end();
      await file.sync();
    } finally {
      await file.close();
    }
    const info: Info = { format: FORMAT, key, tokens, documents, characters, width };
    await writeAtomically(join(temporary, INFO), toJsonText(info));
    // A torn or outdated folder of this name was found unreadable above.
    await rm(folder, { recursive: true, force: true });
    await rename(temporary, folder);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (cause instanceof BackboneError) throw cause;
    throw new BackboneError(
      "WRITE_FAILED",
      folder,
      `the tokenised corpus could not be written: ${reason(cause)}. Free some space or choose another folder.`,
      { cause },
    );
  }
}

function createTokenWriter(file: FileHandle, width: 2 | 4) {
  const capacity = 1 << 18;
  const buffer = width === 2 ? new Uint16Array(capacity) : new Uint32Array(capacity);
  let filled = 0;
  let total = 0;
  const flush = async (): Promise<void> => {
    await file.writeFile(new Uint8Array(buffer.buffer, 0, filled * width));
    total += filled;
    filled = 0;
  };
  return {
    /** Returns a promise only when the buffer had to be written. */
    write(ids: readonly number[]): Promise<void> | undefined {
      const pending = filled + ids.length > capacity ? flush() : undefined;
      if (pending) {
        return pending.then(() => {
          buffer.set(ids, 0);
          filled = ids.length;
        });
      }
      buffer.set(ids, filled);
      filled += ids.length;
      return undefined;
    },
    async end(): Promise<number> {
      await flush();
      return total;
    },
  };
}

function createCorpus(folder: string, info: Info, longest: number): Corpus {
  if (endianness() !== "LE") throw new Error("internal: token files are little-endian");
  // Small corpora get small blocks, so that the held-out part is not a single place.
  const blockTokens = Math.min(BLOCK_TOKENS, Math.floor(info.tokens / HELD_OUT_EVERY));
  if (blockTokens < longest) {
    throw new BackboneError(
      "EMPTY_CORPUS",
      "corpus",
      `the corpus must hold at least ${HELD_OUT_EVERY * longest} tokens (${HELD_OUT_EVERY} windows), got ${info.tokens}. ` +
        "Add text or shorten the sequences.",
    );
  }
  const blocks = Math.floor(info.tokens / blockTokens);
  const heldOut = Math.floor(blocks / HELD_OUT_EVERY);
  const file = openSync(join(folder, TOKENS), "r");
  const count = (split: Split) => (split === "train" ? blocks - heldOut : heldOut);
  return {
    key: info.key,
    tokens: info.tokens,
    documents: info.documents,
    charactersPerToken: info.characters / info.tokens,
    size: (split) => count(split) * blockTokens,
    window(split, at, wanted) {
      const position = Math.floor(at * count(split) * blockTokens);
      const nth = Math.floor(position / blockTokens);
      const block =
        split === "train"
          ? nth + Math.floor(nth / (HELD_OUT_EVERY - 1))
          : (nth + 1) * HELD_OUT_EVERY - 1;
      const size = Math.min(wanted, blockTokens);
      const offset = Math.min(position % blockTokens, blockTokens - size);
      const ids = info.width === 2 ? new Uint16Array(size) : new Uint32Array(size);
      const bytes = new Uint8Array(ids.buffer);
      const start = (block * blockTokens + offset) * info.width;
      for (let done = 0; done < bytes.length; ) {
        const read = readSync(file, bytes, done, bytes.length - done, start + done);
        if (read === 0) {
          const message = `the token file ends at byte ${start + done}. Delete the folder; it is made anew.`;
          throw new BackboneError("BAD_FILE", folder, message);
        }
        done += read;
      }
      return ids;
    },
    close: () => closeSync(file),
  };
}
