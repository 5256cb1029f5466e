/** @file What a run folder holds for reading beside the report: Markdown, LaTeX, CSV, SVG and PNG, and making them again. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { main } from "../src/cli.js";
import { chartPicture, openPainter } from "../src/export/picture.js";
import { remakePresentation, writePresentation } from "../src/export/presentation.js";
import { writeResults } from "../src/results.js";
import { temporaryFolder } from "./helpers.js";
import { paperResults, richResults } from "./rich-results.js";
import { syntheticResults } from "./synthetic-results.js";

/** Width, height and grey levels of a PNG of 8-bit RGBA without interlacing. */
function decodePng(data: Uint8Array) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  expect([...data.subarray(1, 4)]).toEqual([..."PNG"].map((letter) => letter.charCodeAt(0)));
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  expect([view.getUint8(24), view.getUint8(25)]).toEqual([8, 6]);
  const parts: Uint8Array[] = [];
  for (let at = 8; at < data.length; at += view.getUint32(at) + 12)
    if (String.fromCharCode(...data.subarray(at + 4, at + 8)) === "IDAT")
      parts.push(data.subarray(at + 8, at + 8 + view.getUint32(at)));
  const packed = inflateSync(Buffer.concat(parts));
  const stride = width * 4;
  const pixels = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = packed[y * (stride + 1)]!;
    for (let x = 0; x < stride; x += 1) {
      const a = x >= 4 ? pixels[y * stride + x - 4]! : 0;
      const b = y > 0 ? pixels[(y - 1) * stride + x]! : 0;
      const c = x >= 4 && y > 0 ? pixels[(y - 1) * stride + x - 4]! : 0;
      const guess = a + b - c;
      const [da, db, dc] = [Math.abs(guess - a), Math.abs(guess - b), Math.abs(guess - c)];
      const paeth = da <= db && da <= dc ? a : db <= dc ? b : c;
      const add = [0, a, b, (a + b) >> 1, paeth][filter]!;
      pixels[y * stride + x] = packed[y * (stride + 1) + 1 + x]! + add;
    }
  }
  return { width, height, dark: (x: number, y: number) => pixels[y * stride + x * 4 + 1]! < 128 };
}

describe("a run folder", () => {
  it("gets everything again from results.json and paper.json alone", async () => {
    const folder = await temporaryFolder();
    const results = richResults();
    await writeResults(path.join(folder, "results.json"), results);
    await writeFile(path.join(folder, "paper.json"), JSON.stringify(paperResults()));
    const { table, files } = await remakePresentation(folder);
    const names = ["report.html", "table.md", "table.tex", "statistics.md", "points.csv", "curves"];
    expect(files.map((file) => path.basename(file))).toEqual(names);
    const read = (name: string) => readFile(path.join(folder, name), "utf8");
    const before = await Promise.all(names.slice(0, 5).map(read));
    expect(before[0]).toContain("Figure 4");
    expect(before[0]).toContain("Method consistentee");
    expect(before[1]).toBe(`${table}\n`);
    expect(table).toContain("| Method consistentee ★ |");
    expect(table).toContain("FAILED similarity, broken, seed 1: the loss is not a number");
    expect(before[2]).toContain("\\begin{tabular}");

    for (const name of names) await rm(path.join(folder, name), { recursive: true });
    const output: string[] = [];
    const [stdout, stderr] = [process.stdout.write, process.stderr.write];
    const keep = (text: unknown) => output.push(String(text)) > 0;
    process.stdout.write = keep as typeof process.stdout.write;
    process.stderr.write = keep as typeof process.stderr.write;
    try {
      expect(await main(["report", folder])).toBe(0);
    } finally {
      process.stdout.write = stdout;
      process.stderr.write = stderr;
    }
    expect(output.join("")).toContain(table);
    expect(await Promise.all(names.slice(0, 5).map(read))).toEqual(before);
  });

  it("says what is wrong with it", async () => {
    const folder = await temporaryFolder({ "results.json": "{" });
    await expect(main(["report"])).rejects.toMatchObject({ code: "BAD_OPTION" });
    await expect(main(["report", folder, "more"])).rejects.toMatchObject({
      code: "UNKNOWN_OPTION",
    });
    await expect(remakePresentation(path.join(folder, "none"))).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
    await expect(remakePresentation(folder)).rejects.toMatchObject({ code: "BAD_RESULTS" });
    await writeResults(path.join(folder, "results.json"), syntheticResults());
    const paper = paperResults();
    const broken = [
      ["{", "expected JSON"],
      [JSON.stringify({ ...paper, schema: 2 }), "schema: expected 1"],
      [
        JSON.stringify({ ...paper, figure4: [{ ...paper.figure4[0], vanilla: [{}] }] }),
        "figure4[0].vanilla[0].alpha: expected number, got undefined",
      ],
      [JSON.stringify({ ...paper, table1: {} }), "table1: expected a list, got {}"],
    ] as const;
    for (const [text, message] of broken) {
      await writeFile(path.join(folder, "paper.json"), text);
      const outcome = remakePresentation(folder);
      await expect(outcome).rejects.toMatchObject({ code: "BAD_RESULTS" });
      await expect(outcome).rejects.toThrow(message);
    }
    expect((await readdir(folder)).sort()).toEqual(["paper.json", "results.json"]);
  });

  it("holds every row in points.csv, and nothing that a spreadsheet would run", async () => {
    const folder = await temporaryFolder();
    const results = syntheticResults();
    const first = { ...results.rows[0]!, method: '=HYPERLINK("x"),\n' };
    await writePresentation(folder, { ...results, rows: [first, ...results.rows.slice(1)] });
    const text = await readFile(path.join(folder, "points.csv"), "utf8");
    const lines = text.split("\r\n");
    expect(lines).toHaveLength(results.rows.length + 2);
    const names = lines[0]!.split(",");
    expect(lines[1]).toContain(`"'=HYPERLINK(""x""),\n"`);
    const row = Object.fromEntries(names.map((name, index) => [name, lines[2]!.split(",")[index]]));
    const source = results.rows[1]!;
    expect(Number(row.score)).toBe(source.score);
    expect(Number(row.savedLayers)).toBe(source.savedLayers);
    expect(Number(row.knobValue)).toBe(source.knob!.value);
    expect(row.exitHistogram).toBe(source.exitHistogram!.join(" "));
    expect(row.savedRuntime).toBe("");
  });

  it("names pictures so that any file system takes them, each task its own", async () => {
    const folder = await temporaryFolder();
    const results = syntheticResults();
    const renamed = ["../a b", "../a/b", ".hidden"];
    const rows = results.rows.map((row) => ({
      ...row,
      task: renamed[["sentiment", "paraphrase", "similarity"].indexOf(row.task)]!,
    }));
    await writePresentation(folder, { ...results, rows });
    const names = (await readdir(path.join(folder, "curves"))).filter((name) =>
      name.endsWith("-time.svg"),
    );
    expect(names.sort()).toEqual(["__a_b-2-time.svg", "__a_b-time.svg", "_hidden-time.svg"]);
  });
});

describe("pictures", () => {
  const evil = `<script>alert(1)</script>&"'`;
  const svg = chartPicture(
    {
      description: evil,
      x: { title: "saved layers, %", unit: "percent" },
      yTitle: evil,
      series: Array.from({ length: 20 }, (_, style) => ({
        name: `${evil} ${"long ".repeat(12)}${style}`,
        style,
        points: [
          { x: 0.1, y: 0.9 - style / 100 },
          { x: 0.6, y: 0.8 - style / 100, mark: "one-percent" as const },
        ],
      })),
      reference: { y: 0.9, name: evil },
    },
    evil,
  );

  it("escape names, and need nothing but themselves", () => {
    expect(svg).not.toContain("<script");
    expect(svg).not.toMatch(/var\(|href|url\(/);
    expect(svg.match(/class="legend"/g)).toHaveLength(20);
  });

  it("become PNGs with letters, curves and marks", async () => {
    const painter = await openPainter();
    if ("missing" in painter) throw new Error(painter.missing);
    const { width, height, dark } = decodePng(painter.paint(svg));
    expect(width).toBe(2 * 420);
    const count = (x0: number, x1: number, y0: number, y1: number) => {
      let found = 0;
      for (let y = y0; y < y1; y += 1) for (let x = x0; x < x1; x += 1) found += Number(dark(x, y));
      return found;
    };
    // Title, tick labels, plot, legend: ink in each; none in the corner.
    expect(count(0, width, 4, 50)).toBeGreaterThan(200);
    expect(count(40, 110, 60, 540)).toBeGreaterThan(100);
    expect(count(130, 800, 80, 560)).toBeGreaterThan(1000);
    expect(count(60, width, 620, height)).toBeGreaterThan(1000);
    expect(count(0, 10, 0, 10)).toBe(0);
  });
});
