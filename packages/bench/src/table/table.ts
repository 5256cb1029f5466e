/** @file One table model and its four forms: Markdown, aligned text, CSV and LaTeX. */

export interface Column {
  readonly title: string;
  /** A heading over neighbouring columns of the same group. */
  readonly group?: string;
  /** @default "right" */
  readonly align?: "left" | "right";
}

export interface Cell {
  readonly text: string;
  readonly bold?: boolean;
}

export interface TableRow {
  readonly cells: readonly Cell[];
  /** A rule above this row. */
  readonly ruled?: boolean;
}

export interface Table {
  readonly caption?: string;
  readonly columns: readonly Column[];
  readonly rows: readonly TableRow[];
  /** Lines below the table. */
  readonly notes?: readonly string[];
}

/** One heading per column, for formats without column groups; a group's first column leads with its name. */
function flatTitles(columns: readonly Column[], every: boolean): string[] {
  return columns.map(({ title, group }, index) => {
    const isFirst = index === 0 || columns[index - 1]!.group !== group;
    return group !== undefined && (every || isFirst) ? joinTitles(group, title) : title;
  });
}

/** A word that ends the group and begins the title is said once. */
function joinTitles(group: string, title: string): string {
  const last = group.slice(group.lastIndexOf(" ") + 1);
  return title.startsWith(`${last} `) ? `${group}${title.slice(last.length)}` : `${group} ${title}`;
}

export function toMarkdown(table: Table): string {
  const escapeCell = (text: string) =>
    text.replaceAll("\\", "\\\\").replaceAll("|", "\\|").replaceAll("\n", " ");
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const lines = [
    line(flatTitles(table.columns, false).map(escapeCell)),
    line(table.columns.map(({ align }) => (align === "left" ? ":--" : "--:"))),
    ...table.rows.map(({ cells }) =>
      line(cells.map(({ text, bold }) => (bold ? `**${escapeCell(text)}**` : escapeCell(text)))),
    ),
  ];
  return withText(table, lines);
}

export function toText(table: Table): string {
  const titles = flatTitles(table.columns, false);
  const widths = titles.map((title, index) =>
    Math.max(
      displayWidth(title),
      ...table.rows.map(({ cells }) => displayWidth(mark(cells[index]))),
    ),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((text, index) => {
        const space = " ".repeat(widths[index]! - displayWidth(text));
        return table.columns[index]!.align === "left" ? text + space : space + text;
      })
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  const lines = [line(titles), rule];
  for (const row of table.rows) {
    if (row.ruled) lines.push(rule);
    lines.push(line(table.columns.map((_, index) => mark(row.cells[index]))));
  }
  return withText(table, lines);
}

/** RFC 4180: CRLF, quotes doubled; bold and notes are left out. */
export function toCsv(table: Table): string {
  // A spreadsheet would run text that begins like a formula; a signed number is none.
  const guard = (text: string) =>
    /^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.]/.test(text) ? `'${text}` : text;
  const escapeCell = (text: string) => {
    const guarded = guard(text);
    return /[",\r\n]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
  };
  const lines = [
    flatTitles(table.columns, true),
    ...table.rows.map(({ cells }) => cells.map(({ text }) => text)),
  ];
  return lines.map((cells) => `${cells.map(escapeCell).join(",")}\r\n`).join("");
}

/** A `tabular` for the booktabs package, within `table` when there is a caption. */
export function toLatex(table: Table): string {
  const line = (cells: readonly string[]) => `${cells.join(" & ")} \\\\`;
  const groups = columnGroups(table.columns);
  const lines = [
    `\\begin{tabular}{${table.columns.map(({ align }) => (align === "left" ? "l" : "r")).join("")}}`,
    "\\toprule",
  ];
  if (groups.some(({ group }) => group !== undefined)) {
    lines.push(
      line(
        groups.map(({ group, span }) =>
          group === undefined && span === 1
            ? ""
            : `\\multicolumn{${span}}{c}{${escapeLatex(group ?? "")}}`,
        ),
      ),
    );
  }
  lines.push(line(table.columns.map(({ title }) => escapeLatex(title))), "\\midrule");
  for (const { cells, ruled } of table.rows) {
    if (ruled) lines.push("\\midrule");
    lines.push(
      line(
        cells.map(({ text, bold }) =>
          bold ? `\\textbf{${escapeLatex(text)}}` : escapeLatex(text),
        ),
      ),
    );
  }
  lines.push("\\bottomrule", "\\end{tabular}");
  if (table.caption !== undefined) {
    lines.unshift("\\begin{table}", "\\centering", `\\caption{${escapeLatex(table.caption)}}`);
    lines.push("\\end{table}");
  }
  for (const note of table.notes ?? []) lines.push(`% ${note.replaceAll("\n", " ")}`);
  return `${lines.join("\n")}\n`;
}

/** Runs of neighbouring columns with the same group. */
export function columnGroups(
  columns: readonly Column[],
): { group: string | undefined; span: number }[] {
  const groups: { group: string | undefined; span: number }[] = [];
  for (const { group } of columns) {
    const last = groups.at(-1);
    if (last && group !== undefined && last.group === group) last.span++;
    else groups.push({ group, span: 1 });
  }
  return groups;
}

function withText(table: Table, lines: string[]): string {
  const before = table.caption === undefined ? [] : [table.caption, ""];
  const after = table.notes?.length ? ["", ...table.notes] : [];
  return `${[...before, ...lines, ...after].join("\n")}\n`;
}

function mark(cell: Cell | undefined): string {
  return cell === undefined ? "" : cell.bold ? `*${cell.text}*` : cell.text;
}

function displayWidth(text: string): number {
  return [...text].length;
}

const latexSpecial: Readonly<Record<string, string>> = {
  "\\": "\\textbackslash{}",
  "{": "\\{",
  "}": "\\}",
  $: "\\$",
  "&": "\\&",
  "#": "\\#",
  "%": "\\%",
  _: "\\_",
  "^": "\\textasciicircum{}",
  "~": "\\textasciitilde{}",
  "<": "\\textless{}",
  ">": "\\textgreater{}",
  "|": "\\textbar{}",
  '"': "\\textquotedbl{}",
  // After a line's end an opening bracket would be read as its option.
  "[": "{[}",
  "★": "$\\star$",
  "◇": "$\\diamond$",
  "–": "--",
  "−": "$-$",
  "±": "$\\pm$",
};

function escapeLatex(text: string): string {
  return text
    .replaceAll(/\s+/g, " ")
    .replaceAll(/(?<=^|\s)-(?=\d)/g, "−")
    .replaceAll(/[\\{}$&#%_^~<>|"[★◇–−±]/g, (found) => latexSpecial[found]!);
}
