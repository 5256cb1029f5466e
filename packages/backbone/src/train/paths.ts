/** @file Parameter path patterns: `*` matches within one segment, `**` any number of segments. */

/** Turns patterns such as `heads.*.classifier.*` and `backbone.**` into a test. */
export function pathMatcher(patterns: readonly string[]): (path: string) => boolean {
  const compiled = patterns.map((pattern) => pattern.split(".").map(segmentTest));
  return (path) => {
    const segments = path.split(".");
    return compiled.some((tests) => matches(tests, segments, 0, 0));
  };
}

/** `undefined` stands for `**`. */
type SegmentTest = ((segment: string) => boolean) | undefined;

function segmentTest(text: string): SegmentTest {
  if (text === "**") return undefined;
  const expression = new RegExp(
    `^${text.replace(/[\\^$+?()[\]{}|]/g, "\\$&").replaceAll("*", ".*")}$`,
  );
  return (segment) => expression.test(segment);
}

function matches(
  tests: readonly SegmentTest[],
  segments: readonly string[],
  at: number,
  from: number,
): boolean {
  if (at === tests.length) return from === segments.length;
  const test = tests[at];
  if (test)
    return (
      from < segments.length &&
      test(segments[from] as string) &&
      matches(tests, segments, at + 1, from + 1)
    );
  for (let next = from; next <= segments.length; next += 1)
    if (matches(tests, segments, at + 1, next)) return true;
  return false;
}
