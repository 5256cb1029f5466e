/** @file Which sessions stay after nobody uses them. */
import { describe, expect, it } from "vitest";
import { type OrtRuntime, SessionCache } from "../src/session.js";

/** A runtime that does nothing but remember which sessions are open, by the first byte of their graphs. */
function openCache(isTight: (open: readonly number[]) => boolean) {
  let open: number[] = [];
  const ended: number[] = [];
  const runtime = {
    name: "onnxruntime-node",
    module: {
      InferenceSession: {
        async create([id]: Uint8Array) {
          open.push(id as number);
          return {
            async release() {
              ended.push(id as number);
              open = open.filter((other) => other !== id);
            },
          };
        },
      },
    },
  } as unknown as OrtRuntime;
  const cache = new SessionCache(
    runtime,
    { providers: ["cpu"], threads: 1, spin: false },
    undefined,
    () => isTight(open),
  );
  return {
    cache,
    open: () => open,
    ended,
    async use(id: number) {
      await cache.borrow(`graph ${id}`, "test", () => Uint8Array.of(id));
      await cache.release(`graph ${id}`);
    },
  };
}

describe("sessions that nobody uses", () => {
  it("stay, the twelve that were used last", async () => {
    const { use, open } = openCache(() => false);
    for (let id = 1; id <= 14; id += 1) await use(id);
    await use(3);
    await use(15);
    expect(open()).toEqual([3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  });

  it("end, oldest first, until the machine has room", async () => {
    const { use, open } = openCache((sessions) => sessions.length > 3);
    for (const id of [1, 2, 3, 1, 4, 5]) await use(id);
    expect(open()).toEqual([1, 4, 5]);
  });

  it("do not end while somebody uses them, however tight memory is", async () => {
    const { cache, use, open } = openCache(() => true);
    await cache.borrow("graph 1", "test", () => Uint8Array.of(1));
    await use(2);
    expect(open()).toEqual([1]);
    await cache.release("graph 1");
    expect(open()).toEqual([]);
  });

  it("end once where two give back at the same time", async () => {
    const { cache, open, ended } = openCache(() => true);
    for (const id of [1, 2, 3]) await cache.borrow(`graph ${id}`, "test", () => Uint8Array.of(id));
    await Promise.all([1, 2, 3].map((id) => cache.release(`graph ${id}`)));
    expect(open()).toEqual([]);
    expect([...ended].sort()).toEqual([1, 2, 3]);
  });
});
