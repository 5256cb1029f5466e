/** @file `cee predict`: answers texts from arguments, a file or standard input, one JSON object a line. */
import { createReadStream, existsSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import type { ClassifyInput, EarlyExitModel, Prediction } from "@cee/consistentee";
import { operandsOf } from "../arguments.js";
import { BenchError } from "../errors.js";
import { type Args, createReader } from "../glue/options.js";
import { untilStopped } from "../glue/stop.js";
import type { CeeCommand } from "./command.js";
import { loadingOptions, modelHelp, modelOptionNames, withHints } from "./model-options.js";

const help = (cee: string) => `Usage: ${cee} predict <model> [texts] [options]

Answers each text with one JSON object a line: label, score, the probabilities of all classes, and the layer that answered. A
text that cannot be answered gives {"error": …} in its line, and the others are answered.

  <model>               a folder that ${cee} train or saveEarlyExitModel wrote, or its id on the Hugging Face hub
  <texts>               each argument is a text; without any, and without --file, standard input is read
  --file <file>         one text a line, a tab between the two texts of a pair. In .jsonl files a line is a JSON string,
                        {"text": …, "pair": …} or ["text", "pair"]; - is standard input
  --jsonl               standard input is JSON Lines
  --max-layer <n>       answers at this layer at the latest
${modelHelp}

Exit codes: 0 all answered, 1 something failed or a text could not be answered, 2 the command line was wrong, 130 stopped,
141 whoever read the answers is gone.

Examples:
  ${cee} predict ./model "A charming and often affecting journey."
  ${cee} predict ./model --file reviews.txt > answers.jsonl
  tail -f reviews.jsonl | ${cee} predict ./model --jsonl
`;

/** A reader that went away ends a program with this code in a shell: 128 and SIGPIPE. */
const CLOSED_PIPE = 141;
const MOST_AT_ONCE = 256;
const PROBLEMS_SHOWN = 5;

export const predictCommand: CeeCommand = {
  help,
  flags: ["jsonl"],
  lists: ["plugin"],
  operands: "many",
  async run(args: Args, cee: string): Promise<number> {
    const read = createReader(args, [...modelOptionNames, ...["file", "jsonl", "max-layer"]]);
    const [folder, ...texts] = operandsOf(args);
    if (folder === undefined)
      throw new BenchError(
        "BAD_OPTION",
        "predict",
        `expected a model's folder or hub id, got nothing. Try: ${cee} predict ./model "a text"`,
      );
    const source = sourceOf(texts, read.text("file"), args.jsonl === true, cee);
    const maxLayer = read.whole("max-layer", 1);
    return untilStopped(async (signal) => {
      const options = await loadingOptions(read, signal);
      const { EarlyExitModel } = await import("@cee/consistentee");
      const model = await withHints(
        EarlyExitModel.fromPretrained(folder, { ...options, maxQueue: 1e6 }),
        { model: folder, read },
      );
      try {
        if (maxLayer !== undefined && maxLayer > model.layers)
          throw new BenchError(
            "BAD_OPTION",
            "--max-layer",
            `expected at most ${model.layers}, the layers of ${folder}, got ${maxLayer}.`,
          );
        return await answerAll(model, source, maxLayer, signal);
      } finally {
        await model.dispose({ pending: "reject" });
      }
    });
  },
};

interface Source {
  /** What messages call it. */
  readonly name: string;
  readonly isJson: boolean;
  /** Called when the model is there: a stream that nobody listens to would be over by then. */
  lines(): AsyncIterable<string> | Iterable<string>;
}

/** @throws BenchError `BAD_OPTION`, `MISSING_FILE` */
function sourceOf(
  texts: readonly string[],
  file: string | undefined,
  isJson: boolean,
  cee: string,
): Source {
  if (texts.length > 0) {
    if (file !== undefined)
      throw new BenchError("BAD_OPTION", "--file", "texts are given already. Drop one of the two.");
    return { name: "text", isJson, lines: () => texts };
  }
  if (file === undefined || file === "-") {
    if (file === undefined && process.stdin.isTTY === true)
      throw new BenchError(
        "BAD_OPTION",
        "predict",
        `expected texts, got none. Try: ${cee} predict ./model "a text", or --file -.`,
      );
    return { name: "standard input", isJson, lines: () => linesOf(process.stdin) };
  }
  if (!existsSync(file) || statSync(file).isDirectory())
    throw new BenchError(
      "MISSING_FILE",
      "--file",
      existsSync(file) ? `${file} is a folder. Name a file.` : `there is no file ${file}.`,
    );
  const endsLikeJson = [".jsonl", ".ndjson"].includes(path.extname(file).toLowerCase());
  return {
    name: file,
    isJson: isJson || endsLikeJson,
    lines: () => linesOf(createReadStream(file)),
  };
}

function linesOf(input: NodeJS.ReadableStream): AsyncIterable<string> {
  return createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
}

/** @throws BenchError `BAD_INPUT` for a source without a line */
async function answerAll(
  model: EarlyExitModel,
  { name, isJson, lines }: Source,
  maxLayer: number | undefined,
  signal: AbortSignal,
): Promise<number> {
  const output = openOutput();
  const problems: string[] = [];
  let count = 0;
  for await (const batch of inBatches(lines())) {
    signal.throwIfAborted();
    const read = batch.map((line, index) => readLine(line, isJson, `${name}:${count + index + 1}`));
    count += batch.length;
    const inputs = read.flatMap((one) => ("input" in one ? [one.input] : []));
    const settled = await model.settle(inputs, {
      signal,
      ...(maxLayer === undefined ? {} : { maxLayer }),
    });
    let next = 0;
    for (const one of read) {
      const answer = "input" in one ? settled[next++] : undefined;
      if (answer?.status === "fulfilled") output.write(shown(answer.value));
      else {
        const error = "error" in one ? one.error : messageOf(one.where, answer?.reason);
        problems.push(error);
        if (problems.length <= PROBLEMS_SHOWN) process.stderr.write(`${error}\n`);
        output.write({ error });
      }
    }
    await output.drained();
    if (output.isClosed()) {
      process.stderr.write(
        `[predict] whoever read the answers is gone; stopped after ${count} texts.\n`,
      );
      return CLOSED_PIPE;
    }
  }
  signal.throwIfAborted();
  if (count === 0)
    throw new BenchError("BAD_INPUT", name, "holds no text. Write one on each line.");
  if (problems.length > PROBLEMS_SHOWN)
    process.stderr.write(`${problems.length} of ${count} texts could not be answered.\n`);
  return problems.length > 0 ? 1 : 0;
}

/** Lines that are there together, without waiting for more. */
async function* inBatches(
  lines: AsyncIterable<string> | Iterable<string>,
): AsyncGenerator<readonly string[]> {
  if (Symbol.iterator in lines) {
    yield [...lines];
    return;
  }
  const iterator = lines[Symbol.asyncIterator]();
  const idle = () => new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
  let pending = iterator.next();
  for (;;) {
    const first = await pending;
    if (first.done) return;
    const batch = [first.value];
    pending = iterator.next();
    while (batch.length < MOST_AT_ONCE) {
      const more = await Promise.race([pending, idle()]);
      if (more === undefined || more.done) break;
      batch.push(more.value);
      pending = iterator.next();
    }
    yield batch;
  }
}

type Read =
  | { readonly input: ClassifyInput; readonly where: string }
  | { readonly error: string; readonly where: string };

function readLine(line: string, isJson: boolean, where: string): Read {
  if (!isJson) {
    const [text, pair, ...more] = line.split("\t") as [string, ...string[]];
    if (more.length > 0)
      return { where, error: `[${where}] has ${more.length + 2} columns. Write one text, or two.` };
    return { where, input: pair === undefined ? text : { text, pair } };
  }
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    return {
      where,
      error: `[${where}] is not JSON: ${(cause as Error).message}. Write a string or {"text": …}.`,
    };
  }
  // A single text may come as an object, too; the model looks at everything else itself.
  const { text, pair } = (value ?? {}) as { readonly text?: unknown; readonly pair?: unknown };
  const isText = typeof text === "string" && pair === undefined;
  return { where, input: (isText ? text : value) as ClassifyInput };
}

/** The model counts requests of a call; a reader knows the line. */
function messageOf(where: string, reason: unknown): string {
  const message = reason instanceof Error ? reason.message : String(reason);
  return `[${where}] ${message.replace(/^\[request \d+\] /, "")}`;
}

/** Without the time, so that the same texts give the same lines. */
function shown({ milliseconds: _, ...answer }: Prediction): Omit<Prediction, "milliseconds"> {
  return answer;
}

/** Standard output, as slow as who reads it. */
function openOutput() {
  let closed = false;
  let isFull = false;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") closed = true;
  });
  return {
    write(value: unknown): void {
      if (!closed) isFull = !process.stdout.write(`${JSON.stringify(value)}\n`) || isFull;
    },
    async drained(): Promise<void> {
      if (isFull && !closed)
        await new Promise<void>((resolve) => {
          process.stdout.once("drain", resolve);
          process.stdout.once("error", () => resolve());
        });
      isFull = false;
      // A pipe says that it is closed after the write that found out.
      await new Promise((resolve) => setImmediate(resolve));
    },
    isClosed: () => closed,
  };
}
