/** @file JSON for people: objects spread over lines, lists of plain values on one line each. */

/** What `JSON.stringify(value, null, 2)` says, with lists of numbers, texts and short lists of those on one line. */
export function formatJson(value: unknown): string {
  return format(JSON.parse(JSON.stringify(value)), "");
}

function format(value: unknown, indent: string): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const isList = Array.isArray(value);
  if (
    isList &&
    value.every((entry) => isPlain(entry) || (Array.isArray(entry) && entry.every(isPlain)))
  )
    return JSON.stringify(value);
  const inner = `${indent}  `;
  const parts = isList
    ? value.map((entry) => format(entry, inner))
    : Object.entries(value).map(
        ([name, entry]) => `${JSON.stringify(name)}: ${format(entry, inner)}`,
      );
  const [open, close] = isList ? "[]" : "{}";
  if (parts.length === 0) return `${open}${close}`;
  return `${open}\n${parts.map((part) => inner + part).join(",\n")}\n${indent}${close}`;
}

function isPlain(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}
