/**
 * @file Reads text files of any size as a stream of paragraphs, in memory that does not grow with the file or its lines.
 *
 * Blank lines end a paragraph and wrapped lines are joined. Lines of the form `= = Title = =`, alone or inside a line that
 * holds a whole file, start a document, as does each file.
 */
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { BackboneError } from "../errors.js";

/** A stretch of text without line breaks, in file order. */
export interface TextBlock {
  readonly file: string;
  readonly text: string;
  /** True when text before this block is about something else. */
  readonly startsDocument: boolean;
}

export interface TextStreamOptions {
  /**
   * The longest run of characters without white space that is believed to be text; longer ones are refused.
   * @default 20000
   */
  readonly maxRun?: number;
  /**
   * Longer lines and paragraphs are handed out in parts of at most this many characters, cut at a sentence's end where
   * there is one.
   * @default 8000
   */
  readonly maxBlock?: number;
  /** @default 1 MiB */
  readonly chunkBytes?: number;
}

/** Longer than any heading with its signs. */
const HEADING_ROOM = 300;
const HEADING = /(?:^|\s)(=(?: =)+) (\S(?:.{0,200}?\S)?) \1(?=\s|$)/u;
const HEADINGS = new RegExp(HEADING, "gu");

/**
 * Expands folders into their files, sorted by name, so that a corpus has one order everywhere.
 * @throws BackboneError `MISSING_FILE` when a path does not exist, `EMPTY_CORPUS` when there is no file.
 */
export async function listCorpusFiles(paths: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const path of paths) {
    const info = await stat(path).catch((cause: unknown) => {
      const message = `cannot read the corpus file, got "${path}". Check the path.`;
      throw new BackboneError("MISSING_FILE", "corpus", message, { cause });
    });
    if (info.isDirectory()) {
      const names = (await readdir(path)).filter((name) => !name.startsWith(".")).sort();
      if (names.length > 0) files.push(...(await listCorpusFiles(names.map((n) => join(path, n)))));
    } else {
      files.push(path);
    }
  }
  if (files.length === 0) {
    const got = paths.length === 0 ? "no path" : paths.join(", ");
    throw new BackboneError(
      "EMPTY_CORPUS",
      "corpus",
      `there is no file to read, got ${got}. Name text files or folders that hold some.`,
    );
  }
  return files;
}

/**
 * Yields the paragraphs of the files.
 * @throws BackboneError `MISSING_FILE`, `EMPTY_CORPUS`, `NOT_UTF8` or `ENDLESS_LINE`, naming the file.
 */
export async function* readTextBlocks(
  files: readonly string[],
  options: TextStreamOptions = {},
): AsyncGenerator<TextBlock> {
  for (const file of files) {
    let hasText = false;
    for await (const block of readFileBlocks(file, options)) {
      hasText = true;
      yield block;
    }
    if (!hasText) {
      throw new BackboneError(
        "EMPTY_CORPUS",
        "corpus",
        `a corpus file holds no text, got "${file}". Remove it from the corpus.`,
      );
    }
  }
}

async function* readFileBlocks(
  file: string,
  { maxRun = 20_000, maxBlock = 8000, chunkBytes = 1 << 20 }: TextStreamOptions,
): AsyncGenerator<TextBlock> {
  let startsDocument = true;
  let paragraph = "";
  const emit = function* (raw: string): Generator<TextBlock> {
    for (const part of splitAtHeadings(raw)) {
      if (part.startsDocument) startsDocument = true;
      const text = part.text.replace(/\s+/gu, " ").trim();
      if (text === "") continue;
      yield { file, text, startsDocument };
      startsDocument = false;
    }
  };
  /** Hands out what fits; what stays behind is about `maxBlock` long at most. */
  const flushLong = function* (): Generator<TextBlock> {
    while (paragraph.length > maxBlock + HEADING_ROOM) {
      const cut = findCut(paragraph, maxBlock, maxRun);
      if (cut === undefined) {
        if (paragraph.length <= maxRun) return;
        throw new BackboneError(
          "ENDLESS_LINE",
          "corpus",
          `a line runs on for more than ${maxRun} characters without white space, got "${file}". ` +
            "Is it text? Break such lines or remove the file.",
        );
      }
      yield* emit(paragraph.slice(0, cut));
      paragraph = paragraph.slice(cut);
    }
  };

  let line = "";
  let lineHasText = false;
  for await (const chunk of decodedChunks(file, chunkBytes)) {
    const lines = chunk.split("\n");
    for (let index = 0; index < lines.length; index += 1) {
      line += lines[index] as string;
      const lineEnds = index < lines.length - 1;
      if (lineEnds && !lineHasText && line.trim() === "") {
        yield* emit(paragraph);
        paragraph = "";
        line = "";
        continue;
      }
      // An unfinished line is moved over only when it is long: the blank-line test needs the whole of a short one.
      if (lineEnds || line.length > maxBlock) {
        paragraph += lineEnds ? `${line}\n` : line;
        lineHasText = !lineEnds;
        line = "";
        yield* flushLong();
      }
    }
  }
  paragraph += line;
  yield* flushLong();
  yield* emit(paragraph);
}

/** Where to cut `text` at or before `limit`: after a sentence, else at white space, else later if a run is that long. */
function findCut(text: string, limit: number, maxRun: number): number | undefined {
  const head = text.slice(0, limit);
  let cut = -1;
  for (let at = limit - 1; at > limit / 2 && cut === -1; at -= 1) {
    const code = head.charCodeAt(at);
    const isSpace = code === 32 || code === 10;
    if (isSpace && /[.!?]["')\]]?$/u.test(head.slice(Math.max(0, at - 3), at))) cut = at;
  }
  if (cut === -1) cut = head.search(/\s\S*$/u);
  if (cut <= 0) {
    const later = text.slice(limit).search(/\s/u);
    return later === -1 || later + limit > maxRun ? undefined : limit + later;
  }
  // A torn heading would be read as text.
  for (const match of text.slice(0, limit + HEADING_ROOM).matchAll(HEADINGS)) {
    const end = match.index + match[0].length;
    if (match.index < cut && end > cut) return match.index > 0 ? match.index : end;
  }
  return cut;
}

function* splitAtHeadings(text: string): Generator<{ text: string; startsDocument: boolean }> {
  let rest = text;
  let startsDocument = false;
  for (;;) {
    const match = HEADING.exec(rest);
    if (match === null) {
      yield { text: rest, startsDocument };
      return;
    }
    yield { text: rest.slice(0, match.index), startsDocument };
    yield { text: match[2] as string, startsDocument: true };
    startsDocument = false;
    rest = rest.slice(match.index + match[0].length);
  }
}

async function* decodedChunks(file: string, chunkBytes: number): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const decode = (bytes: Uint8Array | undefined, offset: number): string => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw new BackboneError(
        "NOT_UTF8",
        "corpus",
        `a corpus file is not UTF-8, got "${file}" with a bad byte sequence at or after byte ${offset}. ` +
          "Convert it (iconv -t UTF-8) or remove it.",
        { cause },
      );
    }
  };
  let offset = 0;
  const stream = createReadStream(file, { highWaterMark: chunkBytes });
  try {
    for await (const bytes of stream as AsyncIterable<Buffer>) {
      const text = decode(bytes, offset);
      offset += bytes.byteLength;
      if (text !== "") yield text;
    }
  } catch (cause) {
    if (cause instanceof BackboneError) throw cause;
    const message = `cannot read a corpus file, got "${file}" at byte ${offset}. Check the path.`;
    throw new BackboneError("MISSING_FILE", "corpus", message, { cause });
  }
  const tail = decode(undefined, offset);
  if (tail !== "") yield tail;
}
