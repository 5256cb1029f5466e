/**
 * @file Tries one plugin in a process of its own: loads it, and runs the vital checks of the conformance kit. Says over
 * IPC what it is doing, so that the parent can name what never returned.
 */
import { createRegistry, resolveExitHead, resolvePlugin } from "@cee/exit-policies";
import { conformance, headConformance } from "@cee/exit-policies/testing";
import { loadModule } from "./load.js";

/** What the parent is told. */
export type VetMessage =
  | { readonly doing: string }
  | { readonly done: true }
  | { readonly refused: string; readonly code: unknown };

/** Options by the name of the strategy. */
export type OptionsByName = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

const send = (message: VetMessage) =>
  new Promise<void>((sent) => {
    process.send?.(message, undefined, {}, () => sent());
  });

async function vet(
  kind: string,
  specifier: string,
  from: string,
  options: OptionsByName,
): Promise<void> {
  await send({ doing: "loading" });
  const checks = await checksOf(kind, specifier, from, options);
  for (const { name, run, isVital } of checks) {
    if (!isVital) continue;
    await send({ doing: `checking that ${name}` });
    await run();
  }
}

async function checksOf(kind: string, specifier: string, from: string, options: OptionsByName) {
  if (kind === "head")
    return headConformance(await resolveExitHead(specifier, { from, load: loadModule }));
  const { strategy, head } = await resolvePlugin(specifier, {
    // Names that are taken are the parent's business; what it knows takes a second to load.
    registry: createRegistry([]),
    from,
    load: loadModule,
  });
  const own = conformance(strategy, {
    configurations: [[options[strategy.strategyName] ?? {}]] as never,
  });
  return head ? [...headConformance(head), ...own] : own;
}

const [kind = "", specifier = "", from = "", options = "{}"] = process.argv.slice(2);
try {
  await vet(kind, specifier, from, JSON.parse(options));
  await send({ done: true });
} catch (cause) {
  const { code } = (cause ?? {}) as { code?: unknown };
  await send({ refused: cause instanceof Error ? cause.message : String(cause), code });
}
process.exit(0);
