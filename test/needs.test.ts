/** @file Tests needs() on a machine that, as far as it can tell, has no browser. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { needs, pathOf } from "./needs.js";

// What is installed cannot be removed for a test, so the file system says that it is not there.
vi.mock("node:fs", () => ({ existsSync: () => false }));

describe("needs", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  it("says once what is missing, and how to get it", () => {
    vi.stubEnv("CEE_REQUIRE", "");
    const lines: string[] = [];
    vi.spyOn(process.stderr, "write").mockImplementation((line) => {
      lines.push(String(line));
      return true;
    });
    expect(pathOf("chromium")).toBeUndefined();
    expect(needs("chromium")).toBe(false);
    expect(needs("chromium")).toBe(false);
    expect(lines).toEqual([
      "[tests] skipping tests that need chromium. On Debian: apt-get install chromium.\n",
    ]);
  });

  it("refuses to skip what CEE_REQUIRE names", () => {
    vi.stubEnv("CEE_REQUIRE", "onnx, chromium");
    expect(() => needs("chromium")).toThrow(/chromium is required by CEE_REQUIRE/);
    expect(needs()).toBe(true);
  });
});
