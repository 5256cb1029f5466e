/** @file The table model's four forms, and the Table-3 shape. */
import { describe, expect, it } from "vitest";
import { paperTable3 } from "../src/report/paper-table-3.js";
import { layerFields, type ResultRow } from "../src/results.js";
import { type Table, toCsv, toLatex, toMarkdown, toText } from "../src/table/table.js";
import { formatSaved, tableThree } from "../src/table/table-three.js";

const table: Table = {
  caption: "Two & more",
  columns: [
    { title: "Method", align: "left" },
    { title: "Acc", group: "RTE" },
    { title: "Layer", group: "RTE" },
  ],
  rows: [
    { cells: [{ text: "a|b" }, { text: "66.4" }, { text: "0%" }] },
    { cells: [{ text: "x_1 ★" }, { text: "7.0", bold: true }, { text: "-53%" }], ruled: true },
  ],
  notes: ["A note."],
};

describe("one model, four forms", () => {
  it("Markdown", () => {
    expect(toMarkdown(table)).toBe(
      "Two & more\n\n| Method | RTE Acc | Layer |\n| :-- | --: | --: |\n" +
        "| a\\|b | 66.4 | 0% |\n| x_1 ★ | **7.0** | -53% |\n\nA note.\n",
    );
  });

  it("aligned text", () => {
    expect(toText({ columns: table.columns, rows: table.rows })).toBe(
      [
        "Method  RTE Acc  Layer",
        "------  -------  -----",
        "a|b        66.4     0%",
        "------  -------  -----",
        "x_1 ★     *7.0*   -53%",
        "",
      ].join("\n"),
    );
  });

  it("says a word that ends a group and begins a title once", () => {
    const columns = [{ title: "BERTScore F", group: "Dolly, BERTScore" }];
    expect(toText({ columns, rows: [] })).toMatch(/^Dolly, BERTScore F\n/);
  });

  it("CSV, quoted where needed, formulas disarmed", () => {
    expect(toCsv(table)).toBe("Method,RTE Acc,RTE Layer\r\na|b,66.4,0%\r\nx_1 ★,7.0,-53%\r\n");
    const odd = { columns: [{ title: 'a,"b"' }], rows: [{ cells: [{ text: "=1+1" }] }] };
    expect(toCsv(odd)).toBe('"a,""b"""\r\n\'=1+1\r\n');
  });

  it("LaTeX, escaped", () => {
    const latex = toLatex(table);
    expect(latex).toContain("\\caption{Two \\& more}");
    expect(latex).toContain(" & \\multicolumn{2}{c}{RTE} \\\\");
    expect(latex).toContain("x\\_1 $\\star$ & \\textbf{7.0} & $-$53\\% \\\\");
    // A leading bracket would be an option of the line's end before it.
    const hostile = toLatex({
      columns: [{ title: "a" }],
      rows: [{ cells: [{ text: "[1]\n\\x{}<" }] }],
    });
    expect(hostile).toContain("{[}1] \\textbackslash{}x\\{\\}\\textless{} \\\\");
    expect(latex.match(/\\midrule/g)).toHaveLength(2);
  });
});

const row = (
  task: string,
  method: string,
  operatingPoint: ResultRow["operatingPoint"],
  score: number,
  meanLayer: number | null,
  changes: Partial<ResultRow> = {},
): ResultRow => ({
  task,
  method,
  seed: 1,
  split: "dev",
  metric: "accuracy",
  score,
  fullScore: 0.9,
  operatingPoint,
  knob: null,
  options: {},
  ...layerFields(meanLayer === null ? null : [meanLayer], 10),
  savedRuntime: operatingPoint === "curve" ? null : 0.2,
  n: 1,
  ...changes,
});

describe("the shape of Table 3", () => {
  const rows = [
    row("rte", "full", "full", 0.9, 10, { savedRuntime: 0 }),
    row("sst-2", "full", "full", 0.8, 10, { savedRuntime: 0 }),
    row("rte", "entropy", "full", 0.9, 10),
    row("rte", "entropy", "curve", 0.1, 1),
    row("rte", "entropy", "one-percent", 0.892, 6),
    row("sst-2", "entropy", "one-percent", 0.795, 8),
    row("rte", "entropy", "no-loss", 0.9, 9),
    row("rte", "patience", "one-percent", 0.894, 5),
    row("sst-2", "patience", "one-percent", 0.794, 5),
    row("rte", "hash-ee", "one-percent", 0.89, null, { savedRuntime: -0.04 }),
  ];
  const cells = (built: Table) =>
    built.rows.map((line) => line.cells.map(({ text, bold }) => (bold ? `*${text}` : text)));

  it("says that times say little where rounds disagree, and only there", () => {
    const noted = (savedRuntimeRange: readonly [number, number]) =>
      tableThree([
        row("rte", "entropy", "full", 0.9, 10),
        row("rte", "entropy", "one-percent", 0.89, 6, { savedRuntimeRange }),
      ]).notes?.some((note) => note.includes("rounds of the same measurement differ"));
    expect(noted([0.16, 0.24])).toBe(false);
    expect(noted([-20.5, -2.1])).toBe(true);
  });

  it("has methods as rows, a score and what was saved per task, and plain means", () => {
    const built = tableThree(rows, { runtime: false, taskTitles: { rte: "RTE" } });
    expect(built.columns.map(({ title, group }) => [group, title])).toEqual([
      [undefined, "Method"],
      ["RTE", "Acc"],
      ["RTE", "Layer"],
      ["sst-2", "Acc"],
      ["sst-2", "Layer"],
      ["Averaged", "Score"],
      ["Averaged", "Layer"],
    ]);
    expect(cells(built)).toEqual([
      ["full", "90.0", "0%", "80.0", "0%", "85.0", "0%"],
      ["entropy", "89.2", "-40%", "79.5", "-20%", "84.4", "-30%"],
      ["patience", "*89.4", "*-50%", "79.4", "-50%", "*84.4", "*-50%"],
      ["entropy ★", "90.0", "-10%", "–", "–", "–", "–"],
      ["patience ★", "–", "–", "–", "–", "–", "–"],
    ]);
    expect(built.rows.map(({ ruled }) => ruled)).toEqual([false, true, false, true, false]);
  });

  it("adds measured time per method, and shows methods without exit layers by time alone", () => {
    const titles = tableThree(rows, { noLossFor: [] }).rows.map(
      ({ cells: [first] }) => first!.text,
    );
    expect(titles).toEqual(["full", "entropy ◇", "entropy", "patience ◇", "patience", "hash-ee ◇"]);
    const hash = cells(tableThree(rows)).find(([title]) => title === "hash-ee ◇")!;
    expect(hash.slice(1, 3)).toEqual(["89.0", "+4%"]);
  });

  it("shows each model's own full depth where no method is without exits", () => {
    const built = tableThree(rows.filter(({ method }) => method === "entropy"));
    expect(built.rows[0]!.cells[0]!.text).toBe("entropy, full depth");
  });

  it("averages seeds, with the standard error beside the score", () => {
    const seeds = [0.88, 0.9].map((score, seed) =>
      row("rte", "entropy", "one-percent", score, 5 + seed, { seed }),
    );
    const built = tableThree(seeds, { runtime: false });
    expect(cells(built)[0]!.slice(1, 3)).toEqual(["89.0 ±1.0", "-45%"]);
    expect(built.notes!.join(" ")).toContain("±");
  });

  it("prints saved shares as the paper does", () => {
    expect([0.526, 0, -0.001, -0.04].map(formatSaved)).toEqual(["-53%", "0%", "0%", "+4%"]);
  });
});

describe("the paper's printed figures", () => {
  it("average as printed, but for the cells known to be odd", () => {
    for (const { title, tasks, average } of paperTable3.rows) {
      const values = Object.values(tasks);
      const mean = (of: (cell: { score: number; saved: number }) => number) =>
        values.reduce((sum, cell) => sum + of(cell), 0) / values.length;
      expect(Math.abs(mean(({ score }) => score) - average.score), title).toBeLessThan(0.21);
      const tolerance = title === "PABEE" ? 2 : 1.01;
      expect(Math.abs(mean(({ saved }) => saved) - average.saved), title).toBeLessThan(tolerance);
    }
  });
});
