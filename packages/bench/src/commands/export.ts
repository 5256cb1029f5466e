/** @file `cee export`: a trained model as one ONNX file with its exits inside, compared with the library afterwards. */
import { existsSync, readFileSync, statSync } from "node:fs";
import type { ExportAgreement, ExportedModel, LoadPartsOptions } from "@cee/consistentee";
import { BenchError } from "../errors.js";
import { type Args, createReader } from "../glue/options.js";
import { createProgressLine } from "../glue/progress.js";
import { untilStopped } from "../glue/stop.js";
import type { CeeCommand } from "./command.js";
import { modelOf, modelParts, withHints } from "./model-options.js";

const help = (cee: string) => `Usage: ${cee} export <folder or hub id> [options]

Writes a model with exits as one ONNX file (opset 17) that takes token ids, mask and type ids, and gives logits, prediction
and exit_layer. The exits are inside: layers that nobody needs do not run. The strategy's knob is an input of the file, so
that accuracy and speed can be traded without another export.

  --out <file>       (default: model.onnx)
  --force            overwrites the file
  --rows <one|many>  one: one row per call, which is a little faster; many: any number of rows, each of which leaves at
                     its own layer (default: many)
  --precision <p>    float32; float16: half the size, weights rounded, computed with as before; int8: a quarter of it, products
                     in 8-bit integers, whose one scale for a whole batch makes its rows depend on each other in the
                     last digits (default: float32). The comparison then counts, and judges nothing
  --exit-logits      adds the output exit_logits [rows, layers, classes]: a row's path through the layers, NaN after its exit
  --knob <value>     the knob's default that the file names (default: what was chosen for the model)
  --strategy <name>  another strategy than the saved one; one that learns must be the saved one
  --plugin <s>       a strategy of yours that the folder or --strategy names: a file or a package; may be repeated. It is
                     tried in a process of its own first
  --check <n>        compares the file with the library on n rows of random tokens; 0 leaves that out (default: 200)
  --texts <file>     compares on these texts instead, one a line; a tab separates the two texts of a pair
  --threads <n>      of that comparison (default: all processors)
  --json             prints one JSON object

Exit codes: 0 written and alike, 1 something failed or the file decides otherwise, 2 the command line was wrong.

Examples:
  ${cee} export ./sst2-consistentee
  ${cee} export ./sst2-consistentee --rows one --out sst2-one.onnx --texts dev-sentences.txt
  ${cee} export ./sst2-entropy --knob 0.3 --out sst2.onnx --force
`;

const OPTIONS = [
  "out",
  "rows",
  "precision",
  "knob",
  "strategy",
  "plugin",
  "check",
  "texts",
  "threads",
];

export const exportCommand: CeeCommand = {
  help,
  flags: ["force", "exit-logits", "json"],
  lists: ["plugin"],
  operands: "one",
  async run(args: Args, cee: string): Promise<number> {
    const read = createReader(args, [...OPTIONS, "force", "exit-logits", "json"]);
    const model = modelOf(args, "export", cee);
    const out = read.text("out") ?? "model.onnx";
    if (statSync(out, { throwIfNoEntry: false })?.isDirectory())
      throw new BenchError("BAD_OPTION", "--out", `${out} is a folder. Name a file.`);
    if (args.force !== true && existsSync(out))
      throw new BenchError(
        "BAD_OPTION",
        "--out",
        `there is a file ${out} already. Name another, or overwrite it with --force.`,
      );
    const knob = read.number("knob", "a number", Number.isFinite);
    const rows = read.choice("rows", ["one", "many"] as const) ?? "many";
    const precision =
      read.choice("precision", ["float32", "float16", "int8"] as const) ?? "float32";
    const strategy = read.text("strategy");
    const threads = read.whole("threads", 1);
    const texts = read.text("texts");
    const inputs = texts === undefined ? (read.whole("check", 0) ?? 200) : textsOf(texts);
    const progress = createProgressLine();
    return untilStopped(async (signal) => {
      const loading: LoadPartsOptions = {
        ...(await modelParts(read, signal)),
        ...(strategy !== undefined && { strategy }),
      };
      const dial = knob === undefined ? {} : { knob };
      const { checkExport, exportModel } = await import("@cee/consistentee");
      const during = <T>(what: string, work: Promise<T>) => {
        progress.update(what);
        return work.finally(() => progress.stop());
      };
      const exported = await during(
        "writing the file",
        withHints(
          exportModel(model, out, {
            ...loading,
            ...dial,
            ...{ rows, precision, exitLogits: args["exit-logits"] === true },
          }),
          { model, read },
        ),
      );
      const isJson = args.json === true;
      if (!isJson) process.stdout.write(describe(exported, rows));
      const comparison =
        inputs === 0
          ? undefined
          : await during(
              "comparing it with the library",
              checkExport(model, out, {
                ...loading,
                ...dial,
                ...(threads !== undefined && { threads }),
                rows,
                inputs,
              }),
            );
      const isExact = precision === "float32";
      if (isJson)
        process.stdout.write(
          `${JSON.stringify({ model, ...exported, rows, precision, comparison: comparison ?? null })}\n`,
        );
      else if (comparison)
        process.stdout.write(compared(comparison, texts ?? "random tokens", isExact));
      return !comparison || !isExact || comparison.unexplained === 0 ? 0 : 1;
    });
  },
};

function describe(
  { files, bytes, strategy, knob, notes }: ExportedModel,
  rows: "one" | "many",
): string {
  const size = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const dial = knob
    ? `feed ${knob.value} as knob (${knob.option})`
    : "it has no knob: feed 0 as knob";
  return [
    `Written: ${files.join(", ")} (${size}). Leaves by ${strategy}, ${rows === "one" ? "one row per call" : "any number of rows"}; ${dial}.`,
    ...notes.map((note) => `Note: ${note}.`),
    "",
  ].join("\n");
}

function compared(found: ExportAgreement, where: string, isExact: boolean): string {
  const { rows, differing, unexplained, nearTies, meanExitLayer, largestLogitGap } = found;
  const { sameAnswer } = found;
  const means = `Mean exit layer ${meanExitLayer.file.toFixed(2)} in the file, ${meanExitLayer.library.toFixed(2)} in the library; logits differ by at most ${largestLogitGap.toExponential(1)}`;
  if (!isExact)
    return `Of ${rows} rows (${where}), ${(100 * (1 - differing / rows)).toFixed(2)} % leave at the library's layer with its answer, ${(100 * sameAnswer).toFixed(2)} % get its answer. ${means}.\n`;
  const verdict =
    unexplained === 0
      ? "The file decides as the library does"
      : "NOT ALIKE: the file decides otherwise than the library";
  return `${verdict}: ${differing} of ${rows} rows differ in layer or answer (${where}), ${unexplained} of them without a near tie (${nearTies} rows are near ties). ${means}.\n`;
}

/** Texts or pairs, one a line. @throws BenchError `MISSING_FILE`, `BAD_INPUT` */
function textsOf(path: string): (string | readonly [string, string])[] {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (cause) {
    throw new BenchError(
      "MISSING_FILE",
      "--texts",
      `${path} could not be read: ${(cause as Error).message}.`,
      { cause },
    );
  }
  const lines = content.split(/\r?\n/).filter((line) => line !== "");
  if (lines.length === 0)
    throw new BenchError("BAD_INPUT", "--texts", `${path} holds no text. Write one on each line.`);
  return lines.map((line) => {
    const [text, pair, ...more] = line.split("\t") as [string, ...string[]];
    if (pair === undefined) return text;
    if (more.length === 0) return [text, pair];
    throw new BenchError(
      "BAD_INPUT",
      "--texts",
      `a line of ${path} has ${more.length + 2} columns: "${line.slice(0, 60)}". Write one text, or two with a tab between them.`,
    );
  });
}
