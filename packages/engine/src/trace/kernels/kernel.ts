/** @file What a kernel mapping is. */
import type { Value } from "../../onnx/graph.js";
import type { Tracing } from "../tracing.js";

export interface KernelCall {
  readonly t: Tracing;
  /** Whether an optional input was given. */
  has(name: string): boolean;
  /** The graph's value of a named input. */
  input(name: string): Value;
  /** All inputs, for kernels that take a list. */
  inputs(): readonly Value[];
  readonly attrs: Readonly<Record<string, unknown>>;
}

/** Appends the kernel's ONNX nodes and returns its output, or its outputs. */
export type TraceKernel = (call: KernelCall) => Value | Value[];

export type KernelTable = Readonly<Record<string, TraceKernel>>;

/** An axis attribute: one axis, several, or none for all; negative ones count from the end. */
export function axesOf(attribute: unknown, rank: number): number[] {
  const list =
    attribute === undefined || attribute === null
      ? Array.from({ length: rank }, (_, axis) => axis)
      : Array.isArray(attribute)
        ? (attribute as number[])
        : [attribute as number];
  return list.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}
