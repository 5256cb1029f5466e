/** @file The report in a real browser: nothing on the console, nothing fetched, it fits, and its controls do what they say. */
import path from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";
import { writeReport } from "../src/report/report.js";
import { temporaryFolder } from "./helpers.js";
import { paperResults, richResults } from "./rich-results.js";

const has = needs("chromium");

describe.runIf(has)("the report in a browser", () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: pathOf("chromium")!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
    });
  });
  afterAll(async () => {
    await browser.close();
  });

  /** Opens a file; `problems` collects whatever a careful page never does. */
  async function openPage(
    file: string,
    { width = 1280, colorScheme = "light" as "light" | "dark", hasTouch = false } = {},
  ) {
    const context = await browser.newContext({
      viewport: { width, height: 900 },
      colorScheme,
      hasTouch,
    });
    const page = await context.newPage();
    const problems: string[] = [];
    const address = pathToFileURL(file).href;
    page.on("console", (message) => problems.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
    page.on("request", (request) => {
      const url = request.url();
      if (url !== address && !url.startsWith("data:")) problems.push(`request: ${url}`);
    });
    await page.goto(address);
    return { page, problems };
  }

  async function report(
    options: Parameters<typeof richResults>[0] = {},
    paper = paperResults(options?.mark),
  ): Promise<string> {
    const file = path.join(await temporaryFolder(), "report.html");
    const { titles, ...results } = richResults(options);
    await writeReport(results, file, {
      title: "Report",
      methodTitles: titles!.methods,
      taskTitles: titles!.tasks,
      paper,
    });
    return file;
  }

  const fits = (page: Page) =>
    page.evaluate(() => {
      const wide = [...document.querySelectorAll("main *")].filter((element) => {
        if (element.closest(".scroll, pre, svg, .visually-hidden")) return false;
        const box = element.getBoundingClientRect();
        return box.width > 0 && box.right > innerWidth + 1;
      });
      return {
        page: document.documentElement.scrollWidth <= innerWidth,
        wide: wide.map((element) => element.outerHTML.slice(0, 120)),
      };
    });

  /** Least contrast of visible texts against what is painted behind them, WCAG's formula. */
  const leastContrast = (page: Page) =>
    page.evaluate(() => {
      const parse = (text: string) => text.match(/[\d.]+/g)!.map(Number);
      const luminance = ([r, g, b]: readonly number[]) => {
        const [x, y, z] = [r!, g!, b!].map((value) => {
          const share = value / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * x! + 0.7152 * y! + 0.0722 * z!;
      };
      let least = { ratio: 21, text: "" };
      for (const element of document.querySelectorAll<HTMLElement>(
        "h1, h2, h3, h4, p, th, td, small, li, dt, dd, summary, button, a, .flag, code, text",
      )) {
        if (element.getClientRects().length === 0 || element.textContent?.trim() === "") continue;
        const style = getComputedStyle(element);
        const ink = parse(element instanceof SVGElement ? style.fill : style.color);
        let behind: Element | null = element;
        let ground = [255, 255, 255];
        while (behind) {
          const color = parse(getComputedStyle(behind).backgroundColor);
          if (color[3] !== 0) {
            ground = color;
            break;
          }
          behind = behind.parentElement;
        }
        const [a, b] = [luminance(ink), luminance(ground)].sort((x, y) => y - x);
        const ratio = (a! + 0.05) / (b! + 0.05);
        if (ratio < least.ratio) least = { ratio, text: element.outerHTML.slice(0, 100) };
      }
      return least;
    });

  it.each([
    { width: 1280, colorScheme: "light", extraMethods: 0 },
    { width: 1280, colorScheme: "dark", extraMethods: 17 },
    { width: 390, colorScheme: "light", extraMethods: 17 },
    { width: 390, colorScheme: "dark", extraMethods: 0 },
  ] as const)(
    "fits $width px in $colorScheme mode with $extraMethods more methods, readable and quiet",
    async ({ width, colorScheme, extraMethods }) => {
      const { page, problems } = await openPage(await report({ extraMethods }), {
        width,
        colorScheme,
      });
      expect(await page.evaluate(() => document.documentElement.dataset.ready)).toBe("true");
      await page.evaluate(() => {
        for (const details of document.querySelectorAll("details")) details.open = true;
      });
      expect(await fits(page)).toEqual({ page: true, wide: [] });
      const { ratio, text } = await leastContrast(page);
      expect(ratio, text).toBeGreaterThan(4.5);
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      expect(ground).toBe(colorScheme === "dark" ? "rgb(13, 17, 23)" : "rgb(255, 255, 255)");
      expect(problems).toEqual([]);
    },
  );

  it("sorts by any column, gaps last, both ways", async () => {
    const { page, problems } = await openPage(await report());
    const heading = page.locator("#comparison-table thead tr:last-child th").nth(2);
    const scores = () =>
      page.evaluate(() =>
        [...document.querySelectorAll("#comparison-table tbody tr")].map((row) =>
          Number.parseFloat(row.children[2]!.textContent!),
        ),
      );
    const before = await scores();
    await heading.getByRole("button").click();
    expect(await heading.getAttribute("aria-sort")).toBe("descending");
    const known = before.filter((value) => !Number.isNaN(value)).sort((a, b) => b - a);
    const gaps = before.filter((value) => Number.isNaN(value));
    expect(gaps.length).toBeGreaterThan(0);
    expect(await scores()).toEqual([...known, ...gaps]);
    await heading.getByRole("button").press("Enter");
    expect(await heading.getAttribute("aria-sort")).toBe("ascending");
    expect(await scores()).toEqual([...known.reverse(), ...gaps]);
    const names = page.locator("#comparison-table thead tr:last-child th").first();
    await names.getByRole("button").click();
    const rows = await page.locator("#comparison-table tbody th").allTextContents();
    expect(rows).toEqual([...rows].sort((a, b) => a.toLowerCase().localeCompare(b.toLowerCase())));
    expect(problems).toEqual([]);
  });

  it("hides a method everywhere with one press, and a task with another", async () => {
    const { page, problems } = await openPage(await report());
    const shown = (selector: string) => page.locator(selector).filter({ visible: true }).count();
    const entropy = '[data-m="1"]';
    const before = {
      rows: await shown(`#comparison-table tr${entropy}`),
      curves: await shown(`.plot g${entropy} .mark`),
      figures: await shown(`figure${entropy}`),
    };
    expect(Math.min(...Object.values(before))).toBeGreaterThan(0);
    const chips = page.locator('button[data-toggle="m"][data-key="1"]');
    await chips.last().click();
    for (const chip of await chips.all())
      expect(await chip.getAttribute("aria-pressed")).toBe("false");
    expect(await shown(`#comparison-table tr${entropy}`)).toBe(0);
    expect(await shown(`.plot g${entropy} .mark`)).toBe(0);
    expect(await shown(`figure${entropy}`)).toBe(0);
    expect(await shown('#comparison-table tr[data-m="2"]')).toBeGreaterThan(0);
    // Another choice of what is shown does not bring it back.
    await page.locator('[data-choose="hp"][data-key="no-loss"]').click();
    expect(await shown(`figure${entropy}`)).toBe(0);
    await chips.first().click();
    expect(await shown(`#comparison-table tr${entropy}`)).toBe(before.rows);

    const cells = await shown('#comparison-table [data-c="1"]');
    await page.locator('button[data-toggle="c"][data-key="1"]').click();
    expect(cells).toBeGreaterThan(0);
    expect(await shown('[data-c="1"]')).toBe(0);
    expect(problems).toEqual([]);
  });

  it("tells a point's numbers on hover, on tap, and when arrow keys walk to it", async () => {
    const file = await report();
    const { page, problems } = await openPage(file);
    const tip = page.locator("#tip");
    const plot = page.locator('#curves .plot[data-axis="saved"]').first();
    await plot.scrollIntoViewIfNeeded();
    const mark = plot.locator(".series").nth(0).locator(".point:has(.one-percent)");
    const box = (await mark.boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await expect.poll(() => tip.isVisible()).toBe(true);
    const text = (await tip.textContent())!;
    for (const part of [
      "Method entropy, within 1 %",
      "accuracy 89.3 [87.3, 91.3] (full depth 90.4)",
      "mean exit layer",
      "threshold = 0.3",
      "measured time −",
    ])
      expect(text).toContain(part);
    await page.mouse.move(2, 2);
    expect(await tip.isVisible()).toBe(false);

    await plot.focus();
    await page.keyboard.press("ArrowRight");
    const first = await tip.textContent();
    await page.keyboard.press("ArrowRight");
    expect(await tip.textContent()).not.toBe(first);
    await page.keyboard.press("ArrowDown");
    expect(await tip.textContent()).toContain("Method patience");
    await page.keyboard.press("Escape");
    expect(await tip.isVisible()).toBe(false);

    await page.locator('[data-choose="axis"][data-key="speedup"]').click();
    expect(await plot.isVisible()).toBe(false);
    const other = page.locator('#curves .plot[data-axis="speedup"]').first();
    await other.focus();
    await page.keyboard.press("ArrowRight");
    expect(await tip.textContent()).toContain("speed-up");
    expect(problems).toEqual([]);

    const phone = await openPage(file, { width: 390, hasTouch: true });
    const bar = phone.page.locator("#exits .point[data-t]").filter({ visible: true }).nth(3);
    await bar.scrollIntoViewIfNeeded();
    await bar.locator(".hit").tap();
    expect(await phone.page.locator("#tip").textContent()).toMatch(/layer 4: \d+ of 120/);
    expect(phone.problems).toEqual([]);
  });

  it("answers what another threshold would do to single inputs", async () => {
    const { page, problems } = await openPage(await report());
    const output = page.locator("#strip-output");
    // At the operating point: one input at layer 12, five at layer 6, all right.
    expect(await output.textContent()).toBe(
      "0.1 · mean exit layer 7.00 of 12, saved layers 42 % · 6 of 6 right (full depth 6)",
    );
    const exits = () =>
      page.evaluate(() =>
        [...document.querySelectorAll("#strips .strip")].map(
          (strip) => [...strip.children].findIndex((cell) => cell.matches(".exit")) + 1,
        ),
      );
    expect(await exits()).toEqual([12, 6, 6, 6, 6, 6]);
    await page.locator("#strip-knob").focus();
    await page.keyboard.press("ArrowRight");
    expect(await exits()).toEqual([2, 2, 2, 2, 2, 2]);
    expect(await output.textContent()).toBe(
      "0.5 · mean exit layer 2.00 of 12, saved layers 83 % · 5 of 6 right (full depth 6)",
    );
    await page.locator("#strip-pick").selectOption({ label: "Task sentiment · Method patience" });
    expect(await exits()).toEqual([12, 6, 6, 6, 6, 6]);
    expect(problems).toEqual([]);
  });

  it("runs nothing that hides in names, texts, labels and errors", async () => {
    const mark = `"><img src=x onerror="document.title='owned'"></script><script>document.title="owned"</script>'&amp;\${1}`;
    const { page, problems } = await openPage(await report({ mark }));
    await page.locator("#strip-knob").focus();
    await page.keyboard.press("ArrowRight");
    await page.locator("#comparison-table button.sort").first().click();
    expect(await page.title()).toBe("Report");
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.locator("#strips .said").first().textContent()).toContain(mark);
    expect(await page.locator("#comparison-table tbody th").allTextContents()).toContain(
      `Method entropy${mark}`,
    );
    expect(problems).toEqual([]);
  });

  it("prints with everything that was folded, and without its controls", async () => {
    const { page, problems } = await openPage(await report(), { colorScheme: "dark" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    expect(await page.locator("details:not([open])").count()).toBe(0);
    expect(await page.locator(".controls").filter({ visible: true }).count()).toBe(0);
    expect(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).toBe(
      "rgb(255, 255, 255)",
    );
    expect(problems).toEqual([]);
  });

  it("would notice an error and a request", async () => {
    const folder = await temporaryFolder({
      "broken.html":
        '<!doctype html><img src="other.png"><script>console.error("said"); missing()</script>',
    });
    const { page, problems } = await openPage(path.join(folder, "broken.html"));
    await page.waitForLoadState("load");
    const all = problems.join("\n");
    expect(all).toContain("uncaught: missing is not defined");
    expect(all).toContain("error: said");
    expect(all).toMatch(/request: file:.*other\.png/);
  });
});
