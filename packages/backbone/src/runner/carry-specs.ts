/** @file The input specs of what a layer hands to the next, worked out from two short passes. */
import type { HostTensor, HostTree, SpecTree } from "@cee/engine";
import { BackboneError } from "../errors.js";

/** Lengths of the passes that show which sizes depend on the length. */
export const PROBE_LENGTHS = [2, 3] as const;

/**
 * Specs of a carry: the first axis is the row, sizes that grew with the length belong to it, others are fixed.
 * @throws BackboneError `BAD_OBSERVATION`
 */
export function carrySpecs(short: HostTree, long: HostTree, who: string): SpecTree {
  if (isLeaf(short) && isLeaf(long)) {
    const shape = short.shape.map((size, axis) => {
      if (axis === 0) return "batch";
      const grown = long.shape[axis] as number;
      if (grown === size) return size;
      const beyond = size - PROBE_LENGTHS[0];
      if (grown - PROBE_LENGTHS[1] !== beyond)
        throw new BackboneError(
          "BAD_OBSERVATION",
          who,
          `axis ${axis} of the carry has ${size} entries at length ${PROBE_LENGTHS[0]} and ${grown} at length ${PROBE_LENGTHS[1]}. Its sizes must be fixed, or the length and a constant.`,
        );
      return beyond === 0 ? "length" : `length${beyond > 0 ? "+" : "-"}${Math.abs(beyond)}`;
    });
    return { dtype: short.dtype, shape };
  }
  if (Array.isArray(short))
    return short.map((child, index) =>
      carrySpecs(child as HostTree, (long as HostTree[])[index] as HostTree, who),
    );
  const other = long as Record<string, HostTree>;
  return Object.fromEntries(
    Object.entries(short as Record<string, HostTree>).map(([key, value]) => [
      key,
      carrySpecs(value, other[key] as HostTree, who),
    ]),
  );
}

function isLeaf(tree: HostTree): tree is HostTensor {
  return ArrayBuffer.isView((tree as HostTensor).data);
}
