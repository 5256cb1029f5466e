/** @file The built site: links and anchors lead somewhere, and its pages open in a browser without a complaint. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needs, pathOf } from "../../test/needs.js";
import { linkOf } from "../.vitepress/pages.js";

const site = fileURLToPath(new URL("../.vitepress/dist/", import.meta.url));
if (!existsSync(site)) throw new Error("[docs] there is no site. Run `pnpm docs:site` first.");

const pages = readdirSync(site, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".html") && name !== "404.html")
  .sort();
const textOf = new Map(pages.map((page) => [page, readFileSync(path.join(site, page), "utf8")]));

/** Values of an attribute, as a browser reads them. */
function valuesOf(html: string, pattern: RegExp): string[] {
  return [...html.matchAll(pattern)].map(([, value]) =>
    (value as string).replaceAll("&amp;", "&").replaceAll("&#39;", "'").replaceAll("&quot;", '"'),
  );
}

const idsOf = new Map(
  pages.map((page) => [page, new Set(valuesOf(textOf.get(page)!, /\sid="([^"]+)"/g))]),
);

/** What is wrong with a link from a page, `undefined` when it leads somewhere. */
function problemOf(page: string, href: string): string | undefined {
  const { pathname, hash, origin } = new URL(href, `http://site/${page}`);
  if (origin !== "http://site") return undefined;
  const place = decodeURIComponent(pathname).slice(1);
  const target = place === "" || place.endsWith("/") ? `${place}index.html` : place;
  if (!existsSync(path.join(site, target))) return `${page}: there is no ${target}`;
  const id = decodeURIComponent(hash.slice(1));
  return id === "" || idsOf.get(target)?.has(id)
    ? undefined
    : `${page}: ${target} has no place "${id}"`;
}

describe("a link of the site", () => {
  it("leads to a page, a file, and a place on it", () => {
    const problems = pages.flatMap((page) =>
      valuesOf(textOf.get(page)!, /<a\s[^>]*?href="([^"]*)"/g).flatMap(
        (href) => problemOf(page, href) ?? [],
      ),
    );
    expect(problems).toEqual([]);
  });

  it("would be noticed if it did not", () => {
    expect(problemOf("index.html", "/results.html#runs")).toBeUndefined();
    expect(problemOf("index.html", "/result.html")).toBe("index.html: there is no result.html");
    expect(problemOf("methods/index.html", "../results.html#nowhere")).toBe(
      'methods/index.html: results.html has no place "nowhere"',
    );
    expect(() => linkOf("docs/index.md", "nothing.md")).toThrow(
      "[docs] docs/index.md: there is no docs/nothing.md. Mend the link.",
    );
  });

  it("loses nothing but files that have no page", () => {
    expect(linkOf("docs/presets.md", "../packages/consistentee/README.md#options")).toBe(
      "/packages/consistentee.md#options",
    );
    expect(linkOf("docs/engine.md", "../packages/model-mini")).toBe("/packages/model-mini.md");
    expect(linkOf("docs/index.md", "../README.md")).toBe("/");
    expect(linkOf("docs/index.md", "../LICENSE")).toBeUndefined();
  });
});

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};

describe.runIf(needs("chromium"))("the site in a browser", () => {
  let browser: Browser;
  let server: Server;
  let origin: string;

  beforeAll(async () => {
    server = createServer(({ url = "/" }, response) => {
      const { pathname } = new URL(url, "http://site");
      const file = path.join(site, decodeURIComponent(pathname).replace(/\/$/, "/index.html"));
      const isThere = file.startsWith(site) && existsSync(file);
      response.writeHead(isThere ? 200 : 404, {
        "content-type": types[path.extname(file)] ?? "application/octet-stream",
      });
      response.end(isThere ? readFileSync(file) : "");
    });
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    browser = await chromium.launch({
      executablePath: pathOf("chromium")!,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
    });
  });
  afterAll(async () => {
    await browser.close();
    server.close();
  });

  /** Opens pages one after the other; `problems` collects whatever a careful page never does. */
  async function visitor({
    width = 1280,
    colorScheme = "light",
  }: {
    width?: number;
    colorScheme?: "light" | "dark";
  }) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    const problems: string[] = [];
    /** Where on the site the page is, for the sake of whoever reads of a problem. */
    const place = () => page.url().replace(`${origin}/`, "");
    page.on("console", (message) =>
      problems.push(`${place()}: ${message.type()}: ${message.text()}`),
    );
    page.on("pageerror", (error) => problems.push(`${place()}: uncaught: ${error.message}`));
    page.on("request", (request) => {
      if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith("data:"))
        problems.push(`request: ${request.url()}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) problems.push(`${response.status()}: ${response.url()}`);
    });
    return { page, problems };
  }

  /** Opens a page, and waits until it is alive. */
  async function open(page: Page, name: string) {
    await page.goto(`${origin}/${name}`);
    await page.waitForFunction(() => "__vue_app__" in (document.querySelector("#app") ?? {}));
  }

  const looks = [
    { name: "light", width: 1280, colorScheme: "light" },
    { name: "dark", width: 1280, colorScheme: "dark" },
    { name: "phone", width: 390, colorScheme: "dark" },
  ] as const;

  /** Pages that differ in more than their words. */
  const guides = pages.filter(
    (file) =>
      !file.includes("/") ||
      file.endsWith("index.html") ||
      file.startsWith("troubleshooting/") ||
      file === "methods/features.html",
  );

  it.each(looks)(
    "shows every guide without a complaint: $name",
    { timeout: 300_000 },
    async (look) => {
      const { page, problems } = await visitor(look);
      for (const name of guides) {
        await open(page, name);
        expect(await page.locator("main h1").first().isVisible(), name).toBe(true);
        const { isDark, overflow, broken } = await page.evaluate(() => ({
          isDark: document.documentElement.classList.contains("dark"),
          overflow: document.documentElement.scrollWidth - innerWidth,
          broken: [...document.images].filter((image) => image.naturalWidth === 0).length,
        }));
        expect({ name, isDark, broken }).toEqual({
          name,
          isDark: look.colorScheme === "dark",
          broken: 0,
        });
        expect(overflow, `${name} is wider than the screen`).toBeLessThanOrEqual(0);
        const folder = process.env.CEE_SCREENSHOTS;
        if (folder)
          await page.screenshot({
            path: path.join(folder, `${look.name}-${name.replaceAll("/", "-")}.png`),
            fullPage: true,
          });
      }
      expect(problems).toEqual([]);
    },
  );

  it("draws figures in the colours of the page", async () => {
    const colours: string[] = [];
    for (const colorScheme of ["light", "dark"] as const) {
      const { page, problems } = await visitor({ colorScheme });
      await open(page, "concepts.html");
      const drawings = page.locator("main svg[role=img]");
      expect(await drawings.count()).toBe(4);
      const text = drawings.first().locator("text").first();
      colours.push(await text.evaluate((element) => getComputedStyle(element).fill));
      expect(problems).toEqual([]);
    }
    expect(colours).toEqual(["rgb(31, 41, 55)", "rgb(229, 231, 235)"]);
  });

  it("finds a word", async () => {
    const { page, problems } = await visitor({});
    await open(page, "index.html");
    await page.keyboard.press("Control+k");
    await page.locator(".VPLocalSearchBox input").fill("patience");
    const results = page.locator(".VPLocalSearchBox .result");
    await results.first().waitFor();
    expect((await results.allTextContents()).join("\n")).toMatch(/patience/i);
    expect(problems).toEqual([]);
  });

  it("would notice an error and a request", async () => {
    const { page, problems } = await visitor({});
    await open(page, "index.html");
    await page.evaluate(() => {
      console.error("said");
      return fetch("/nothing.json").catch(() => undefined);
    });
    expect(problems.join("\n")).toContain("error: said");
    expect(problems.join("\n")).toContain("404: ");
  });
});
