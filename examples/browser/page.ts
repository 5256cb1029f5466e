/** @file The page: reads texts, runs the exported model on each, and draws the exits that the text passed. */
import { createTokenizer } from "@cee/backbone/tokenizer";
import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";

/** What the page has to know beside the model's file. */
export interface Description {
  readonly labels: readonly string[] | null;
  readonly layers: number;
  readonly strategy: string;
  readonly knob: {
    readonly option: string;
    readonly value: number;
    readonly least: number;
    readonly most: number;
    readonly direction: string;
  } | null;
}

const MAX_TOKENS = 64;
const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

/** A new element with a text; never markup, since texts come from whoever types. */
function element(name: string, text: string, className = ""): HTMLElement {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

async function load(file: string): Promise<Response> {
  const response = await fetch(file);
  if (response.ok) return response;
  throw new Error(`${file} could not be loaded (${response.status}). Run the build again.`);
}

async function start(): Promise<void> {
  // One thread needs no special headers of the server; a small model gains little from more.
  env.wasm.numThreads = 1;
  env.wasm.wasmPaths = new URL(".", import.meta.url).href;
  const [description, json, file] = await Promise.all([
    load("model.json").then((response) => response.json() as Promise<Description>),
    load("tokenizer.json").then((response) => response.json()),
    load("model.onnx").then((response) => response.arrayBuffer()),
  ]);
  const tokenizer = createTokenizer(json, { who: "tokenizer.json" });
  const session = await InferenceSession.create(new Uint8Array(file));
  const { labels, layers, strategy, knob } = description;
  at("about").textContent =
    `${layers} layers with an exit after each; leaves by ${strategy}. Everything runs in this page: no text leaves it.`;

  const dial = at<HTMLInputElement>("knob");
  if (knob) {
    const { option, least, most, direction, value } = knob;
    (document.querySelector('label[for="knob"]') as HTMLElement).textContent =
      `${option} (${direction.replaceAll("-", " ")})`;
    Object.assign(dial, { min: least, max: most, step: "any", value });
    at("dial").hidden = false;
  }
  const value = () => (knob ? Number(dial.value) : 0);
  const showValue = () => {
    at("knob-value").textContent = value().toFixed(3);
  };

  const ask = async (text: string) => {
    const { ids, types } = tokenizer.encode(text, { maxLength: MAX_TOKENS });
    const row = (numbers: ArrayLike<number>) =>
      new Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
    const start = performance.now();
    const output = await session.run({
      input_ids: row(ids),
      attention_mask: row(ids.map(() => 1)),
      token_type_ids: row(types),
      knob: new Tensor("float32", Float32Array.of(value()), []),
    });
    const milliseconds = performance.now() - start;
    const logits = output.exit_logits?.data as Float32Array;
    const [exitLayer] = Array.from(output.exit_layer?.data as BigInt64Array, Number);
    return { milliseconds, exits: exitsOf(logits, exitLayer as number, layers) };
  };

  const run = async () => {
    const texts = at<HTMLTextAreaElement>("texts")
      .value.split("\n")
      .filter((text) => text.trim());
    const shown: HTMLElement[] = [];
    for (const text of texts) {
      const { exits, milliseconds } = await ask(text);
      shown.push(card(text, exits, { layers, labels, milliseconds }));
    }
    at("answers").replaceChildren(...shown);
  };
  // Runs follow each other: a session takes one at a time.
  let last: Promise<void> = Promise.resolve();
  const later = () => {
    last = last.then(run).catch(complain);
    return last;
  };
  showValue();
  dial.addEventListener("input", showValue);
  dial.addEventListener("change", later);
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    void later();
  });
  (document.querySelector("button") as HTMLButtonElement).disabled = false;
  await later();
  document.documentElement.dataset.ready = "true";
}

interface Exit {
  readonly answer: number;
  readonly share: number;
}

/** What every exit that ran would have answered, and how sure of it. */
function exitsOf(logits: Float32Array, exitLayer: number, layers: number): readonly Exit[] {
  const classes = logits.length / layers;
  return Array.from({ length: exitLayer }, (_, index) => {
    const own = logits.slice(index * classes, (index + 1) * classes);
    const most = Math.max(...own);
    const powers = own.map((logit) => Math.exp(logit - most));
    const sum = powers.reduce((total, power) => total + power, 0);
    return { answer: own.indexOf(most), share: 1 / sum };
  });
}

function card(
  text: string,
  exits: readonly Exit[],
  about: Pick<Description, "layers" | "labels"> & { readonly milliseconds: number },
): HTMLElement {
  const { layers, labels, milliseconds } = about;
  const nameOf = (answer: number) => labels?.[answer] ?? `class ${answer}`;
  const { answer, share } = exits.at(-1) as Exit;
  const article = document.createElement("article");
  const path = element("ol", "", "path");
  for (let layer = 1; layer <= layers; layer += 1) {
    const exit = exits[layer - 1];
    const isExit = layer === exits.length;
    const cell = element("li", "", exit ? (isExit ? "exit" : "") : "skipped");
    cell.append(element("span", `${layer}`));
    const bar = element("span", "", exit ? `bar ${classOf(exit.answer)}` : "bar");
    bar.style.setProperty("--share", `${Math.round(100 * (exit?.share ?? 0))}%`);
    cell.append(
      bar,
      element("span", exit ? nameOf(exit.answer) : "skipped"),
      element("span", exit ? exit.share.toFixed(2) : "–"),
    );
    path.append(cell);
  }
  article.append(
    element("h2", text),
    element(
      "p",
      `${nameOf(answer)} (${share.toFixed(2)}) at layer ${exits.length} of ${layers}, ${milliseconds.toFixed(1)} ms`,
    ),
    path,
  );
  return article;
}

function classOf(answer: number): string {
  return answer < 2 ? `class-${answer}` : "class-other";
}

function complain(cause: unknown): void {
  const problem = at("problem");
  problem.textContent = cause instanceof Error ? cause.message : String(cause);
  problem.hidden = false;
}

start().catch(complain);
