/** @file What commands that open a trained model take alike. */
import type { FromPretrainedOptions } from "@cee/consistentee";
import { operandsOf } from "../arguments.js";
import { BenchError, withModelHint } from "../errors.js";
import type { Args, OptionReader } from "../glue/options.js";

export const modelOptionNames = ["strategy", "plugin", "threads", "runtime", "max-length"];

export const modelHelp = `  --strategy <name>     another strategy than the saved one; one that learns must be the saved one
  --plugin <s>          a strategy of yours that the folder or --strategy names: a file or a package; may be repeated. It is
                        tried in a process of its own first
  --max-length <n>      tokens per text (default: what the model has positions for)
  --threads <n>         (default: all processors)
  --runtime <name>      auto, onnxruntime-node, onnxruntime-web or eager (default: auto)`;

const runtimes = ["auto", "onnxruntime-node", "onnxruntime-web", "eager"] as const;

/** The folder or hub id. @throws BenchError `BAD_OPTION` */
export function modelOf(args: Args, command: string, cee: string): string {
  const [model] = operandsOf(args);
  if (model) return model;
  throw new BenchError(
    "BAD_OPTION",
    command,
    `expected a model's folder or hub id, got nothing. Try: ${cee} ${command} ./my-model`,
  );
}

/**
 * The strategies and heads that a model may have: those of recipes, and the plugins that the command line names.
 * @throws BenchError `BAD_OPTION` for a plugin that is broken; ExitStrategyError `UNKNOWN_STRATEGY`
 */
export async function modelParts(
  read: OptionReader,
  signal: AbortSignal,
): Promise<Pick<Required<FromPretrainedOptions>, "moreStrategies" | "moreHeads">> {
  const [{ recipeParts }, { loadStrategyPlugin }] = await Promise.all([
    import("../train/trainable.js"),
    import("../plugins/load-plugins.js"),
  ]);
  const moreStrategies = [...recipeParts.moreStrategies];
  const moreHeads = [...recipeParts.moreHeads];
  for (const specifier of read.list("plugin")) {
    const plugin = await loadStrategyPlugin(specifier, { from: process.cwd(), signal });
    if ("problem" in plugin) throw new BenchError("BAD_OPTION", "--plugin", plugin.problem);
    // A name of this project is known already.
    if (plugin.source !== undefined) moreStrategies.push(plugin.strategy);
    if (plugin.head) moreHeads.push(plugin.head);
  }
  return { moreStrategies, moreHeads };
}

/**
 * Waits for a model that is being opened or exported.
 * @throws BenchError `BAD_OPTION` that asks for the plugin where a strategy or head is not known; else what opening throws,
 * with a suggestion where the model is not there
 */
export async function withHints<T>(
  opening: Promise<T>,
  { model, read }: { readonly model: string; readonly read: OptionReader },
): Promise<T> {
  return opening.catch((cause: unknown) => {
    const { code, who, message } = cause as { code?: unknown; who: string; message: string };
    const isStrategy = code === "UNKNOWN_STRATEGY";
    if (!isStrategy && code !== "UNKNOWN_HEAD") throw withModelHint(cause, model);
    const isAsked = isStrategy && who === read.text("strategy");
    const part = isStrategy ? `strategy "${who}"` : `exit head ${/"[^"]*"/.exec(message)?.[0]}`;
    throw new BenchError(
      "BAD_OPTION",
      isAsked ? "--strategy" : model,
      isAsked
        ? `${message.slice(who.length + 3)} One of yours is added with --plugin <file or package>.`
        : `has the ${part}, which does not come with this program. Add --plugin <file or package>, naming what it was trained with.`,
      { cause },
    );
  });
}

/** @throws as {@link modelParts} */
export async function loadingOptions(
  read: OptionReader,
  signal: AbortSignal,
): Promise<FromPretrainedOptions> {
  const given = {
    strategy: read.text("strategy"),
    threads: read.whole("threads", 1),
    runtime: read.choice("runtime", runtimes),
    maxLength: read.whole("max-length", 8),
  };
  return {
    ...(await modelParts(read, signal)),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
}
