/** @file Checks values from outside against a shape that is written like the value itself. */

/**
 * A type's name, a list of one shape, fields by name, or one shape out of several. `?` lets null through; a field whose
 * name ends with `?` may be missing.
 */
export type Shape =
  | "text"
  | "number"
  | "number?"
  | "null"
  | readonly [Shape]
  | { readonly oneOf: readonly Shape[] }
  | { readonly [field: string]: Shape };

/** The first place where a value is not of the shape. */
export function mismatch(value: unknown, wanted: Shape, where: string): string | undefined {
  if (typeof wanted === "string") {
    const isFine = {
      text: typeof value === "string",
      number: Number.isFinite(value),
      null: value === null,
      "number?": value === null || Number.isFinite(value),
    }[wanted];
    return isFine
      ? undefined
      : `${where}: expected ${wanted.replace("?", " or null")}, got ${show(value)}`;
  }
  if (isList(wanted)) {
    if (!Array.isArray(value)) return `${where}: expected a list, got ${show(value)}`;
    for (const [index, item] of value.entries()) {
      const problem = mismatch(item, wanted[0], `${where}[${index}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  if (isChoice(wanted)) {
    const problems = wanted.oneOf.map((one) => mismatch(value, one, where));
    return problems.includes(undefined) ? undefined : problems.at(-1);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return `${where || "the file"}: expected an object, got ${show(value)}`;
  }
  for (const [field, inner] of Object.entries(wanted)) {
    const name = field.replace(/\?$/, "");
    const found = (value as Record<string, unknown>)[name];
    if (found === undefined && name !== field) continue;
    const problem = mismatch(found, inner, where === "" ? name : `${where}.${name}`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function isChoice(wanted: Shape): wanted is { readonly oneOf: readonly Shape[] } {
  return typeof wanted === "object" && "oneOf" in wanted;
}

function isList(wanted: Shape): wanted is readonly [Shape] {
  return Array.isArray(wanted);
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 60);
}
