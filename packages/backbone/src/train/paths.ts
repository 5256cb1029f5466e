/** @file Parameter path patterns: `*` matches one segment, `**` any number of segments. */

/** Turns patterns such as `heads.*.classifier.*` and `backbone.**` into a test. */
export function pathMatcher(patterns: readonly string[]): (path: string) => boolean {
  const expressions = patterns.map(
    (pattern) => new RegExp(`^${pattern.split(".").map(segment).join("\\.")}$`),
  );
  return (path) => expressions.some((expression) => expression.test(path));
}

function segment(text: string): string {
  if (text === "**") return ".+";
  return text.replace(/[\\^$+?()[\]{}|]/g, "\\$&").replaceAll("*", "[^.]*");
}
