/** @file Trees of arrays and objects: flattening to paths and back. Runs walk them, so they make no more than they must. */
import type { Tree } from "./types.js";

export interface Leaf<T> {
  /** Keys joined by `/`. */
  readonly path: string;
  readonly leaf: T;
}

/** Lists leaves in insertion order. */
export function flatten<T>(tree: Tree<T>, isLeaf: (node: unknown) => node is T): Leaf<T>[] {
  const leaves: Leaf<T>[] = [];
  visit(tree, isLeaf, "", (leaf, path) => leaves.push({ path, leaf }));
  return leaves;
}

/** Calls `see` for every leaf, in insertion order. */
export function visit<T>(
  tree: Tree<T>,
  isLeaf: (node: unknown) => node is T,
  prefix: string,
  see: (leaf: T, path: string) => void,
): void {
  if (isLeaf(tree)) {
    see(tree, prefix);
    return;
  }
  if (typeof tree !== "object" || tree === null) return;
  const children = tree as Readonly<Record<string, Tree<T> | undefined>>;
  for (const key of Object.keys(children)) {
    const child = children[key];
    if (child !== undefined) visit(child, isLeaf, join(prefix, key), see);
  }
}

/** The same tree with every leaf replaced. */
export function mapTree<T, U>(
  tree: Tree<T>,
  isLeaf: (node: unknown) => node is T,
  change: (leaf: T, path: string) => U,
  prefix = "",
): Tree<U> {
  if (isLeaf(tree)) return change(tree, prefix);
  if (Array.isArray(tree))
    return tree.map((child, index) =>
      mapTree(child as Tree<T>, isLeaf, change, join(prefix, String(index))),
    );
  const children = tree as Readonly<Record<string, Tree<T> | undefined>>;
  const changed: Record<string, Tree<U>> = {};
  for (const key of Object.keys(children)) {
    const child = children[key];
    if (child !== undefined) changed[key] = mapTree(child, isLeaf, change, join(prefix, key));
  }
  return changed;
}

function join(prefix: string, key: string): string {
  return prefix === "" ? key : `${prefix}/${key}`;
}
