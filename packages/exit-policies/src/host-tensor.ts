/** @file Tensors in host memory, structurally the same as `HostTensor` of `@cee/engine`. */

export interface HostTensor {
  readonly dtype: "float32" | "int32" | "bool";
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** Parameters by path, e.g. `gate.3.weight`. */
export type HostParams = Readonly<Record<string, HostTensor>>;
