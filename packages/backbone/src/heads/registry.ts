/** @file Exit heads by name. */
import type { ExitHead, HostParams, ModelShape } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { highway } from "./highway.js";
import { linear } from "./linear.js";

/** An exit head that may start from the backbone's weights instead of random ones. */
export interface BackboneHead extends ExitHead {
  /** Values by the head's own names that replace those of `params` in a new encoder. */
  inherit?(backbone: HostParams, shape: ModelShape, layer: number): HostParams;
}

/** The heads of this package; a checkpoint names its head by these. */
export const exitHeads: Readonly<Record<string, BackboneHead>> = { linear, highway };

/** Looks a head up by name; an object is taken as it is. @throws BackboneError `UNKNOWN_HEAD` */
export function resolveHead(head: string | ExitHead, more: readonly ExitHead[] = []): BackboneHead {
  if (typeof head !== "string") return head;
  const found = more.find(({ name }) => name === head) ?? own(exitHeads, head);
  if (found) return found;
  const names = [...Object.keys(exitHeads), ...more.map(({ name }) => name)];
  throw new BackboneError(
    "UNKNOWN_HEAD",
    "resolveHead",
    `there is no exit head "${head}". Use one of ${names.join(", ")}, or pass the head itself.`,
  );
}

/** Names come from files, and `constructor` is not a head. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
