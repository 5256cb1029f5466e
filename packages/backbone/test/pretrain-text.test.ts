/** @file Streaming a corpus: paragraphs, headings, long lines, and files that are not text. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  listCorpusFiles,
  readTextBlocks,
  type TextStreamOptions,
} from "../src/pretrain/text-stream.js";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cee-text-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function read(content: string | Uint8Array, options?: TextStreamOptions) {
  const file = join(folder, "sample.txt");
  await writeFile(file, content);
  const blocks: { text: string; startsDocument: boolean }[] = [];
  for await (const { text, startsDocument } of readTextBlocks([file], options)) {
    blocks.push({ text, startsDocument });
  }
  return blocks;
}

describe("readTextBlocks", () => {
  it("joins wrapped lines and ends paragraphs at blank lines", async () => {
    const blocks = await read("\ufeffTitle\r\n\r\nOne line\r\nand its end.\r\n  \r\n\r\nNext.\r\n");
    expect(blocks).toEqual([
      { text: "Title", startsDocument: true },
      { text: "One line and its end.", startsDocument: false },
      { text: "Next.", startsDocument: false },
    ]);
  });

  it("starts a document at each heading of a file that is one line", async () => {
    const blocks = await read(
      "the end of it. = = = Confetti = = = Paper. More. = = Use = = Thrown, a = b = c.",
    );
    expect(blocks).toEqual([
      { text: "the end of it.", startsDocument: true },
      { text: "Confetti", startsDocument: true },
      { text: "Paper. More.", startsDocument: false },
      { text: "Use", startsDocument: true },
      { text: "Thrown, a = b = c.", startsDocument: false },
    ]);
  });

  it("cuts long lines after sentences, and never inside a heading", async () => {
    const article = (n: number) => `= = = Article ${n} = = = Some words are here. Others there. `;
    const blocks = await read(Array.from({ length: 400 }, (_, n) => article(n)).join(""), {
      maxBlock: 500,
      maxRun: 1000,
      chunkBytes: 777,
    });
    expect(blocks.filter(({ startsDocument }) => startsDocument)).toHaveLength(400);
    for (const { text } of blocks) {
      expect(text).toMatch(/^(Article \d+|(Some words are here\. ?|Others there\. ?)+)$/);
    }
  });

  it("gives the same blocks whatever the size of the chunks", async () => {
    const content = fc.array(
      fc.constantFrom("word ", "end. ", "\n", "\n\n", " = = Head = = ", "é東", "\r\n", "= "),
      { minLength: 1, maxLength: 120 },
    );
    await fc.assert(
      fc.asyncProperty(content, fc.integer({ min: 1, max: 40 }), async (parts, chunkBytes) => {
        const text = `a${parts.join("")}`;
        const options = { maxBlock: 30, maxRun: 500 };
        expect(await read(text, { ...options, chunkBytes })).toEqual(await read(text, options));
      }),
      { numRuns: 60, seed: 5 },
    );
  });

  it("refuses an endless run of characters in memory that does not grow", async () => {
    const endless = read("x".repeat(300_000), { chunkBytes: 4096 });
    await expect(endless).rejects.toMatchObject({ code: "ENDLESS_LINE" });
  });

  it("refuses bytes that are not UTF-8, and says where", async () => {
    const latin = read(Buffer.concat([Buffer.from("good text "), Buffer.from([0xe9, 0x20])]));
    await expect(latin).rejects.toMatchObject({ code: "NOT_UTF8" });
    const torn = read(Buffer.from("torn \u6771").subarray(0, 7));
    await expect(torn).rejects.toMatchObject({ code: "NOT_UTF8" });
  });

  it("refuses files and folders that hold nothing", async () => {
    await expect(read("")).rejects.toMatchObject({ code: "EMPTY_CORPUS" });
    await expect(read(" \n\n\t\n")).rejects.toMatchObject({ code: "EMPTY_CORPUS" });
    await mkdir(join(folder, "nothing"), { recursive: true });
    await expect(listCorpusFiles([join(folder, "nothing")])).rejects.toMatchObject({
      code: "EMPTY_CORPUS",
    });
    await expect(listCorpusFiles([])).rejects.toMatchObject({ code: "EMPTY_CORPUS" });
    await expect(listCorpusFiles([join(folder, "absent")])).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
  });
});
