/** @file The progress line: shares, time left, and what a pipe gets to see. */
import { describe, expect, it } from "vitest";
import { createProgressLine, duration } from "../src/glue/progress.js";

function terminal(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  let time = 0;
  const line = createProgressLine(
    { isTTY, columns, write: (text) => written.push(text) },
    () => time,
  );
  return {
    line,
    written,
    wait: (seconds: number) => {
      time += 1000 * seconds;
    },
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what clears a line
    last: () => (written.at(-1) ?? "").replace(/^\r\u001b\[2K/, ""),
  };
}

describe("createProgressLine", () => {
  it("shows the share of planned work, and the time left from the speed so far", () => {
    const { line, wait, last } = terminal(true);
    line.plan(100);
    line.update("starting", 0);
    // Loading time says nothing about the speed of training.
    wait(30);
    line.update("first", 10);
    wait(10);
    line.update("work", 10);
    expect(last()).toBe("20% · 40 s, about 40 s left · work");
  });

  it("counts work that was found done, without taking it for speed", () => {
    const { line, wait, last } = terminal(true);
    line.plan(100);
    line.settle(50);
    line.update("a", 1);
    wait(10);
    line.update("b", 9);
    expect(last()).toBe("60% · 10 s, about 40 s left · b");
  });

  it("takes back what was planned too much, and is never at the end before the end", () => {
    const { line, wait, last } = terminal(true);
    line.plan(100);
    line.plan(-50);
    line.update("a", 25);
    wait(1);
    line.update("b");
    expect(last()).toBe("50% · 1 s · b");
    wait(1);
    line.update("c", 500);
    expect(last()).toBe("99% · 2 s · c");
  });

  it("draws at most ten times a second, and again right after a line that stays", () => {
    const { line, written } = terminal(true);
    for (let step = 0; step < 50; step += 1) line.update("step", 1);
    expect(written).toHaveLength(1);
    line.print("a line");
    line.update("step", 1);
    expect(written.slice(1)).toEqual([
      "\r\u001b[2K",
      "a line\n",
      expect.stringContaining("0% · 0 s · step"),
    ]);
  });

  it("fits a narrow terminal, and one that does not know its width", () => {
    const narrow = terminal(true, 30);
    narrow.line.update("x".repeat(200));
    expect(narrow.last()).toHaveLength(29);
    const unknown = terminal(true, 0);
    unknown.line.update("x".repeat(200));
    expect(unknown.last()).toHaveLength(99);
  });

  it("writes nothing but the lines that stay into a pipe", () => {
    const { line, written, wait } = terminal(false);
    line.plan(10);
    line.update("work", 5);
    wait(60);
    line.update("work", 5);
    line.print("done");
    line.stop();
    expect(written).toEqual(["done\n"]);
  });
});

it("writes durations as people say them", () => {
  expect([0.4, 59, 95, 3600, 7325].map(duration)).toEqual([
    "0 s",
    "59 s",
    "1 min 35 s",
    "1 h 0 min",
    "2 h 2 min",
  ]);
});
