/**
 * @file The measured rows on the pages of methods and the tables of `results.md`, from the cells in `docs/results/cells`.
 *
 *     pnpm docs:measured     writes the part below "Measured on GLUE" of each page, and the tables per task of results.md
 *
 * `test/measured.test.ts` fails while a page says something else than the cells.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { methods } from "../packages/bench/src/methods/registry.js";
import type { ResultRow } from "../packages/bench/src/results.js";

const folder = fileURLToPath(new URL("results/cells/", import.meta.url));
const pageOf = (name: string) => fileURLToPath(new URL(`methods/${name}.md`, import.meta.url));

const START = "<!-- From docs/results/cells: pnpm docs:measured -->";
const END = "<!-- End of what pnpm docs:measured writes -->";

/** Pages that are not named after their one method. */
const shared: Readonly<Record<string, readonly string[]>> = {
  consistentee: ["consistentee", "consistentee-vanilla"],
  deebert: ["deebert", "entropy"],
  pabee: ["pabee", "patience"],
  controls: ["full", "truncated", "random", "oracle"],
};
const inShared = new Set(Object.values(shared).flat());

/** The methods of `bench glue` on each page, by the page's name. */
export const measuredPages: ReadonlyMap<string, readonly string[]> = new Map([
  ...Object.entries(shared),
  ...methods
    .filter(({ name }) => !inShared.has(name))
    .map(({ name }): [string, readonly string[]] => [name, [name]]),
]);

interface CellFile {
  readonly identity: Readonly<Record<string, string | number | null>>;
  readonly made: { readonly command: string };
  readonly rows: readonly ResultRow[];
}

const cells: readonly CellFile[] = readdirSync(folder)
  .sort()
  .map((name) => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as CellFile);

const percent = (share: number) => `${Math.round(100 * share)} %`;
const points = (score: number) => (100 * score).toFixed(1);

/** The row that a method is known by: the fastest within one per cent; else the best of its curve, said to be that. */
function chosen(rows: readonly ResultRow[]): { readonly row: ResultRow; readonly point: string } {
  const at = (name: string) => rows.find(({ operatingPoint }) => operatingPoint === name);
  const [full, within] = [at("full"), at("one-percent")];
  if (full) return { row: full, point: "full depth" };
  if (within) return { row: within, point: "within 1 %" };
  const best = rows.reduce((first, row) => (row.score > first.score ? row : first));
  return { row: best, point: "none within 1 %; its best" };
}

function line({ rows }: CellFile): string {
  const { row, point } = chosen(rows.filter(({ split }) => split === "dev"));
  const { low, high } = { low: row.intervals?.score[0], high: row.intervals?.score[1] };
  const interval =
    low === undefined || high === undefined ? "" : ` (${points(low)} to ${points(high)})`;
  const held = row.heldOut;
  return `| ${[
    `\`${row.method}\``,
    `${row.task}, seed ${row.seed}`,
    point,
    row.knob ? `${row.knob.name} ${row.knob.value}` : "–",
    `${points(row.score)}${interval}`,
    points(row.fullScore),
    row.savedLayers === null ? "–" : percent(row.savedLayers),
    row.savedRuntime === undefined || row.savedRuntime === null ? "–" : percent(row.savedRuntime),
    held
      ? `${points(held.score)} of ${points(held.fullScore)}${held.savedLayers === null ? "" : `, ${percent(held.savedLayers)}`}`
      : "–",
  ].join(" | ")} |`;
}

/** The part of a page that the cells of these methods make. */
export function measured(names: readonly string[]): string {
  const own = cells
    .filter(({ rows }) => names.includes(rows[0]?.method as string))
    .sort(
      (a, b) =>
        names.indexOf(a.rows[0]?.method as string) - names.indexOf(b.rows[0]?.method as string),
    );
  const commands = [...new Set(own.map(({ made }) => made.command))];
  const table =
    own.length === 0
      ? "No run of it is kept yet."
      : [
          "| method | task | point | knob | score (95 %) | full depth | saved layers | saved runtime | chosen on one half, on the other |",
          "| :-- | :-- | :-- | :-- | --: | --: | --: | --: | --: |",
          ...own.map(line),
        ].join("\n");
  const how = commands.map((command) => `\`\`\`sh\n${command}\n\`\`\``).join("\n\n");
  return [
    START,
    "",
    "## Measured on GLUE",
    "",
    table,
    "",
    ...(own.length === 0 ? [] : [how, ""]),
    "[Results](../results.md) tells how to read this, what it was run on, and what it does not show.",
    "",
    END,
  ].join("\n");
}

/** A page with that part in its place, or at its end where it has none. */
export function withMeasured(page: string, part: string): string {
  const [start, end] = [page.indexOf(START), page.indexOf(END)];
  if (start < 0) return `${page.trimEnd()}\n\n${part}\n`;
  return `${page.slice(0, start)}${part}${page.slice(end + END.length)}`;
}

/** The tables of `results.md`: for each task and seed every method in the order of `bench glue`. */
export function resultsTables(): string {
  const order = methods.map(({ name }) => name);
  const groups = new Map<string, CellFile[]>();
  for (const cell of cells) {
    const [{ task, seed }] = cell.rows as [ResultRow];
    const key = `${task}, seed ${seed}`;
    groups.set(key, [...(groups.get(key) ?? []), cell]);
  }
  const tables = [...groups].map(([key, group]) => {
    const sorted = group.sort((a, b) => placeOf(order, a) - placeOf(order, b));
    const commands = [...new Set(sorted.map(({ made }) => made.command))];
    return [
      `#### ${key.replace(/^\S+?(?=,)/, (task) => task.toUpperCase())}`,
      "",
      ...commands.map((command) => `\`\`\`sh\n${command}\n\`\`\`\n`),
      "| method | no loss | within 1 % | knob | score (95 %) | full depth | saved layers | saved runtime | on the other half: score of full depth, saved layers |",
      "| :-- | --: | :-- | :-- | --: | --: | --: | --: | --: |",
      ...sorted.map(tableRow),
      "",
    ].join("\n");
  });
  return [START, "", ...tables, END].join("\n");
}

function placeOf(order: readonly string[], { rows }: CellFile): number {
  return order.indexOf(rows[0]?.method as string);
}

/** A row of {@link resultsTables}: how much is saved without loss, then what {@link chosen} gives. */
function tableRow({ rows }: CellFile): string {
  const dev = rows.filter(({ split }) => split === "dev");
  const { row, point } = chosen(dev);
  const lossless = dev.find(({ operatingPoint }) => operatingPoint === "no-loss");
  const saved = lossless && (lossless.savedLayers ?? lossless.savedRuntime);
  const [low, high] = row.intervals?.score ?? [];
  const { heldOut } = row;
  return `| ${[
    `[\`${row.method}\`](methods/${pageOfMethod(row.method)}.md)`,
    saved === undefined || saved === null ? "–" : percent(saved),
    point,
    row.knob ? `${row.knob.name} ${row.knob.value}` : "–",
    low === undefined || high === undefined
      ? points(row.score)
      : `${points(row.score)} (${points(low)} to ${points(high)})`,
    points(row.fullScore),
    row.savedLayers === null ? "–" : percent(row.savedLayers),
    row.savedRuntime === undefined || row.savedRuntime === null ? "–" : percent(row.savedRuntime),
    heldOut
      ? `${points(heldOut.score)} of ${points(heldOut.fullScore)}${heldOut.savedLayers === null ? "" : `, ${percent(heldOut.savedLayers)}`}`
      : "–",
  ].join(" | ")} |`;
}

function pageOfMethod(method: string): string {
  const page = [...measuredPages].find(([, names]) => names.includes(method));
  if (!page) throw new Error(`no page describes ${method}`);
  return page[0];
}

/** What a page says, and what it should say. */
export interface PageState {
  readonly file: string;
  readonly is: string;
  readonly should: string;
}

export function measuredPage(name: string): PageState {
  const file = pageOf(name);
  const is = readFileSync(file, "utf8");
  return { file, is, should: withMeasured(is, measured(measuredPages.get(name) ?? [])) };
}

export function resultsPage(): PageState {
  const file = fileURLToPath(new URL("results.md", import.meta.url));
  const is = readFileSync(file, "utf8");
  return { file, is, should: withMeasured(is, resultsTables()) };
}

if (process.argv[1] === path.resolve(fileURLToPath(import.meta.url)))
  for (const page of [...[...measuredPages.keys()].map(measuredPage), resultsPage()])
    if (page.is !== page.should) writeFileSync(page.file, page.should);
