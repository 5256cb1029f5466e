import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostTensor } from "@cee/engine";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BackboneError } from "../src/errors.js";
import { halfFromFloat, halfToFloat } from "../src/half.js";
import { openSafetensors, readSafetensors, writeSafetensors } from "../src/safetensors.js";
import { scratchFolder } from "./helpers/scratch.js";

/** A file from a header as text and raw data. */
function writeRaw(header: unknown, data: Uint8Array = new Uint8Array(0)): string {
  const path = join(scratchFolder(), "model.safetensors");
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, data]));
  return path;
}

function errorOf(action: () => unknown): BackboneError {
  try {
    action();
  } catch (error) {
    if (error instanceof BackboneError) return error;
    throw error;
  }
  throw new Error("expected an error");
}

const bytes = (view: ArrayBufferView) =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

describe("safetensors", () => {
  it("reads back bit for bit what it wrote, whatever the names, shapes and values", () => {
    const path = join(scratchFolder(), "round.safetensors");
    const tensor = fc
      .tuple(fc.array(fc.nat(4), { maxLength: 3 }), fc.constantFrom("float32", "int32", "bool"))
      .chain(([shape, dtype]) => {
        const size = shape.reduce((product, count) => product * count, 1);
        const value = {
          float32: fc.float({ noNaN: false }),
          int32: fc.integer(),
          bool: fc.nat(1),
        }[dtype] as fc.Arbitrary<number>;
        return fc.array(value, { minLength: size, maxLength: size }).map((values): HostTensor => {
          const kind = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[dtype];
          return { dtype: dtype as HostTensor["dtype"], shape, data: kind.from(values) };
        });
      });
    const names = fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__");
    fc.assert(
      fc.property(
        fc.dictionary(names, tensor, { maxKeys: 6 }),
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
        (tensors, metadata) => {
          writeSafetensors(path, tensors, { metadata });
          const again = readSafetensors(path);
          expect({ ...again.metadata }).toEqual({ ...metadata });
          expect(Object.keys(again.tensors).sort()).toEqual(Object.keys(tensors).sort());
          for (const [name, { shape, dtype, data }] of Object.entries(tensors)) {
            const read = again.tensors[name] as HostTensor;
            expect([read.dtype, read.shape]).toEqual([dtype, shape]);
            expect(bytes(read.data)).toEqual(bytes(data));
          }
          const start = Number(readFileSync(path).readBigUInt64LE());
          expect(start % 8).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("reads every dtype that checkpoints use", () => {
    const parts: [string, ArrayBufferView][] = [
      ["F64", Float64Array.of(1.5, -2)],
      ["I64", BigInt64Array.of(7n, -8n)],
      ["F32", Float32Array.of(0.25, 3)],
      ["I32", Int32Array.of(2 ** 31 - 1, -5)],
      ["F16", Uint16Array.of(0x3c00, 0xc000)],
      ["BF16", Uint16Array.of(0x3f80, 0xc040)],
      ["I16", Int16Array.of(-3, 4)],
      ["U16", Uint16Array.of(65535, 1)],
      ["I8", Int8Array.of(-1, 2)],
      ["U8", Uint8Array.of(255, 0)],
      ["BOOL", Uint8Array.of(1, 0)],
    ];
    let offset = 0;
    const header = Object.fromEntries(
      parts.map(([dtype, { byteLength }]) => {
        offset += byteLength;
        return [dtype, { dtype, shape: [2], data_offsets: [offset - byteLength, offset] }];
      }),
    );
    const path = writeRaw(header, Buffer.concat(parts.map(([, view]) => bytes(view))));
    const { tensors } = readSafetensors(path);
    const values = Object.fromEntries(
      Object.entries(tensors).map(([name, { data, dtype }]) => [name, [dtype, ...data]]),
    );
    expect(values).toEqual({
      F64: ["float32", 1.5, -2],
      I64: ["int32", 7, -8],
      F32: ["float32", 0.25, 3],
      I32: ["int32", 2 ** 31 - 1, -5],
      F16: ["float32", 1, -2],
      BF16: ["float32", 1, -3],
      I16: ["int32", -3, 4],
      U16: ["int32", 65535, 1],
      I8: ["int32", -1, 2],
      U8: ["int32", 255, 0],
      BOOL: ["bool", 1, 0],
    });
  });

  it("lists a tensor of a type it cannot read, and refuses only when that one is read", () => {
    const path = writeRaw(
      { a: { dtype: "U64", shape: [1], data_offsets: [0, 8] } },
      new Uint8Array(8),
    );
    const file = openSafetensors(path);
    expect([...file.entries.keys()]).toEqual(["a"]);
    expect(errorOf(() => file.read("a")).message).toContain("U64");
    expect(errorOf(() => file.read("b")).code).toBe("MISSING_TENSOR");
    file.close();
  });

  it("refuses an int64 that does not fit", () => {
    const data = bytes(BigInt64Array.of(2n ** 31n));
    const path = writeRaw({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, data);
    expect(errorOf(() => readSafetensors(path)).message).toContain("2147483648");
  });

  const f32 = (start: number, end: number, shape: unknown = [1]) => ({
    dtype: "F32",
    shape,
    data_offsets: [start, end],
  });
  it.each<[string, unknown, number, string]>([
    ["a header that is no JSON", "{", 0, "not JSON"],
    ["a header that is a list", [], 0, "not a JSON object"],
    ["offsets beyond the file", { a: f32(0, 8, [2]) }, 4, "[0, 8]"],
    ["offsets in reverse", { a: f32(4, 0) }, 4, "[4, 0]"],
    ["negative offsets", { a: f32(-4, 0) }, 4, "data_offsets"],
    ["offsets that are no integers", { a: f32(0, 4.5) }, 8, "data_offsets"],
    ["a shape that needs more bytes", { a: f32(0, 4, [2]) }, 4, "8 bytes, got 4"],
    ["a shape whose size overflows", { a: f32(0, 4, [2 ** 40, 2 ** 40]) }, 4, "got 4 bytes"],
    ["a negative shape", { a: f32(0, 4, [-1]) }, 4, "shape"],
    ["a shape that is no list", { a: f32(0, 4, 1) }, 4, "shape"],
    ["overlapping tensors", { a: f32(0, 4), b: f32(0, 4) }, 4, "overlaps"],
    ["a hole between tensors", { a: f32(0, 4), b: f32(8, 12) }, 12, "hole"],
    ["data after the last tensor", { a: f32(0, 4) }, 8, "must end at byte"],
    ["an unknown dtype", { a: { ...f32(0, 4), dtype: "F31" } }, 4, "F31"],
    ["a dtype of every object", { a: { ...f32(0, 4), dtype: "toString" } }, 4, "toString"],
    ["an entry that is no object", { a: 3 }, 0, "description"],
    ["metadata that is no text", { __metadata__: { a: 1 } }, 0, "__metadata__"],
    [
      "a name given twice",
      '{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
      "twice",
    ],
  ])("refuses %s", (_, header, size, text) => {
    const path = writeRaw(header, new Uint8Array(size));
    const error = errorOf(() => readSafetensors(path));
    expect(error.code).toBe("BAD_FILE");
    expect(error.who).toBe(path);
    expect(error.message).toContain(text);
  });

  it("refuses a header length beyond the file without reading it", () => {
    const path = join(scratchFolder(), "lies.safetensors");
    for (const length of [9n, 2n ** 40n, 2n ** 64n - 1n]) {
      const head = Buffer.alloc(16, " ");
      head.writeBigUInt64LE(length);
      writeFileSync(path, head);
      expect(errorOf(() => readSafetensors(path)).message).toContain("header has");
    }
    writeFileSync(path, "short");
    expect(errorOf(() => readSafetensors(path)).message).toContain("5 bytes");
  });

  it("never reads a damaged file as something else than an error or valid tensors", () => {
    const path = join(scratchFolder(), "damaged.safetensors");
    const whole: HostTensor = { dtype: "float32", shape: [2, 3], data: new Float32Array(6) };
    writeSafetensors(path, { first: whole, second: whole }, { metadata: { made: "here" } });
    const good = readFileSync(path);
    const headerEnd = 8 + Number(good.readBigUInt64LE());
    fc.assert(
      fc.property(fc.nat(headerEnd - 1), fc.nat(255), (at, value) => {
        const bad = Buffer.from(good);
        bad[at] = value;
        writeFileSync(path, bad);
        try {
          for (const { data, shape } of Object.values(readSafetensors(path).tensors))
            expect(data.length).toBe(shape.reduce((product, size) => product * size, 1));
        } catch (error) {
          expect(error).toBeInstanceOf(BackboneError);
          expect((error as BackboneError).code).toBe("BAD_FILE");
        }
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.nat(good.length - 1), (length) => {
        writeFileSync(path, good.subarray(0, length));
        expect(errorOf(() => readSafetensors(path)).code).toBe("BAD_FILE");
      }),
    );
  });

  it("notices a file that shrinks after its header was read", () => {
    const path = join(scratchFolder(), "cut.safetensors");
    writeSafetensors(path, { a: { dtype: "float32", shape: [4], data: new Float32Array(4) } });
    const file = openSafetensors(path);
    truncateSync(path, readFileSync(path).length - 4);
    expect(errorOf(() => file.read("a")).message).toContain("cut while being read");
    file.close();
  });

  it("leaves the old file and nothing else when a tensor cannot be written", () => {
    const folder = scratchFolder();
    const path = join(folder, "kept.safetensors");
    const one: HostTensor = { dtype: "float32", shape: [1], data: Float32Array.of(1e9) };
    writeSafetensors(path, { one });
    const before = readFileSync(path);
    const error = errorOf(() => writeSafetensors(path, { one }, { floats: "F16" }));
    expect(error.message).toContain("65504");
    const lying: HostTensor = { ...one, shape: [2] };
    expect(errorOf(() => writeSafetensors(path, { lying })).code).toBe("BAD_INPUT");
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(folder)).toEqual(["kept.safetensors"]);
  });

  it("says which file could not be written", () => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "file"), "");
    const error = errorOf(() => writeSafetensors(join(folder, "file", "x.safetensors"), {}));
    expect(error.code).toBe("WRITE_FAILED");
    expect(error.message).toContain("x.safetensors");
  });

  it("reports a missing file", () => {
    expect(errorOf(() => readSafetensors("/nowhere/x.safetensors")).code).toBe("MISSING_FILE");
  });
});

describe("half precision", () => {
  it("survives the way through float32 for all 65536 values", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
    const again = halfFromFloat(halfToFloat(all));
    const isNaNHalf = (bits: number) => (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
    for (const bits of all) {
      if (isNaNHalf(bits)) expect(isNaNHalf(again[bits] as number)).toBe(true);
      else if (again[bits] !== bits) expect(again[bits]).toBe(bits);
    }
  });

  it("rounds to the nearest value, ties to the even one", () => {
    const between = Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20);
    expect([...halfToFloat(halfFromFloat(between))]).toEqual([1, 1 + 2 ** -9, 1 + 2 ** -10]);
    const tiny = Float32Array.of(2 ** -25, 1.5 * 2 ** -24, 2 ** -26, -(2 ** -24));
    expect([...halfToFloat(halfFromFloat(tiny))]).toEqual([0, 2 ** -23, 0, -(2 ** -24)]);
    expect([...halfToFloat(halfFromFloat(Float32Array.of(65519, 2047.5)))]).toEqual([65504, 2048]);
  });

  it("is never further away than half a step", () => {
    fc.assert(
      fc.property(fc.float({ min: -65000, max: 65000, noNaN: true }), (value) => {
        const [half] = halfToFloat(halfFromFloat(Float32Array.of(value)));
        const step = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(value) || 1e-9)), -14) - 10);
        expect(Math.abs((half as number) - value)).toBeLessThanOrEqual(step / 2);
      }),
    );
  });
});
