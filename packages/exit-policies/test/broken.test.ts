/** Strategies with one deliberate defect each, and the checks that must find it. */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import {
  type AnyDefinition,
  type AnyExitStrategyFactory,
  defineExitStrategy,
  type ExitStrategy,
  type RowState,
} from "../src/index.js";
import { conformance } from "../src/testing/index.js";

const sound = {
  name: "broken-rule",
  options: v.strictObject({ threshold: v.optional(v.number(), 0.8) }),
  needs: ["logits", "probs"],
  tasks: ["classification"],
  knob: { option: "threshold", grid: [0, 0.7, 0.9, 1.01], direction: "lower-is-faster" },
  observe: ({ probs, logits }: { probs: tf.Tensor2D; logits: tf.Tensor2D }) =>
    tf.add(tf.max(probs, 1), tf.mul(tf.sum(logits, 1), 0)),
  start: () => ({ seen: 0 }),
  decide: (
    observed: Float32Array,
    state: RowState,
    { options }: { options: { threshold: number } },
  ) => ({
    exit: (observed[0] as number) >= Math.fround(options.threshold),
    state: { seen: (state.seen as number) + 1 },
  }),
  decideTensor: (
    observed: tf.Tensor2D,
    { seen }: { seen: tf.Tensor1D },
    { options }: { options: { threshold: tf.Tensor } },
  ) => ({
    exit: tf.greaterEqual(tf.squeeze(observed, [1]), options.threshold),
    state: { seen: tf.add(seen, 1) },
  }),
};

type Overrides = { readonly [K in keyof AnyDefinition]?: unknown };

function make(overrides: Overrides): AnyExitStrategyFactory {
  return defineExitStrategy({ ...sound, ...overrides } as never) as never;
}

/** Messages of the checks that fail, by check. */
async function failures(
  factory: AnyExitStrategyFactory,
  extra: object = {},
): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for (const check of conformance(factory, { configurations: [[]], ...extra }))
    try {
      await check.run();
    } catch (error) {
      found[check.name] = (error as Error).message;
    }
  return found;
}

let calls = 0;
const leaked: tf.Tensor[] = [];
const { observe, decide } = sound;
type Now = Parameters<typeof observe>[0];
type Context = Parameters<typeof decide>[2];

const defects: readonly (readonly [string, Overrides, string, string])[] = [
  [
    "throws in decide",
    {
      decide() {
        throw new Error("out of cheese");
      },
    },
    "live exits equal replayed exits",
    "decide threw at layer 1: out of cheese",
  ],
  [
    "throws in observe",
    {
      observe() {
        throw new Error("no such op");
      },
    },
    "observe runs at every layer of every declared task",
    "observe threw at layer 1: no such op",
  ],
  [
    "observes NaN",
    { observe: ({ logits }: Now) => tf.log(tf.sub(tf.mul(tf.max(logits, 1), 0), 1)) },
    "observe gives finite numbers for ordinary signals",
    "observe must give finite numbers",
  ],
  [
    "overflows on confident logits",
    {
      needs: ["logits"],
      observe({ logits }: Now) {
        const raised = tf.exp(logits);
        return tf.div(tf.max(raised, 1), tf.sum(raised, 1));
      },
    },
    "observe gives finite numbers for extreme logits",
    "subtract the maximum before exp",
  ],
  [
    "observes the wrong shape",
    { observe: ({ probs }: Now) => tf.max(probs) },
    "observe runs at every layer of every declared task",
    "observe must return a tensor of shape [10] or [10, K] at layer 1, got []",
  ],
  [
    "observes whole numbers",
    { observe: ({ logits }: Now) => tf.argMax(logits, 1) },
    "observe runs at every layer of every declared task",
    "a float32 tensor of shape [10] or [10, K] at layer 1, got int32 [10]",
  ],
  [
    "couples the rows of a batch",
    { observe: ({ probs }: Now) => tf.sub(tf.max(probs, 1), tf.mean(tf.max(probs, 1))) },
    "observe treats each row by itself",
    "no mean, maximum or softmax over the first axis",
  ],
  [
    "remembers outside the state",
    {
      decide(observed: Float32Array, state: RowState, context: Context) {
        calls += 1;
        return calls % 3 === 0 ? { exit: true, state } : decide(observed, state, context);
      },
    },
    "decide gives the same verdict for the same arguments",
    "keep what rows remember in the state",
  ],
  [
    "changes its state in place",
    {
      decide(observed: Float32Array, state: { seen: number }, { options }: Context) {
        state.seen += 1;
        return { exit: (observed[0] as number) >= Math.fround(options.threshold), state };
      },
    },
    "decide changes neither its state nor what was observed",
    "must run without throwing",
  ],
  [
    "writes into what was observed",
    {
      decide(observed: Float32Array, state: RowState, context: Context) {
        const verdict = decide(observed, state, context);
        observed[0] = 0;
        return verdict;
      },
    },
    "decide changes neither its state nor what was observed",
    "decide must not write into the observed values",
  ],
  [
    "decides later",
    { decide: async () => ({ exit: false, state: { seen: 0 } }) },
    "decide answers at once",
    "decide must be synchronous, got a promise",
  ],
  [
    "exits on NaN",
    {
      decide: (observed: Float32Array, state: RowState, { options }: Context) => ({
        exit: !((observed[0] as number) < Math.fround(options.threshold)),
        state,
      }),
    },
    "decide keeps a row whose observation is NaN",
    "decide must not exit on NaN",
  ],
  [
    "reads the knob in observe",
    {
      observe: ({ probs }: Now, { options }: Context) =>
        tf.sub(tf.max(probs, 1), options.threshold),
    },
    "observe reads neither the knob nor a calibrated option",
    'observe read the option "threshold"',
  ],
  [
    "reads a signal it did not list",
    { needs: ["logits"], observe },
    "observe reads only the signals that needs lists",
    'observe read the signal "probs"',
  ],
  [
    "lists a signal it does not read",
    { needs: ["logits", "probs", "hidden"] },
    "observe reads every signal that needs lists",
    "unread: hidden",
  ],
  [
    "leaks tensors",
    {
      observe(now: Now) {
        leaked.push(tf.keep(tf.scalar(1)));
        return observe(now);
      },
    },
    "observe leaves no tensors behind",
    "observe must leave no tensors behind, got 6 more than before",
  ],
  [
    "disposes what it is given",
    {
      observe(now: Now) {
        const made = observe(now);
        now.probs.dispose();
        return made;
      },
    },
    "observe leaves the signals alone",
    "probs disposed",
  ],
  [
    "turns its knob the wrong way",
    { knob: { ...sound.knob, direction: "higher-is-faster" } },
    "the mean exit layer follows the knob's direction",
    "a higher knob must never exit later on average",
  ],
  [
    "has a knob that does nothing",
    {
      decide: (_: Float32Array, state: RowState) => ({ exit: false, state }),
      decideTensor: undefined,
    },
    "the knob changes where rows exit",
    "must exit earlier",
  ],
  [
    "decides ties otherwise in its tensor form",
    {
      decideTensor: (...args: Parameters<typeof sound.decideTensor>) => ({
        ...sound.decideTensor(...args),
        exit: tf.greater(tf.squeeze(args[0], [1]), args[2].options.threshold),
      }),
    },
    "decideTensor equals decide on ties with the knob",
    "Math.fround(threshold)",
  ],
  [
    "forgets its state in its tensor form",
    {
      decideTensor: (...args: Parameters<typeof sound.decideTensor>) => ({
        ...sound.decideTensor(...args),
        state: args[1],
      }),
    },
    "decideTensor equals decide",
    "the state seen = 0 from the tensor form and 1 from decide",
  ],
  [
    "keeps text in its state",
    { start: () => ({ seen: "none" }) },
    "start gives a state of finite numbers",
    "start must return an object of finite numbers",
  ],
  [
    "accepts any option",
    {
      options: v.pipe(
        v.any(),
        v.transform((value) => ({ threshold: 0.8, ...value })),
      ),
    },
    "options that are no object are refused",
    "the schema must refuse",
  ],
  [
    "draws its parameters anew each time",
    {
      params: () => ({
        weight: { dtype: "float32", shape: [2], data: Float32Array.of(Math.random(), 1) },
      }),
    },
    "params gives the same numbers for the same seed",
    "no Math.random",
  ],
  [
    "trains nothing that it names",
    {
      params: () => ({ weight: { dtype: "float32", shape: [1], data: Float32Array.of(1) } }),
      *phases() {
        yield {
          name: "only",
          trains: ["strategy.**"],
          epochs: 1,
          batchSize: 8,
          learningRate: 1e-3,
          losses: { nothing: () => tf.scalar(1) },
        };
      },
    },
    "each phase trains what it says",
    'the phase "only" trains strategy.weight, so a loss must depend on it',
  ],
  [
    "never ends its training",
    {
      *phases() {
        for (;;)
          yield {
            name: "again",
            trains: ["heads.**"],
            epochs: 1,
            batchSize: 8,
            learningRate: 1e-3,
            losses: { nothing: () => tf.scalar(1) },
          };
      },
    },
    "phases are well-formed",
    "phases must come to an end",
  ],
  [
    "promises a monotone knob and has none",
    {
      knob: { ...sound.knob, isMonotone: true },
      start: () => ({}),
      decide: (observed: Float32Array, state: RowState, { options }: Context) => ({
        exit: Math.abs((observed[0] as number) - options.threshold) < 0.1,
        state,
      }),
      decideTensor: undefined,
    },
    "a sweep gives what single runs give",
    "every host must give a row the same exit",
  ],
  [
    "calibrates what it does not list",
    { calibrated: ["threshold"], calibrate: () => ({ other: 1 }) },
    "calibrate sets the options that it lists",
    "calibrate may set only what calibrated lists (threshold)",
  ],
];

describe("the kit", () => {
  it("finds nothing wrong with the rule that the broken ones are made from", async () => {
    expect(
      await failures(make({}), {
        knobEnds: { slowest: 1.01, fastest: { value: 0, layer: 1 } },
        vectors: [{ name: "tie", observed: [0.1, Math.fround(0.8), 0.1], exitLayer: 2 }],
      }),
    ).toEqual({});
  });

  it.each(defects)("finds the strategy that %s", async (_, overrides, check, message) => {
    const found = await failures(make(overrides));
    expect(found[check] ?? `not among ${Object.keys(found).join("; ")}`).toContain(message);
    expect(found[check]).toMatch(
      /^\[broken-rule\] .*See "Write a strategy", section "[a-z-]+"\.$/s,
    );
    tf.dispose(leaked.splice(0));
  });

  it("finds wrong test vectors and knob ends", async () => {
    const found = await failures(make({}), {
      knobEnds: { slowest: 0, fastest: { value: 1.01, layer: 1 } },
      vectors: [{ name: "wrong", observed: [0.1, 0.1, 0.9], exitLayer: 1 }],
    });
    expect(found["the given test vectors hold"]).toContain('"wrong" must exit at layer 1');
    expect(found["at the slowest end of the knob nobody exits early"]).toContain(
      "must exit at layer 6",
    );
    expect(found["at the fastest end of the knob everybody leaves at the earliest exit"]).toContain(
      "must exit at layer 1",
    );
  });

  it("shows what was left out, and refuses to leave out what it does not know", async () => {
    const name = "a model of one class works";
    const checks = conformance(make({}), {
      configurations: [[]],
      skip: { [name]: "two at least" },
    });
    const left = checks.filter(({ skipped }) => skipped !== undefined);
    expect(left.map((check) => check.name)).toEqual([`${name} [left out: two at least]`]);
    expect(() =>
      conformance(make({}), { configurations: [[]], skip: { "a model of one clas works": "" } }),
    ).toThrowError(`Did you mean "${name}"?`);
    expect(() => conformance(make({}), { configurations: [] })).toThrowError("configurations");
  });
});

describe("a definition", () => {
  const code = (value: string) => expect.objectContaining({ code: value });

  it.each([
    ["a name in capitals", { name: "MyRule" }, "BAD_DEFINITION", "kebab-case"],
    ["no decide", { decide: undefined }, "BAD_DEFINITION", "decide must be a function"],
    ["a hook that is none", { calibrate: 3 }, "BAD_DEFINITION", "calibrate must be a function"],
    ["no task", { tasks: [] }, "BAD_DEFINITION", "tasks must name at least one"],
    ["an unknown task", { tasks: ["ranking"] }, "BAD_DEFINITION", 'got "ranking"'],
    ["no needs", { needs: [] }, "BAD_DEFINITION", "needs must name at least one"],
    ["no schema", { options: {} }, "BAD_DEFINITION", "Standard Schema"],
    [
      "a knob nobody knows",
      { knob: { ...sound.knob, option: "speed" } },
      "BAD_DEFINITION",
      '"speed"',
    ],
    ["a grid of NaN", { knob: { ...sound.knob, grid: [Number.NaN] } }, "BAD_DEFINITION", "finite"],
    ["no direction", { knob: { ...sound.knob, direction: "up" } }, "BAD_DEFINITION", "direction"],
    [
      "an asynchronous schema",
      {
        options: v.objectAsync({
          threshold: v.pipeAsync(
            v.number(),
            v.checkAsync(async () => true),
          ),
        }),
      },
      "ASYNC_SCHEMA",
      "asynchronously",
    ],
  ])("with %s is refused", (_, overrides, expected, message) => {
    const act = () => make(overrides as Overrides);
    expect(act).toThrowError(code(expected));
    expect(act).toThrowError(message);
  });

  it("refuses options that the schema refuses, naming where and what", () => {
    const factory = make({}) as unknown as (options: unknown) => ExitStrategy;
    expect(() => factory({ threshold: "high" })).toThrowError(
      /^\[broken-rule\] invalid options: threshold: .*Got {"threshold":"high"}\.$/,
    );
    expect(() => factory({ treshold: 1 })).toThrowError(code("INVALID_OPTIONS"));
    expect(() => factory({ threshold: Number.POSITIVE_INFINITY })).toThrowError("survive JSON");
    expect(() => factory({ threshold: Number.NaN })).toThrowError(code("INVALID_OPTIONS"));
  });

  it("keeps options of its own, frozen", () => {
    const own = { threshold: 0.5 };
    const strategy = (make({}) as unknown as (options: unknown) => ExitStrategy)(own);
    own.threshold = 0.1;
    expect(strategy.options.threshold).toBe(0.5);
    expect(Object.isFrozen(strategy.options)).toBe(true);
  });
});
