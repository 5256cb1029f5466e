/** @file Trees of arrays and objects: flattening to paths and back. */
import type { Tree } from "./types.js";

export interface Leaf<T> {
  /** Keys joined by `/`. */
  readonly path: string;
  readonly leaf: T;
}

/** Lists leaves in insertion order. */
export function flatten<T>(
  tree: Tree<T>,
  isLeaf: (node: unknown) => node is T,
  prefix = "",
): Leaf<T>[] {
  if (isLeaf(tree)) return [{ path: prefix, leaf: tree }];
  if (typeof tree !== "object" || tree === null) return [];
  return Object.entries(tree as Record<string, Tree<T>>).flatMap(([key, child]) =>
    child === undefined ? [] : flatten(child, isLeaf, prefix === "" ? key : `${prefix}/${key}`),
  );
}

/** The same tree with every leaf replaced. */
export function mapTree<T, U>(
  tree: Tree<T>,
  isLeaf: (node: unknown) => node is T,
  change: (leaf: T, path: string) => U,
  prefix = "",
): Tree<U> {
  if (isLeaf(tree)) return change(tree, prefix);
  const child = (key: string | number, value: Tree<T>) =>
    mapTree(value, isLeaf, change, prefix === "" ? String(key) : `${prefix}/${key}`);
  if (Array.isArray(tree)) return tree.map((value, index) => child(index, value as Tree<T>));
  return Object.fromEntries(
    Object.entries(tree as Record<string, Tree<T>>)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, child(key, value)]),
  );
}
