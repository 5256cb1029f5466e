/** @file Escaped HTML: a template that escapes whatever it is given, so that text from a run can't become markup. */
import { columnGroups, type Table } from "../table/table.js";

/** Text that is markup already. */
export interface Html {
  readonly html: string;
}

type Value = Html | string | number | undefined | readonly Value[];

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

/** A template: values are escaped unless they are {@link Html}; lists are joined, `undefined` is nothing. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Html {
  let text = strings[0]!;
  for (const [index, value] of values.entries()) text += render(value) + strings[index + 1]!;
  return { html: text };
}

function render(value: Value): string {
  if (value === undefined) return "";
  if (typeof value === "string" || typeof value === "number") return escapeHtml(value);
  if ("html" in value) return value.html;
  return value.map(render).join("");
}

/** Marks text as markup; only for what this package wrote itself. */
export function raw(text: string): Html {
  return { html: text };
}

/** JSON for a `<script type="application/json">` element or an attribute: nothing in it ends the element. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c");
}

/** A heading that sorts its column when pressed. */
export function sortHeading(title: string, attributes: Html = html``): Html {
  return html`<th scope="col" ${attributes}><button type="button" class="sort">${title}</button></th>`;
}

/** A sortable table in a box of its own; the first column holds row headings. */
export function htmlTable(table: Table): Html {
  const groups = columnGroups(table.columns);
  const groupRow = groups.some(({ group }) => group !== undefined)
    ? html`<tr>${groups.map(({ group, span }) =>
        group === undefined
          ? html`<td colspan="${span}"></td>`
          : html`<th scope="colgroup" colspan="${span}">${group}</th>`,
      )}</tr>`
    : undefined;
  const left = (index: number) =>
    table.columns[index]?.align === "left" ? html`class="left"` : html``;
  const body = table.rows.map(({ cells, ruled }) => {
    const inner = cells.map(({ text, bold }, index) => {
      const content = bold ? html`<strong>${text}</strong>` : text;
      return index === 0
        ? html`<th scope="row" class="left">${content}</th>`
        : html`<td ${left(index)}>${content}</td>`;
    });
    return html`<tr ${ruled ? html`class="ruled"` : html``}>${inner}</tr>\n`;
  });
  return html`${scrollBox(
    table.caption ?? "Table",
    html`<table class="sortable">${
      table.caption === undefined ? undefined : html`<caption>${table.caption}</caption>`
    }<thead>${groupRow}<tr>${table.columns.map(({ title }, index) =>
      sortHeading(title, left(index)),
    )}</tr></thead><tbody>
${body}</tbody></table>`,
  )}${(table.notes ?? []).map((note) => html`<p class="note">${note}</p>`)}`;
}

/** A box that scrolls sideways, so that the page does not; reachable by keyboard. */
export function scrollBox(name: string, content: Html): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${name}">${content}</div>`;
}
