/**
 * @file Tries one plugin in a process of its own: loads it, and runs the vital checks of the conformance kit. Says over
 * IPC what it is doing, so that the parent can name what never returned.
 */
import { resolveExitHead, resolvePlugin } from "@cee/exit-policies";
import { conformance, headConformance } from "@cee/exit-policies/testing";
import { loadModule } from "./load.js";
import { builtInStrategies } from "./registry.js";

/** What the parent is told. */
export type VetMessage =
  | { readonly doing: string }
  | { readonly done: true }
  | { readonly refused: string };

const send = (message: VetMessage) =>
  new Promise<void>((sent) => {
    process.send?.(message, undefined, {}, () => sent());
  });

async function vet(kind: string, specifier: string, from: string): Promise<void> {
  await send({ doing: "loading" });
  const checks = await checksOf(kind, specifier, from);
  for (const { name, run, isVital } of checks) {
    if (!isVital) continue;
    await send({ doing: `checking that ${name}` });
    await run();
  }
}

async function checksOf(kind: string, specifier: string, from: string) {
  if (kind === "head")
    return headConformance(await resolveExitHead(specifier, { from, load: loadModule }));
  const { strategy, head } = await resolvePlugin(specifier, {
    registry: builtInStrategies,
    from,
    load: loadModule,
  });
  const own = conformance(strategy, { configurations: [[]] as never });
  return head ? [...headConformance(head), ...own] : own;
}

const [kind = "", specifier = "", from = ""] = process.argv.slice(2);
try {
  await vet(kind, specifier, from);
  await send({ done: true });
} catch (cause) {
  await send({ refused: cause instanceof Error ? cause.message : String(cause) });
}
process.exit(0);
