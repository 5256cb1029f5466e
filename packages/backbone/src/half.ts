/** @file Half precision (IEEE binary16) from and to float32: Node 20 has no `Float16Array`. */
import { BackboneError } from "./errors.js";

/** Exact. */
export function halfToFloat(values: Uint16Array): Float32Array {
  return Float32Array.from(values, toNumber);
}

/** Rounds to nearest, ties to even. @throws BackboneError `BAD_INPUT` for a finite number beyond 65504 */
export function halfFromFloat(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let index = 0; index < values.length; index += 1) {
    const half = toBits(bits[index] as number);
    if ((half & 0x7fff) === 0x7c00 && Number.isFinite(values[index])) {
      throw new BackboneError(
        "BAD_INPUT",
        "halfFromFloat",
        `numbers must be within ±65504 for half precision, got ${values[index]}. Write F32 instead.`,
      );
    }
    result[index] = half;
  }
  return result;
}

function toNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function toBits(float: number): number {
  const sign = (float >>> 16) & 0x8000;
  const exponent = (float >>> 23) & 0xff;
  const fraction = float & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  const shifted = exponent - 127 + 15;
  if (shifted >= 31) return sign | 0x7c00;
  // Below the smallest normal half the hidden bit moves into the fraction.
  if (shifted < -10) return sign;
  const significand = shifted > 0 ? fraction : fraction | 0x800000;
  const drop = shifted > 0 ? 13 : 14 - shifted;
  const kept = (shifted > 0 ? shifted << 10 : 0) + (significand >>> drop);
  const rest = significand & (2 ** drop - 1);
  const middle = 2 ** (drop - 1);
  // A carry out of the fraction raises the exponent, which is what rounding up means there.
  return sign | (kept + (rest > middle || (rest === middle && (kept & 1) === 1) ? 1 : 0));
}
