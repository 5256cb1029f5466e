/**
 * @file `pnpm bench decode`: what a token costs at full depth and at forced exit depths, against what the layers that
 * were run, the head and the filled keys and values predict; and what each exit test costs. All of it takes turns within
 * one run, so that a change of the machine's speed meets all.
 */
import {
  createCausalDecoder,
  createLlamaConfig,
  type DecoderRunner,
  openDecoder,
} from "@cee/backbone";
import { consistentEEDecoder } from "@cee/consistentee";
import { createEngine, createRng, type Engine } from "@cee/engine";
import {
  calm,
  calmMeta,
  calmState,
  type ExitStrategy,
  generateTokens,
  toObserver,
} from "@cee/exit-policies";
import { median } from "../metrics/statistics.js";
import { forcedExits } from "./forced-exits.js";

export interface DecodeBenchOptions {
  /** @default 384 */
  readonly width?: number;
  /** @default 12 */
  readonly depth?: number;
  /** @default 8000 */
  readonly vocabulary?: number;
  /** Tokens of the prompt. @default 32 */
  readonly prompt?: number;
  /** Tokens generated in each round. @default 48 */
  readonly tokens?: number;
  /** Timed rounds. @default 7 */
  readonly rounds?: number;
  /** @default 1 */
  readonly threads?: number;
  readonly log?: (line: string) => void;
}

export interface ForcedDepth {
  readonly meanExitLayer: number;
  /** Milliseconds per token. */
  readonly measured: number;
  readonly predicted: number;
}

export interface DecodeBenchResult {
  readonly tokensPerSecond: number;
  readonly forced: readonly ForcedDepth[];
  /** Cost of an exit test, as a share of a layer. */
  readonly exitTests: Readonly<Record<string, number>>;
  readonly bars: readonly { readonly name: string; readonly isMet: boolean }[];
}

/** Share of the measured time that a prediction may be off. */
const BAR = 0.1;

/** @throws what compiling and decoding give */
export async function runDecodeBench(options: DecodeBenchOptions = {}): Promise<DecodeBenchResult> {
  const { width = 384, depth = 12, vocabulary = 8000, threads = 1 } = options;
  const { prompt = 32, tokens = 48, rounds = 7, log = () => undefined } = options;
  const engine = await createEngine({ threads });
  const runners: DecoderRunner[] = [];
  try {
    const decoder = createCausalDecoder({
      config: createLlamaConfig({
        vocabSize: vocabulary,
        hidden: width,
        depth,
        heads: Math.max(1, width / 64),
        intermediate: 8 * Math.ceil(width / 3),
        maxPositions: prompt + tokens + 1,
      }),
      seed: 1,
    });
    log(`Decoder: ${depth}x${width}, ${vocabulary} pieces, batch 1, ${engine.description}`);
    const open = async (engineToUse: Engine, strategy?: ExitStrategy): Promise<DecoderRunner> => {
      const params = strategy?.definition.params?.(decoder.shape, strategy.options, 1) ?? {};
      const observer = strategy && toObserver(strategy, params);
      const runner = await openDecoder(engineToUse, decoder, { observer });
      runners.push(runner);
      return runner;
    };
    const rng = createRng(1);
    const ids = Array.from({ length: prompt }, () => rng.int(vocabulary));
    /** Milliseconds per token behind the first. */
    const decode = async (runner: DecoderRunner, strategy?: ExitStrategy): Promise<number> => {
      let [started, count] = [0, 0];
      const loop = generateTokens(runner, [{ ids }], {
        maxNewTokens: tokens,
        ...(strategy ? { strategy } : {}),
      });
      for await (const { isFromPrompt } of loop) {
        if (isFromPrompt) started = performance.now();
        else count += 1;
      }
      return (performance.now() - started) / count;
    };

    const full = await open(engine);
    const exiting = await open(engine, forcedExits({ layers: [1] }));
    const middle = Math.round(depth / 2);
    const schedules = [
      [Math.max(1, Math.round(depth / 6))],
      [middle],
      [depth - 1],
      // All depths in turn: the mean is that of a real strategy's spread.
      Array.from({ length: depth }, (_, index) => index + 1),
    ];
    const tests: Readonly<Record<string, ExitStrategy>> = {
      "CALM, softmax": calm({ threshold: 9 }),
      "CALM, state": calmState({ threshold: 9 }),
      "CALM, classifier": calmMeta({ threshold: 9 }),
      ConsistentEE: consistentEEDecoder({ threshold: 1 }),
    };
    const testing = new Map<string, DecoderRunner>();
    for (const [name, strategy] of Object.entries(tests))
      testing.set(name, await open(engine, strategy));

    const times = {
      full: [] as number[],
      parts: [] as Parts[],
      forced: schedules.map(() => [] as number[]),
      tests: Object.fromEntries(Object.keys(tests).map((name) => [name, [] as number[]])),
      none: [] as number[],
    };
    const never = forcedExits({ layers: [depth] });
    // The first round warms up.
    for (let round = 0; round <= rounds; round += 1) {
      const fullTime = await decode(full);
      const parts = await timeParts(exiting, ids, tokens, depth);
      const forced: number[] = [];
      for (const layers of schedules) forced.push(await decode(exiting, forcedExits({ layers })));
      const none = await decode(exiting, never);
      const costs: [string, number][] = [];
      for (const [name, runner] of testing)
        costs.push([name, await decode(runner, tests[name] as ExitStrategy)]);
      if (round === 0) continue;
      times.full.push(fullTime);
      times.parts.push(parts);
      times.none.push(none);
      for (const [index, time] of forced.entries()) times.forced[index]?.push(time);
      for (const [name, time] of costs) times.tests[name]?.push(time);
    }

    const of = (pick: (parts: Parts) => number) => median(times.parts.map(pick));
    const layer = of((parts) => parts.layer);
    const head = of((parts) => parts.head);
    const fill = (from: number) => (from === depth ? 0 : of((parts) => parts.fill[from - 1] ?? 0));
    const fullTime = median(times.full);
    log(
      `Full depth, all layers in one graph: ${fullTime.toFixed(2)} ms per token, ${(1000 / fullTime).toFixed(0)} tokens/s`,
    );
    log(
      `One layer by itself ${layer.toFixed(3)} ms, the head ${head.toFixed(3)} ms, filling all layers above the first ${fill(1).toFixed(3)} ms`,
    );
    const forced = schedules.map((layers, index): ForcedDepth => {
      const mean = (value: (exit: number) => number) =>
        layers.reduce((sum, exit) => sum + value(exit), 0) / layers.length;
      const result = {
        meanExitLayer: mean((exit) => exit),
        measured: median(times.forced[index] as number[]),
        predicted: mean((exit) => exit * layer + head + fill(exit)),
      };
      const off = result.measured / result.predicted - 1;
      log(
        `Forced mean exit depth ${result.meanExitLayer.toFixed(2)} of ${depth}: ${result.measured.toFixed(2)} ms per token, predicted ${result.predicted.toFixed(2)} (${off > 0 ? "+" : ""}${(100 * off).toFixed(1)} %)`,
      );
      return result;
    });
    const none = median(times.none);
    const exitTests = Object.fromEntries(
      Object.entries(times.tests).map(([name, values]) => {
        const share = (median(values) - none) / (depth - 1) / layer;
        log(`Exit test of ${name}: ${(100 * share).toFixed(0)} % of a layer, at every exit`);
        return [name, share];
      }),
    );
    const copied = copiedPerToken(prompt, tokens);
    log(
      `Cache: grows by pieces, which copies ${copied.toFixed(2)} tokens' keys and values per token; none is copied to run a layer`,
    );
    return {
      tokensPerSecond: 1000 / fullTime,
      forced,
      exitTests,
      bars: [
        {
          name: `time at a forced exit depth within ${100 * BAR} % of its parts`,
          isMet: forced.every(
            ({ measured, predicted }) => Math.abs(measured / predicted - 1) <= BAR,
          ),
        },
      ],
    };
  } finally {
    for (const runner of runners) await runner.dispose();
    await engine.dispose();
  }
}

interface Parts {
  /** Mean over layers and places. */
  readonly layer: number;
  readonly head: number;
  /** Keys and values of all layers above layer 1, 2, … */
  readonly fill: readonly number[];
}

/** Times layers, head and fills one by one, with a cache that grows as it does when a text is generated. */
async function timeParts(
  runner: DecoderRunner,
  ids: readonly number[],
  tokens: number,
  depth: number,
): Promise<Parts> {
  const pass = runner.begin(1, { maxTokens: ids.length + tokens });
  const clock = async <T>(into: number[], action: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await action();
    into.push(performance.now() - started);
    return result;
  };
  const [layers, heads] = [[] as number[], [] as number[]];
  const fills = Array.from({ length: depth - 1 }, () => [] as number[]);
  try {
    pass.append(0, ids);
    for (let layer = 1; layer <= depth; layer += 1) await pass.advance([0], layer);
    for (let token = 1; token < tokens; token += 1) {
      pass.append(0, [token]);
      // Every depth in turn, so that all fills are met.
      const exit = 1 + (token % depth);
      let states = new Float32Array(0);
      for (let layer = 1; layer <= exit; layer += 1) {
        const [out] = await clock(layers, () => pass.advance([0], layer));
        states = (out?.states ?? states) as typeof states;
      }
      await clock(heads, () => pass.project(exit, states));
      if (exit < depth) await clock(fills[exit - 1] as number[], () => pass.copyUp([0]));
    }
  } finally {
    pass.dispose();
  }
  const mean = (values: readonly number[]) =>
    values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  return { layer: mean(layers), head: mean(heads), fill: fills.map(mean) };
}

/** Tokens whose keys and values are copied when the cache grows by pieces of 64, per generated token. */
function copiedPerToken(prompt: number, tokens: number): number {
  const PIECE = 64;
  let copied = 0;
  for (let length = prompt + 1; length <= prompt + tokens; length += 1)
    if (length > PIECE && (length - 1) % PIECE === 0) copied += length - 1;
  return copied / tokens;
}
