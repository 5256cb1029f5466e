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
import type { Bar } from "../bars.js";
import { BenchError } from "../errors.js";
import type { RunHooks } from "../glue/progress.js";
import { checkStop } from "../glue/stop.js";
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
}

export interface ForcedDepth {
  readonly meanExitLayer: number;
  /** Milliseconds per token. */
  readonly measured: number;
  readonly predicted: number;
  /** Measured over predicted. */
  readonly ratio: RatioInterval;
}

/** A library on the same weights. */
export interface DecodePeerTimes {
  readonly version: string;
  /** Milliseconds. */
  readonly perToken: number;
  /** Its time over ours: our tokens per second over its. */
  readonly gain: RatioInterval;
}

/** Milliseconds, but for `copied`. */
export interface DecodeParts {
  readonly layer: number;
  readonly head: number;
  /** Keys and values of all layers above the first. */
  readonly fill: number;
  /** Enlarging the cache, per token, and the bytes that it copies. */
  readonly growth: number;
  readonly copied: number;
}

export interface DecodeBenchResult {
  readonly settings: Readonly<Record<string, number | string>>;
  /** Milliseconds, at full depth. */
  readonly perToken: number;
  readonly tokensPerSecond: number;
  /** `undefined` where it did not run. */
  readonly transformers: DecodePeerTimes | undefined;
  readonly parts: DecodeParts;
  readonly forced: readonly ForcedDepth[];
  /** Cost of an exit test, as a share of a layer. */
  readonly exitTests: Readonly<Record<string, number>>;
  readonly bars: readonly Bar[];
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

/** Share of the measured time that a prediction may be off. */
const BAR = 0.1;
const SEED = 1;

interface Setting extends RunHooks {
  readonly engine: Engine;
  readonly decoder: CausalDecoder;
  readonly ids: readonly number[];
  readonly tokens: number;
  readonly rounds: number;
}

/** @throws BenchError `STOPPED`; what compiling and decoding give; BenchError `RUN_MISMATCH` where Transformers.js computes something else */
export async function runDecodeBench(
  options: DecodeBenchOptions,
  hooks: RunHooks,
): Promise<DecodeBenchResult> {
  const { width = 384, depth = 12, vocabulary = 8000, threads = 1 } = options;
  const { prompt = 32, tokens = 48, rounds = 7 } = options;
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
    hooks.progress.print(`Decoder: ${depth}x${width}, ${engine.description}`);
    hooks.progress.plan(2 * rounds + 2 + (rounds + 1));
    const rng = createRng(SEED);
    const ids = Array.from({ length: prompt }, () => rng.int(vocabulary));
    const setting: Setting = { engine, decoder, ids, tokens, rounds, ...hooks };
    const peer =
      options.transformers === false
        ? undefined
        : await openDecoderPeer(decoder, { threads, spinning: false });
    const isMissing = peer !== undefined && "missing" in peer;
    const full = await measureFull(setting, isMissing ? undefined : peer);
    const exits = await measureExits(setting);
    return {
      settings: {
        ...{ depth, width, vocabulary, prompt, tokens, rounds },
        runtime: engine.description,
      },
      ...full,
      ...exits,
      bars: [...full.bars, ...exits.forced.map(forcedBar)],
      notes: isMissing ? [peer.missing] : [],
    };
  } finally {
    await engine.dispose();
  }
}

/** Whole texts at full depth, ours and the library's in turn. */
async function measureFull(
  { engine, decoder, ids, tokens, rounds, progress, signal }: Setting,
  peer: DecoderPeer | undefined,
): Promise<Pick<DecodeBenchResult, "perToken" | "tokensPerSecond" | "transformers" | "bars">> {
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
      {
        rounds: 2 * rounds,
        warmUp: 2,
        rng: createRng(SEED),
        signal,
        onRound: () => progress.update("full depth", 1),
      },
    );
    const own = times.get(SYSTEMS.full) as readonly number[];
    const perToken = median(own) / tokens;
    const tokensPerSecond = 1000 / perToken;
    progress.print(`Full depth: ${perToken.toFixed(2)} ms per token`);
    const theirs = times.get(SYSTEMS.transformers);
    if (!peer || !theirs) return { perToken, tokensPerSecond, transformers: undefined, bars: [] };
    const gain = ratioOf(theirs, own, SEED);
    const transformers = { version: peer.version, perToken: median(theirs) / tokens, gain };
    const bar = {
      name: "full depth, tokens per second over those of Transformers.js",
      value: gain.estimate,
      limit: "at least 1",
      // As in `bench speed`: by the better end of the interval.
      isMet: gain.high >= 1,
      isOpen: gain.estimate < 1 && gain.high >= 1,
    };
    return { perToken, tokensPerSecond, transformers, bars: [bar] };
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
async function measureExits({
  engine,
  decoder,
  ids,
  tokens,
  rounds,
  progress,
  signal,
}: Setting): Promise<Pick<DecodeBenchResult, "forced" | "exitTests" | "parts">> {
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
      progress.update(`forced exits and exit tests, round ${round} of ${rounds}`, 1);
      for (const [index, layers] of schedules.entries()) {
        checkStop(signal);
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
        checkStop(signal);
        const timed = await decode(runner, ids, tokens, tests[name] as ExitStrategy);
        if (round > 0) tested.get(name)?.push(typical(timed, [depth]));
      }
    }
    const of = (pick: (parts: Parts) => number) => median(all.map(pick));
    const parts: DecodeParts = {
      layer: of(({ layers }) => meanOf(layers)),
      head: of(({ head }) => head),
      fill: of(({ fills }) => fills.get(1) ?? 0),
      growth: of(({ growth }) => growth),
      copied: of(({ copied }) => copied),
    };
    const forced = schedules.map((layers, index): ForcedDepth => {
      const [own, sum] = [measured[index], predicted[index]] as [number[], number[]];
      return {
        meanExitLayer: meanOf(layers),
        measured: median(own),
        predicted: median(sum),
        ratio: ratioOf(own, sum, SEED),
      };
    });
    const exitTests = Object.fromEntries(
      [...tested].map(([name, values]) => [
        name,
        (median(values) - median(none)) / (depth - 1) / parts.layer,
      ]),
    );
    return { forced, exitTests, parts };
  } finally {
    for (const runner of runners) await runner.dispose();
  }
}

function forcedBar({ meanExitLayer, ratio }: ForcedDepth): Bar {
  const isMet = ratio.high >= 1 - BAR && ratio.low <= 1 + BAR;
  return {
    name: `forced mean exit depth ${meanExitLayer.toFixed(2)}, measured time over that of its parts`,
    value: ratio.estimate,
    limit: `within ${100 * BAR} %`,
    isMet,
    isOpen: isMet && Math.abs(ratio.estimate - 1) > BAR,
  };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
