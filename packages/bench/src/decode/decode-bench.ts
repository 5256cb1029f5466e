/**
 * @file `pnpm bench decode`: what a token costs at full depth, against Transformers.js on the same weights; and at forced
 * exit depths, against what the layers that were run, the head and the filled keys and values predict; and what each exit
 * test costs. All of it takes turns within one run, so that a change of the machine's speed meets all.
 */
import {
  type CausalDecoder,
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
import { BenchError } from "../errors.js";
import { median } from "../metrics/statistics.js";
import { checkSame, SYSTEMS } from "../speed/forced.js";
import { interleave, type RatioInterval, ratioOf } from "../speed/rounds.js";
import { forcedExits } from "./forced-exits.js";
import { type Parts, predict, timeParts, typicalTime } from "./parts.js";
import { type DecoderPeer, openDecoderPeer } from "./transformers.js";

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
  /** Compare with Transformers.js where it is installed. @default true */
  readonly transformers?: boolean;
  readonly log?: (line: string) => void;
}

export interface ForcedDepth {
  readonly meanExitLayer: number;
  /** Milliseconds per token. */
  readonly measured: number;
  readonly predicted: number;
  /** Measured over predicted. */
  readonly ratio: RatioInterval;
}

export interface DecodeBar {
  readonly name: string;
  readonly value: number;
  readonly limit: string;
  readonly isMet: boolean;
}

export interface DecodeBenchResult {
  readonly tokensPerSecond: number;
  /** Tokens per second over those of Transformers.js; `undefined` where it did not run. */
  readonly gain: RatioInterval | undefined;
  readonly forced: readonly ForcedDepth[];
  /** Cost of an exit test, as a share of a layer. */
  readonly exitTests: Readonly<Record<string, number>>;
  readonly bars: readonly DecodeBar[];
}

/** Share of the measured time that a prediction may be off. */
const BAR = 0.1;
const SEED = 1;

interface Setting {
  readonly engine: Engine;
  readonly decoder: CausalDecoder;
  readonly ids: readonly number[];
  readonly tokens: number;
  readonly rounds: number;
  readonly log: (line: string) => void;
}

/** @throws what compiling and decoding give; BenchError `RUN_MISMATCH` where Transformers.js computes something else */
export async function runDecodeBench(options: DecodeBenchOptions = {}): Promise<DecodeBenchResult> {
  const { width = 384, depth = 12, vocabulary = 8000, threads = 1 } = options;
  const { prompt = 32, tokens = 48, rounds = 7, log = () => undefined } = options;
  const engine = await createEngine({ threads });
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
      seed: SEED,
    });
    log(`Decoder: ${depth}x${width}, ${vocabulary} pieces, batch 1, ${engine.description}`);
    const rng = createRng(SEED);
    const ids = Array.from({ length: prompt }, () => rng.int(vocabulary));
    const setting: Setting = { engine, decoder, ids, tokens, rounds, log };
    const peer =
      options.transformers === false
        ? undefined
        : await openDecoderPeer(decoder, { threads, spinning: false });
    if (peer && "missing" in peer) log(peer.missing);
    const full = await measureFull(setting, peer && "missing" in peer ? undefined : peer);
    const { forced, exitTests } = await measureExits(setting);
    const bars = [...full.bars, ...forced.map(forcedBar)];
    for (const { name, value, limit, isMet } of bars)
      log(`${isMet ? "met    " : "not met"}  ${name}: ${value.toFixed(3)} (${limit})`);
    return { ...full, forced, exitTests, bars };
  } finally {
    await engine.dispose();
  }
}

/** Whole texts at full depth, ours and the library's in turn. */
async function measureFull(
  { engine, decoder, ids, tokens, rounds, log }: Setting,
  peer: DecoderPeer | undefined,
): Promise<Pick<DecodeBenchResult, "tokensPerSecond" | "gain" | "bars">> {
  const full = await openDecoder(engine, decoder);
  try {
    if (peer) await checkPeer(peer, full, ids, tokens);
    const times = await interleave(
      [
        {
          name: SYSTEMS.full,
          run: async () =>
            tokens * meanOf((await decode(full, ids, tokens)).map(({ time }) => time)),
        },
        ...(peer
          ? [
              {
                name: SYSTEMS.transformers,
                run: async () => tokens * (await peer.generate(ids, tokens)).perToken,
              },
            ]
          : []),
      ],
      { rounds: 2 * rounds, warmUp: 2, rng: createRng(SEED) },
    );
    const own = times.get(SYSTEMS.full) as readonly number[];
    const perToken = median(own) / tokens;
    const tokensPerSecond = 1000 / perToken;
    log(
      `Full depth, one graph: ${perToken.toFixed(2)} ms per token, ${tokensPerSecond.toFixed(0)} tokens/s`,
    );
    const theirs = times.get(SYSTEMS.transformers);
    if (!peer || !theirs) return { tokensPerSecond, gain: undefined, bars: [] };
    const gain = ratioOf(theirs, own, SEED);
    log(
      `Transformers.js ${peer.version}: ${(median(theirs) / tokens).toFixed(2)} ms per token; its time over ours ${gain.estimate.toFixed(2)} (${gain.low.toFixed(2)} to ${gain.high.toFixed(2)})`,
    );
    const bar = {
      name: "full depth, tokens per second over those of Transformers.js",
      value: gain.estimate,
      limit: "at least 1",
      // As in `bench speed`: by the better end of the interval.
      isMet: gain.high >= 1,
    };
    return { tokensPerSecond, gain, bars: [bar] };
  } finally {
    await full.dispose();
    await peer?.close();
  }
}

/** The same logits for the prompt, and the same text up to a near tie. @throws BenchError `RUN_MISMATCH` */
async function checkPeer(
  peer: DecoderPeer,
  full: DecoderRunner,
  ids: readonly number[],
  tokens: number,
): Promise<void> {
  const pass = full.begin(1, { maxTokens: ids.length });
  try {
    pass.append(0, ids);
    const [out] = await pass.advance([0], full.shape.depth);
    const logits = await pass.project(full.shape.depth, out?.states ?? new Float32Array(0));
    checkSame(SYSTEMS.transformers, await peer.logits(ids), logits);
  } finally {
    pass.dispose();
  }
  const own: { readonly id: number; readonly isNearTie: boolean }[] = [];
  for await (const token of generateTokens(full, [{ ids }], { maxNewTokens: tokens }))
    own.push(token);
  const tie = own.findIndex(({ isNearTie }) => isNearTie);
  const certain = own.slice(0, tie < 0 ? own.length : tie).map(({ id }) => id);
  const theirs = (await peer.generate(ids, tokens)).ids.slice(0, certain.length);
  if (String(theirs) === String(certain)) return;
  throw new BenchError(
    "RUN_MISMATCH",
    SYSTEMS.transformers,
    `it continues with ${theirs.slice(0, 8).join(", ")} where full depth says ${certain.slice(0, 8).join(", ")}. It computes another model; its times mean nothing.`,
  );
}

interface TimedToken {
  readonly layer: number;
  /** Milliseconds since the token before. */
  readonly time: number;
}

/** Times of the tokens behind the first. */
async function decode(
  runner: DecoderRunner,
  ids: readonly number[],
  tokens: number,
  strategy?: ExitStrategy,
): Promise<TimedToken[]> {
  const timed: TimedToken[] = [];
  let last = 0;
  const loop = generateTokens(runner, [{ ids }], {
    maxNewTokens: tokens,
    ...(strategy ? { strategy } : {}),
  });
  for await (const { isFromPrompt, layer } of loop) {
    const now = performance.now();
    if (!isFromPrompt) timed.push({ layer, time: now - last });
    last = now;
  }
  return timed;
}

/** The time of what leaves at each layer, averaged over the layers as often as they come. */
function typical(timed: readonly TimedToken[], layers: readonly number[]): number {
  return meanOf(
    layers.map((layer) =>
      typicalTime(timed.filter((token) => token.layer === layer).map(({ time }) => time)),
    ),
  );
}

/** Forced exits against their parts, and exit tests that let nobody go. */
async function measureExits({ engine, decoder, ids, tokens, rounds, log }: Setting) {
  const { depth } = decoder.shape;
  const runners: DecoderRunner[] = [];
  const open = async (strategy: ExitStrategy): Promise<DecoderRunner> => {
    const params = strategy.definition.params?.(decoder.shape, strategy.options, SEED) ?? {};
    const runner = await openDecoder(engine, decoder, { observer: toObserver(strategy, params) });
    runners.push(runner);
    return runner;
  };
  const schedules = [
    [Math.max(1, Math.round(depth / 6))],
    [Math.round(depth / 2)],
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
  try {
    const exiting = await open(forcedExits({ layers: [1] }));
    const testing = new Map<string, DecoderRunner>();
    for (const [name, strategy] of Object.entries(tests)) testing.set(name, await open(strategy));
    const never = forcedExits({ layers: [depth] });
    const measured = schedules.map(() => [] as number[]);
    const predicted = schedules.map(() => [] as number[]);
    const all: Parts[] = [];
    const none: number[] = [];
    const tested = new Map<string, number[]>([...testing.keys()].map((name) => [name, []]));
    // The first round warms up.
    for (let round = 0; round <= rounds; round += 1) {
      for (const [index, layers] of schedules.entries()) {
        const timed = await decode(exiting, ids, tokens, forcedExits({ layers }));
        const parts = await timeParts(exiting, ids, tokens, layers);
        if (round === 0) continue;
        measured[index]?.push(typical(timed, layers));
        predicted[index]?.push(meanOf(layers.map((exit) => predict(parts, exit))));
        if (layers.length > 1) all.push(parts);
      }
      const idle = await decode(exiting, ids, tokens, never);
      if (round > 0) none.push(typical(idle, [depth]));
      for (const [name, runner] of testing) {
        const timed = await decode(runner, ids, tokens, tests[name] as ExitStrategy);
        if (round > 0) tested.get(name)?.push(typical(timed, [depth]));
      }
    }
    const of = (pick: (parts: Parts) => number) => median(all.map(pick));
    const layer = of(({ layers }) => meanOf(layers));
    log(
      `One layer by itself ${layer.toFixed(3)} ms, the head ${of(({ head }) => head).toFixed(3)} ms, filling all layers above the first ${of(({ fills }) => fills.get(1) ?? 0).toFixed(3)} ms`,
    );
    const forced = schedules.map((layers, index): ForcedDepth => {
      const [own, sum] = [measured[index], predicted[index]] as [number[], number[]];
      const ratio = ratioOf(own, sum, SEED);
      const result = {
        meanExitLayer: meanOf(layers),
        measured: median(own),
        predicted: median(sum),
        ratio,
      };
      const percent = (value: number) => `${value > 1 ? "+" : ""}${(100 * (value - 1)).toFixed(1)}`;
      log(
        `Forced mean exit depth ${result.meanExitLayer.toFixed(2)} of ${depth}: ${result.measured.toFixed(2)} ms per token, predicted ${result.predicted.toFixed(2)}, off by ${percent(ratio.estimate)} % (${percent(ratio.low)} to ${percent(ratio.high)})`,
      );
      return result;
    });
    const exitTests = Object.fromEntries(
      [...tested].map(([name, values]) => {
        const share = (median(values) - median(none)) / (depth - 1) / layer;
        log(`Exit test of ${name}: ${(100 * share).toFixed(0)} % of a layer, at every exit`);
        return [name, share];
      }),
    );
    const [growth, copied] = [of((parts) => parts.growth), of((parts) => parts.copied)];
    log(
      `Cache copies: none to run a layer; growing copies ${(copied / 1024).toFixed(0)} KiB per token, ${growth.toFixed(3)} ms, ${((100 * growth) / layer).toFixed(1)} % of a layer`,
    );
    return { forced, exitTests };
  } finally {
    for (const runner of runners) await runner.dispose();
  }
}

function forcedBar({ meanExitLayer, ratio }: ForcedDepth): DecodeBar {
  return {
    name: `forced mean exit depth ${meanExitLayer.toFixed(2)}, measured time over that of its parts`,
    value: ratio.estimate,
    limit: `within ${100 * BAR} %`,
    isMet: ratio.high >= 1 - BAR && ratio.low <= 1 + BAR,
  };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
