/** @file Escaped HTML: text from results files can't become markup. */
import { columnGroups, type Table } from "../table/table.js";

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Escapes for element content and for quoted attributes. */
export function escapeHtml(value: unknown): string {
  return String(value).replaceAll(/[&<>"']/g, (found) => entities[found]!);
}

/** A table element; the first column holds row headings. */
export function htmlTable(table: Table): string {
  const groups = columnGroups(table.columns);
  const hasGroups = groups.some(({ group }) => group !== undefined);
  const groupRow = groups
    .map(({ group, span }) =>
      group === undefined
        ? `<td colspan="${span}"></td>`
        : `<th scope="colgroup" colspan="${span}">${escapeHtml(group)}</th>`,
    )
    .join("");
  const titles = table.columns
    .map(
      ({ title, align }) =>
        `<th scope="col"${align === "left" ? ' class="left"' : ""}>${escapeHtml(title)}</th>`,
    )
    .join("");
  const body = table.rows
    .map(({ cells, ruled }) => {
      const inner = cells
        .map(({ text, bold }, index) => {
          const content = bold ? `<strong>${escapeHtml(text)}</strong>` : escapeHtml(text);
          const left = table.columns[index]?.align === "left" ? ' class="left"' : "";
          return index === 0
            ? `<th scope="row" class="left">${content}</th>`
            : `<td${left}>${content}</td>`;
        })
        .join("");
      return `<tr${ruled ? ' class="ruled"' : ""}>${inner}</tr>`;
    })
    .join("\n");
  const caption =
    table.caption === undefined ? "" : `<caption>${escapeHtml(table.caption)}</caption>`;
  const notes = (table.notes ?? [])
    .map((note) => `<p class="note">${escapeHtml(note)}</p>`)
    .join("");
  return (
    `<div class="scroll" tabindex="0"><table>${caption}<thead>` +
    `${hasGroups ? `<tr>${groupRow}</tr>` : ""}<tr>${titles}</tr></thead><tbody>\n${body}\n` +
    `</tbody></table></div>${notes}`
  );
}
