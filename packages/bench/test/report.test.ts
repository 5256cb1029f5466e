/** @file The HTML report as text: content, escaping, self-containment; and its charts. */

import { describe, expect, it } from "vitest";
import { axis } from "../src/report/axis.js";
import { curveChart } from "../src/report/curve-chart.js";
import { histogramChart } from "../src/report/histogram-chart.js";
import { html } from "../src/report/html.js";
import { markerPath } from "../src/report/marker.js";
import { renderReport } from "../src/report/report.js";
import { savedTimeText } from "../src/report/view.js";
import { validateResults } from "../src/results.js";
import { paperResults, richResults } from "./rich-results.js";
import { syntheticResults } from "./synthetic-results.js";

const results = syntheticResults([1, 2]);
const withoutLayers = {
  layers: null,
  meanExitLayer: null,
  savedLayers: null,
  speedup: null,
  exitHistogram: null,
};

/** The texts of one element after another, without markup. */
function cellsOf(row: string): string[] {
  return [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, inner]) =>
    inner!.replaceAll(/<small>.*?<\/small>|<[^>]+>/g, ""),
  );
}

function comparisonRows(page: string): string[] {
  const table = page.slice(page.indexOf('id="comparison-table"'));
  return [...table.slice(0, table.indexOf("</table>")).matchAll(/<tr [^>]*data-m.*?<\/tr>/gs)].map(
    ([row]) => row,
  );
}

describe("the report", () => {
  it("is made of valid results, and the same for the same results", () => {
    expect(validateResults(results)).toBe(results);
    const rich = richResults();
    expect(validateResults(rich)).toBe(rich);
    expect(renderReport(results)).toBe(renderReport(syntheticResults([1, 2])));
  });

  it("asks for nothing from outside", () => {
    const page = renderReport(richResults(), { paper: paperResults() });
    expect(page).not.toMatch(/\b(src|href|action)=(?!"(data:|#))/);
    expect(page).not.toMatch(/https?:|url\(|@import|\bfetch\b|XMLHttpRequest|innerHTML/);
    expect(page).toContain("default-src 'none'");
  });

  it("escapes every text from the results and from paper.json", () => {
    const evil = `<img src=x onerror="alert(1)">'&</script><script>alert(2)</script><!--`;
    const page = renderReport(
      {
        ...richResults({ mark: evil, seeds: [1, 2] }),
        preset: evil,
        backbone: { kind: evil, [evil]: 1 },
        data: { source: "folder", folder: evil, tasks: { [evil]: { [evil]: evil } } },
        versions: { [evil]: evil },
        machine: { [evil]: evil },
      },
      { title: evil, paper: paperResults(evil) },
    );
    expect(page).not.toMatch(/<img|<script>alert|<!--/);
    expect(page).toContain("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#39;&amp;");
    // The page's own script, and the data of single inputs.
    expect(page.match(/<script/g)).toHaveLength(2);
    expect(page.match(/<\/script/g)).toHaveLength(2);
  });

  it("shows saved layers and measured time beside every score, with intervals", () => {
    const page = renderReport(richResults());
    const rows = comparisonRows(page).map(cellsOf);
    const entropy = rows.find(([name, point]) => name === "entropy" && point === "within 1 %")!;
    const source = richResults().rows.find(
      ({ task, method, operatingPoint }) =>
        task === "sentiment" && method === "entropy" && operatingPoint === "one-percent",
    )!;
    expect(entropy[2]).toBe((100 * source.score).toFixed(1));
    expect(entropy[3]).toBe(`−${Math.round(100 * source.savedLayers!)}%`);
    expect(entropy[4]).toBe(`−${Math.round(100 * source.savedRuntime!)}%`);
    const low = (100 * (source.score - 0.02)).toFixed(1);
    const high = (100 * (source.score + 0.02)).toFixed(1);
    expect(page).toContain(`<small>[${low}, ${high}]</small>`);
    // Full depth once, then every other method at both points.
    const others = ["entropy", "patience", "consistentee", "broken", "hash"];
    expect(rows.map(([name]) => name)).toEqual(["full", ...others, ...others]);
  });

  it("sets the best in bold by the paper's rule: score and saving both", () => {
    const bold = comparisonRows(renderReport(syntheticResults([1]))).map((row) => [
      cellsOf(row)[0],
      cellsOf(row)[1],
      (row.match(/<strong>/g) ?? []).length,
    ]);
    // At one saving for all, ConsistentEE scores best on each of three tasks and on average.
    for (const [name, point, count] of bold)
      expect(count).toBe(name === "consistentee" && point !== "full depth" ? 8 : 0);
  });

  it("speaks of tokens where texts were generated, draws tokens per second, and puts responses side by side", () => {
    const rows = results.rows.map((row, index) => ({
      ...row,
      texts: 4,
      tokensPerSecond: 100 + index,
    }));
    const answer = { method: "entropy", knob: null, speedup: 1.5, score: 0.5 };
    const sample = { task: "sentiment", id: "prompt-1", prompt: "Say <hi>.", reference: "hi" };
    const page = renderReport({
      ...results,
      rows,
      responses: [{ ...sample, answers: [{ ...answer, text: "a long <answer>" }] }],
    });
    const rate = [...page.matchAll(/data-axis="rate"><svg.*?<\/svg>/gs)].map(
      ([svg]) => svg.match(/data-i=/g)?.length,
    );
    // Every point, the curve's and full depth too.
    expect(rate).toEqual(Array(3).fill(3 * 2 * 15));
    expect(page).toContain("100 tokens per second");
    expect(page).toContain("Where tokens leave");
    expect(page).not.toContain("most frequent class");
    expect(page).not.toContain("Beside the paper");
    expect(page).toContain('<td class="left response">a long &lt;answer&gt;</td>');
    const classified = renderReport(results);
    expect(classified).not.toContain('data-axis="rate"');
    expect(classified).toContain("Where inputs leave");
    expect(classified).toContain("Beside the paper");
  });

  it("shows failed and left-out cells with their reason", () => {
    const page = renderReport(richResults());
    const rows = comparisonRows(page);
    const texts = (name: string) => cellsOf(rows.find((row) => cellsOf(row)[0] === name)!);
    expect(texts("broken").filter((text) => text === "failed")).toHaveLength(1);
    expect(texts("hash").filter((text) => text === "left out")).toHaveLength(1);
    expect(page).toContain("similarity: broken: the loss is not a number");
    expect(page).toContain("similarity: hash: made for classification");
  });

  it("draws every point of every curve against saved layers and speed-up, and the timed ones against time", () => {
    const page = renderReport(results);
    const charts = [...page.matchAll(/data-axis="(\w+)"><svg.*?<\/svg>/gs)].map(
      ([svg, name]) => [name, svg.match(/data-i=/g)!.length] as const,
    );
    const marks = (name: string) =>
      charts.filter(([axisName]) => axisName === name).reduce((sum, [, count]) => sum + count, 0);
    // 3 tasks x 3 methods x 2 seeds x (14 knob values, of which 2 are operating points, and full depth).
    expect(marks("saved")).toBe(3 * 3 * 2 * 15);
    expect(marks("speedup")).toBe(3 * 3 * 2 * 15);
    expect(marks("time")).toBe(3 * 3 * 2 * 2);
    expect(page).not.toContain('data-key="work"');
    // A method that saves operations and no layers has a chart of its own, beside all others.
    const rows = results.rows.map((row) =>
      row.method === "entropy" ? { ...row, ...withoutLayers, cost: 0.6 } : row,
    );
    const mixed = renderReport({ ...results, rows });
    expect(mixed).toContain('data-choose="axis" data-key="work"');
    expect(mixed).toContain("<small>operations −40%</small>");
    expect(mixed).toContain("operations 60.0 % of full depth");
    expect(page).toContain("threshold = 0.3");
    expect(page).toContain("onnxruntime-node 1.30.0");
  });

  it("shows exits by kind of input and by class, and flags exits that are only the majority class", () => {
    const page = renderReport(richResults());
    // 3 tasks x 3 methods x 2 points x 2 ways to stack.
    expect(page.match(/<figcaption>/g)).toHaveLength(3 * 3 * 2 * 2);
    expect(page.match(/class="flag">[^<]*/g)).toEqual(
      Array.from({ length: 2 * 2 * 2 }, () => 'class="flag">early exits: only “positive”'),
    );
    // Several seeds are added up.
    expect(renderReport(results)).toContain("of 240 (");
  });

  it("lays the paper's numbers beside ours where a run has its tasks, marked as quoted", () => {
    expect(renderReport(results)).toContain("none of the paper's tasks");
    const rows = results.rows.map((row) => ({
      ...row,
      task: row.task === "sentiment" ? "sst-2" : row.task,
    }));
    const page = renderReport({ ...results, rows });
    expect(page).toContain("quoted from ConsistentEE, AAAI 2024");
    const at = page.indexOf('<th scope="row">ConsistentEE</th>');
    const cells = cellsOf(page.slice(at, page.indexOf("</tr>", at)));
    expect(cells[2]).toBe("90.7");
    expect(cells[4]).toBe("−58%");
    expect(page.slice(at, at + 300)).toContain('<td class="quoted">90.7</td>');
  });

  it("draws the paper's tables and figures from paper.json, and says what could not be made", () => {
    const page = renderReport(richResults(), { paper: paperResults() });
    for (const title of ["Table 1", "Table 2", "Figure 2", "Figure 3", "Figure 4"])
      expect(page).toContain(`<h3>${title}`);
    expect(page).toContain("0.76");
    expect(page).toContain("table 2, mnli: no such file");
    expect(renderReport(richResults())).not.toContain("Figure 2");
  });

  it("says so when there are no rows, or no exit layers", () => {
    expect(renderReport({ ...results, rows: [] })).toContain("This run has no rows.");
    const rows = results.rows.map((row) => ({ ...row, ...withoutLayers }));
    const bare = renderReport({ ...results, rows });
    expect(bare).toContain("No method of this task has exit layers.");
    expect(bareText(bare)).not.toMatch(/\bNaN\b|undefined|Infinity/);
  });

  it("has no number that isn't one", () => {
    const numbers = /\bNaN\b|undefined|Infinity/;
    expect(bareText(renderReport(results))).not.toMatch(numbers);
    expect(bareText(renderReport(richResults(), { paper: paperResults() }))).not.toMatch(numbers);
    const single = results.rows
      .filter(({ operatingPoint }) => operatingPoint === "full")
      .slice(0, 1);
    expect(bareText(renderReport({ ...results, rows: single }))).not.toMatch(numbers);
  });

  it("keeps a second split of a task apart, and out of the averages", () => {
    const more = results.rows
      .filter(({ task }) => task === "sentiment")
      .map((row) => ({ ...row, split: "dev-mismatched", score: row.score / 2 }));
    const plain = comparisonRows(renderReport(results)).map(cellsOf);
    const page = renderReport({ ...results, rows: [...results.rows, ...more] });
    expect(page).toContain("sentiment, dev-mismatched");
    const mixed = comparisonRows(page).map(cellsOf);
    expect(mixed.map((row) => row.slice(-3))).toEqual(plain.map((row) => row.slice(-3)));
  });
});

/** The page without its script and style. */
function bareText(page: string): string {
  return page.replaceAll(/<(script|style)>.*?<\/\1>/gs, "");
}

describe("the template", () => {
  it("escapes values, joins lists, and leaves markup alone", () => {
    const value = `<b a="1">&'`;
    expect(html`<p title="${value}">${[value, html`<i>${1}</i>`, undefined]}</p>`.html).toBe(
      '<p title="&lt;b a=&quot;1&quot;&gt;&amp;&#39;">&lt;b a=&quot;1&quot;&gt;&amp;&#39;<i>1</i></p>',
    );
  });
});

describe("charts", () => {
  it("put round ticks around the data", () => {
    const { low, high, ticks, at } = axis([0.713, 0.902], "percent", 5);
    expect(low).toBeCloseTo(0.7, 9);
    expect(high).toBeCloseTo(0.95, 9);
    expect(ticks.map(({ label }) => label)).toEqual(["70", "75", "80", "85", "90", "95"]);
    expect(at(0.825)).toBeCloseTo(0.5, 9);
    const flat = axis([0.5, 0.5], "percent", 5);
    expect(flat.high).toBeGreaterThan(flat.low);
  });

  it("draw factors so that twice as fast is one step wherever it starts", () => {
    const { at, ticks } = axis([1, 11.5], "times", 5);
    expect(at(4) - at(2)).toBeCloseTo(at(8) - at(4), 9);
    expect(ticks[0]!.label).toBe("1×");
    expect(at(11.5)).toBeLessThanOrEqual(1);
    expect(axis([], "times", 5).ticks.length).toBeGreaterThan(1);
  });

  it("place points inside the plot", () => {
    const svg = curveChart({
      description: "d",
      x: { title: "saved layers, %", unit: "percent" },
      yTitle: "Acc",
      series: [
        {
          name: "a",
          style: 0,
          points: [
            { x: -0.1, y: 0.2 },
            { x: 0.95, y: 0.99 },
          ],
        },
      ],
    }).html;
    const places = [...svg.matchAll(/class="point" transform="translate\(([\d.-]+) ([\d.-]+)\)"/g)];
    expect(places).toHaveLength(2);
    for (const [, x, y] of places) {
      expect(Number(x)).toBeGreaterThanOrEqual(58);
      expect(Number(x)).toBeLessThanOrEqual(404);
      expect(Number(y)).toBeGreaterThanOrEqual(12);
      expect(Number(y)).toBeLessThanOrEqual(256);
    }
  });

  it("give neighbours different markers", () => {
    for (let style = 0; style < 20; style += 1)
      expect(markerPath(style, 4)).not.toBe(markerPath(style + 1, 4));
  });

  it("stack groups only where they add up", () => {
    const bars = (groups: Record<string, number[]>) =>
      histogramChart({ counts: [2, 3], groups, meanExitLayer: 1.6 }, "m").html.match(
        /class="bar/g,
      )!;
    expect(bars({ a: [1, 1], b: [1, 2] })).toHaveLength(4);
    expect(bars({ a: [1, 1], b: [1, 1] })).toHaveLength(2);
  });
});

it("shows beside a measured time what single rounds saved", () => {
  expect(savedTimeText({ savedRuntime: 0.53, savedRuntimeRange: [-0.2, 0.61] })).toBe(
    "−53% (rounds +20% to −61%)",
  );
  expect(savedTimeText({ savedRuntime: 0.53 })).toBe("−53%");
  expect(savedTimeText({ savedRuntime: null })).toBe("–");
});
