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

const percent = (share: number | null | undefined) =>
  share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`;
const points = (score: number) => (100 * score).toFixed(1);

/** A cell has at least one row, and its rows share method, task and seed. */
const firstRow = ({ rows }: CellFile): ResultRow => rows[0] as ResultRow;
const methodOf = (cell: CellFile): string => firstRow(cell).method;
const devRows = ({ rows }: CellFile): readonly ResultRow[] =>
  rows.filter(({ split }) => split === "dev");

/** The row that a method is known by: the fastest within one per cent; else the best of its curve, said to be that. */
function chosen(rows: readonly ResultRow[]): { readonly row: ResultRow; readonly point: string } {
  const at = (name: string) => rows.find(({ operatingPoint }) => operatingPoint === name);
  const [full, within] = [at("full"), at("one-percent")];
  if (full) return { row: full, point: "full depth" };
  if (within) return { row: within, point: "within 1 %" };
  const best = rows.reduce((first, row) => (row.score > first.score ? row : first));
  return { row: best, point: "none within 1 %; its best" };
}

/** What both tables say of a cell: its {@link chosen} row, from the operating point to the half that it was not chosen on. */
const FIGURES = [
  ["point", ":--"],
  ["knob", ":--"],
  ["score (95 %)", "--:"],
  ["full depth", "--:"],
  ["saved layers", "--:"],
  ["saved runtime", "--:"],
  ["chosen on one half, on the other: score of full depth, saved layers", "--:"],
] as const;

function figures(cell: CellFile): readonly string[] {
  const { row, point } = chosen(devRows(cell));
  const { knob, intervals, heldOut } = row;
  const interval = intervals ? ` (${intervals.score.map(points).join(" to ")})` : "";
  const heldSaved =
    heldOut && heldOut.savedLayers !== null ? `, ${percent(heldOut.savedLayers)}` : "";
  return [
    point,
    knob ? `${knob.name} ${knob.value}` : "–",
    `${points(row.score)}${interval}`,
    points(row.fullScore),
    percent(row.savedLayers),
    percent(row.savedRuntime),
    heldOut ? `${points(heldOut.score)} of ${points(heldOut.fullScore)}${heldSaved}` : "–",
  ];
}

/** A Markdown table whose first columns are `own` and whose others are {@link FIGURES}. */
function table(
  own: readonly (readonly [title: string, alignment: string])[],
  rows: readonly (readonly string[])[],
): string {
  const columns = [...own, ...FIGURES];
  return [columns.map(([title]) => title), columns.map(([, alignment]) => alignment), ...rows]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");
}

/** The commands that made these cells, each once, ready to type. */
const commandsOf = (made: readonly CellFile[]): string =>
  [...new Set(made.map(({ made: { command } }) => command))]
    .map((command) => `\`\`\`sh\n${command}\n\`\`\``)
    .join("\n\n");

const inOrder = (names: readonly string[], made: readonly CellFile[]): readonly CellFile[] =>
  [...made].sort((a, b) => names.indexOf(methodOf(a)) - names.indexOf(methodOf(b)));

/** The part of a page that the cells of these methods make. */
export function measured(names: readonly string[]): string {
  const own = inOrder(
    names,
    cells.filter((cell) => names.includes(methodOf(cell))),
  );
  const rows = own.map((cell) => {
    const { method, task, seed } = firstRow(cell);
    return [`\`${method}\``, `${task}, seed ${seed}`, ...figures(cell)];
  });
  return [
    START,
    "## Measured on GLUE",
    ...(own.length === 0
      ? ["No run of it is kept yet."]
      : [
          table(
            [
              ["method", ":--"],
              ["task", ":--"],
            ],
            rows,
          ),
          commandsOf(own),
        ]),
    "[Results](../results.md) tells how to read this, what it was run on, and what it does not show.",
    END,
  ].join("\n\n");
}

/** A page with that part in its place, or at its end where it has none. */
export function withMeasured(page: string, part: string): string {
  const [start, end] = [page.indexOf(START), page.indexOf(END)];
  if (start < 0) return `${page.trimEnd()}\n\n${part}\n`;
  return `${page.slice(0, start)}${part}${page.slice(end + END.length)}`;
}

/** The tables of `results.md`: for each task and seed every method in the order of `bench glue`. */
export function resultsTables(): string {
  const groups = new Map<string, CellFile[]>();
  for (const cell of cells) {
    const { task, seed } = firstRow(cell);
    const title = `${task.toUpperCase()}, seed ${seed}`;
    groups.set(title, [...(groups.get(title) ?? []), cell]);
  }
  const parts = [...groups].flatMap(([title, group]) => {
    const made = inOrder(
      methods.map(({ name }) => name),
      group,
    );
    return [
      `#### ${title}`,
      commandsOf(made),
      table(
        [
          ["method", ":--"],
          ["saved without loss", "--:"],
        ],
        made.map(resultsRow),
      ),
    ];
  });
  return [START, ...parts, END].join("\n\n");
}

function resultsRow(cell: CellFile): readonly string[] {
  const lossless = devRows(cell).find(({ operatingPoint }) => operatingPoint === "no-loss");
  const { method } = firstRow(cell);
  return [
    `[\`${method}\`](methods/${pageOfMethod(method)}.md)`,
    percent(lossless?.savedLayers ?? lossless?.savedRuntime),
    ...figures(cell),
  ];
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
