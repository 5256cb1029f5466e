/** @file Drops rows from tensors in host memory; the first axis is the row. */
import type { HostTensor, HostTree } from "@cee/engine";

/** The rows at `positions`, in that order, of every leaf. */
export function keepRows<TTree extends HostTree>(tree: TTree, positions: readonly number[]): TTree {
  if (Array.isArray(tree))
    return tree.map((child) => keepRows(child as HostTree, positions)) as unknown as TTree;
  const leaf = tree as HostTensor;
  if (ArrayBuffer.isView(leaf.data)) return keepLeaf(leaf, positions) as TTree;
  return Object.fromEntries(
    Object.entries(tree as Record<string, HostTree>).map(([key, child]) => [
      key,
      keepRows(child, positions),
    ]),
  ) as TTree;
}

/** The same of one tensor that nobody else holds, in its own memory. `positions` must be ascending. */
export function keepRowsInPlace(
  { dtype, shape, data }: HostTensor,
  positions: readonly number[],
): HostTensor {
  const rows = shape[0] as number;
  const width = rows === 0 ? 0 : data.length / rows;
  positions.forEach((position, index) => {
    if (position !== index)
      data.copyWithin(index * width, position * width, (position + 1) * width);
  });
  return {
    dtype,
    shape: [positions.length, ...shape.slice(1)],
    data: data.subarray(0, positions.length * width),
  };
}

function keepLeaf(tensor: HostTensor, positions: readonly number[]): HostTensor {
  const rows = tensor.shape[0] as number;
  const width = rows === 0 ? 0 : tensor.data.length / rows;
  const data = new (tensor.data.constructor as new (length: number) => typeof tensor.data)(
    positions.length * width,
  );
  positions.forEach((position, index) => {
    data.set(tensor.data.subarray(position * width, (position + 1) * width), index * width);
  });
  return { dtype: tensor.dtype, shape: [positions.length, ...tensor.shape.slice(1)], data };
}
