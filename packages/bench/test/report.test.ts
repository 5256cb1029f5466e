/** @file The HTML report: content, escaping, self-containment, and a look at it in a real browser. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { axis, curveChart } from "../src/report/curve-chart.js";
import { histogramChart } from "../src/report/histogram-chart.js";
import { renderReport, writeReport } from "../src/report/report.js";
import { validateResults } from "../src/results.js";
import { temporaryFolder } from "./helpers.js";
import { syntheticResults } from "./synthetic-results.js";

const results = syntheticResults([1, 2]);

describe("the report", () => {
  it("is made of valid results, and the same for the same results", () => {
    expect(validateResults(results)).toBe(results);
    expect(renderReport(results)).toBe(renderReport(syntheticResults([1, 2])));
  });

  it("asks for nothing from outside", () => {
    const html = renderReport(results);
    expect(html).not.toMatch(/\b(src|href)=(?!"data:)/);
    expect(html).not.toMatch(/https?:|url\(|@import|\bfetch\b/);
    expect(html).toContain("default-src 'none'");
  });

  it("escapes text from the results", () => {
    const evil = `<img src=x onerror="alert(1)">'&`;
    const rows = results.rows.map((row) => ({
      ...row,
      task: row.task + evil,
      method: row.method + evil,
      metric: evil,
      exitHistogramBy: { [evil]: row.exitHistogram! },
    }));
    const html = renderReport(
      { ...results, rows, command: evil, preset: evil, backbone: evil, versions: { [evil]: evil } },
      { title: evil },
    );
    expect(html).not.toContain("<img");
    expect(html).toContain("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#39;&amp;");
  });

  it("shows every curve point with its knob, every operating point and every histogram", () => {
    const html = renderReport(results);
    const tips = html.match(/data-tip="[^"]*saved layers|data-tip="[^"]*mean exit layer/g)!;
    // 3 tasks x 3 methods x 2 seeds x (14 knob values, of which 2 are operating points, and full depth).
    expect(tips).toHaveLength(3 * 3 * 2 * 15);
    expect(html.match(/<figcaption>/g)).toHaveLength(3 * 3 * 2);
    expect(html).toContain("threshold = 0.3");
    expect(html).toContain("(quoted)");
    expect(html).toContain("onnxruntime-node 1.30.0");
  });

  it("says so when there are no rows, or no exit layers", () => {
    expect(renderReport({ ...results, rows: [] })).toContain("This run has no rows.");
    const rows = results.rows.map((row) => ({
      ...row,
      layers: null,
      meanExitLayer: null,
      savedLayers: null,
      speedup: null,
      exitHistogram: null,
    }));
    const bare = renderReport({ ...results, rows });
    expect(bare).toContain("No method of this task has exit layers.");
    expect(bare).not.toMatch(/NaN|undefined|Infinity/);
  });

  it("has no number that isn't one", () => {
    expect(renderReport(results)).not.toMatch(/NaN|undefined|Infinity/);
    const single = results.rows
      .filter(({ operatingPoint }) => operatingPoint === "full")
      .slice(0, 1);
    expect(renderReport({ ...results, rows: single })).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe("charts", () => {
  it("put round ticks around the data", () => {
    const { low, high, ticks } = axis(0.713, 0.902, 5);
    expect(low).toBeCloseTo(0.7, 9);
    expect(high).toBeCloseTo(0.95, 9);
    expect(ticks).toHaveLength(6);
    const flat = axis(0.5, 0.5, 5);
    expect(flat.high).toBeGreaterThan(flat.low);
  });

  it("place points inside the plot", () => {
    const point = (x: number, y: number) => ({ x, y, tip: "t" });
    const svg = curveChart({
      description: "d",
      yTitle: "Acc",
      series: [{ name: "a", style: 0, points: [point(-0.1, 0.2), point(0.95, 0.99)] }],
    });
    const centres = [...svg.matchAll(/class="mark" cx="([\d.-]+)" cy="([\d.-]+)"/g)];
    expect(centres).toHaveLength(2);
    for (const [, x, y] of centres) {
      expect(Number(x)).toBeGreaterThanOrEqual(46);
      expect(Number(x)).toBeLessThanOrEqual(426);
      expect(Number(y)).toBeGreaterThanOrEqual(14);
      expect(Number(y)).toBeLessThanOrEqual(258);
    }
  });

  it("stack groups only where they add up", () => {
    const bars = (groups: Record<string, number[]>) =>
      histogramChart({ counts: [2, 3], groups, meanExitLayer: 1.6 }, "m").match(/class="bar/g)!;
    expect(bars({ a: [1, 1], b: [1, 2] })).toHaveLength(4);
    expect(bars({ a: [1, 1], b: [1, 1] })).toHaveLength(2);
  });
});

const browser = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);

/** Opens a page and gives its console errors and its document after the scripts ran. */
async function openPage(file: string, width: number) {
  const { stdout, stderr } = await promisify(execFile)(
    browser!,
    [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--enable-logging=stderr",
      "--log-level=0",
      `--user-data-dir=${path.join(path.dirname(file), "profile")}`,
      `--window-size=${width},900`,
      "--virtual-time-budget=2000",
      "--dump-dom",
      pathToFileURL(file).href,
    ],
    { timeout: 50_000, maxBuffer: 1 << 26 },
  );
  const errors = stderr
    .split("\n")
    .filter((line) => line.includes(":CONSOLE"))
    .map((line) => line.slice(line.indexOf("]") + 1).trim());
  return { dom: stdout, errors };
}

const missing = browser ? "" : " (skipped: no chromium here)";
describe.skipIf(!browser)(`in a browser${missing}`, () => {
  it.each([1200, 500])("runs without console errors and fits a window of %i", async (width) => {
    const folder = await temporaryFolder();
    const file = path.join(folder, "report.html");
    await writeReport(results, file, { title: "Report" });
    // The probe acts as a visitor does: it points at a mark, then hides a method.
    const probe = `<script>
      const mark = document.querySelector("[data-tip]");
      mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 40, clientY: 40 }));
      const seen = document.getElementById("tip");
      document.body.dataset.tip = String(seen.style.visibility === "visible" && seen.textContent === mark.dataset.tip);
      document.querySelector(".legend button").click();
      document.body.dataset.hidden = document.querySelectorAll(".series.hidden").length;
      document.body.dataset.wide = String(document.documentElement.scrollWidth > innerWidth);
    </script>`;
    const html = await readFile(file, "utf8");
    await writeFile(file, html.replace("</body>", `${probe}</body>`));
    const { dom, errors } = await openPage(file, width);
    expect(errors).toEqual([]);
    expect(dom).toContain('data-ready="true"');
    // One method on three tasks with two seeds.
    expect(dom).toMatch(/<body[^>]* data-tip="true"[^>]* data-hidden="6"[^>]* data-wide="false"/);
  });

  it("would notice an error", async () => {
    const folder = await temporaryFolder({
      "broken.html": "<!doctype html><script>missingFunction()</script>",
    });
    const { errors } = await openPage(path.join(folder, "broken.html"), 800);
    expect(errors.join()).toContain("missingFunction is not defined");
  });
});
