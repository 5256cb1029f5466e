/** @file Conformance checks of the device side. B = rows, T = layers, C = classes, K = values observed per row. */
import * as tf from "@tensorflow/tfjs";
import { withOptions } from "../define.js";
import { messageOf, toObserver } from "../observer.js";
import type { ExitRecord } from "../record.js";
import type { Carry, ExitStrategy, ModelShape } from "../strategy.js";
import type { Check } from "./conformance.js";
import {
  ensure,
  everywhere,
  modelOf,
  paramsOf,
  ROWS,
  range,
  recordOf,
  type Subject,
  sameNumbers,
  withoutLeaks,
} from "./subject.js";

/** Float32 results of another batch size may differ in the last digits. */
const CLOSE = 1e-5;

export const observeChecks: readonly Check[] = [
  {
    name: "observe runs at every layer of every declared task",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const { observed, observedWidth } = await recordOf(subject, shape, strategy);
        ensure(
          observed.length === ROWS * shape.depth * observedWidth,
          "observe must give one row of numbers per row and layer",
          `${observed.length} numbers`,
          "observe",
        );
      }),
  },
  {
    name: "observe gives finite numbers for ordinary signals",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const { observed } = await recordOf(subject, shape, strategy);
        ensure(
          observed.every(Number.isFinite),
          "observe must give finite numbers when the signals are ordinary",
          describe(observed),
          "observe",
        );
      }),
  },
  {
    name: "observe gives finite numbers for extreme logits",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        for (const size of [60, 90, 1e4]) {
          const logits = range(ROWS).map((row) =>
            range(shape.depth).map(() =>
              range(shape.classes).map((k) => (k === row % shape.classes ? size : -size)),
            ),
          );
          const made = await recordOf(subject, shape, strategy, modelOf(shape, { logits }));
          ensure(
            made.observed.every(Number.isFinite),
            `observe must stay finite for logits of ±${size} (subtract the maximum before exp; never p * ln p)`,
            describe(made.observed),
            "observe",
          );
        }
      }),
  },
  {
    name: "observe reads only the signals that needs lists",
    isVital: true,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const refusal = refusalOf(subject, strategy, shape, "read the signal");
        ensure(
          refusal === undefined,
          "observe may read only the signals that needs lists",
          refusal,
          "needs",
        );
      }),
  },
  {
    name: "observe reads every signal that needs lists",
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const read = new Set<string>();
        withSignals(shape, (now) => {
          const watched = {};
          for (const name of subject.definition.needs as readonly string[])
            Object.defineProperty(watched, name, {
              get() {
                read.add(name);
                return now[name as keyof typeof now];
              },
            });
          const params = tensorsOf(subject, strategy, shape);
          const { knob, calibrated = [] } = strategy.definition;
          const hidden = new Set<string>([...(knob ? [knob.option] : []), ...calibrated]);
          const options = Object.fromEntries(
            Object.entries(strategy.options).filter(([option]) => !hidden.has(option)),
          );
          let carry: Carry | undefined;
          for (const layer of range(shape.depth).map((index) => index + 1)) {
            const site = { layer, depth: shape.depth, task: shape.task };
            const context = { site, params, options, carry };
            const made = strategy.definition.observe(watched as never, context);
            carry = "carry" in made ? made.carry : undefined;
          }
        });
        const unread = subject.definition.needs.filter((name: string) => !read.has(name));
        ensure(
          unread.length === 0,
          "needs must list only what observe reads, since hosts pay for each signal",
          `unread: ${unread.join(", ")}`,
          "needs",
        );
      }),
  },
  {
    name: "observe reads neither the knob nor a calibrated option",
    isVital: true,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        const refusal = refusalOf(subject, strategy, shape, "read the option");
        ensure(
          refusal === undefined,
          "observe may read neither the knob nor a calibrated option: a record has to serve all their values",
          refusal,
          "knob",
        );
      }),
  },
  {
    name: "records made at different knob values are equal",
    isVital: true,
    appliesTo: ({ definition }) => definition.knob !== undefined,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const knob = subject.definition.knob;
        if (!knob) return;
        const records: ExitRecord[] = [];
        for (const value of [knob.grid[0], knob.grid.at(-1)])
          records.push(
            await recordOf(subject, shape, withOptions(strategy, { [knob.option]: value })),
          );
        ensure(
          sameNumbers(records[0]?.observed ?? [], records[1]?.observed ?? []),
          "observe must not depend on the knob: one record serves all its values",
          `different numbers at ${knob.option} = ${knob.grid[0]} and ${knob.grid.at(-1)}`,
          "knob",
        );
      }),
  },
  {
    name: "observe gives the same numbers for the same signals",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const [a, b] = [
          await recordOf(subject, shape, strategy),
          await recordOf(subject, shape, strategy),
        ];
        ensure(
          sameNumbers(a.observed, b.observed),
          "observe must be a function of its arguments",
          "different numbers on the second run",
          "observe",
        );
      }),
  },
  {
    name: "observe treats each row by itself",
    isVital: true,
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const model = modelOf(shape);
        const all = await recordOf(subject, shape, strategy, model);
        for (const row of range(ROWS)) {
          const alone = await recordOf(subject, shape, strategy, model, [row]);
          const size = shape.depth * all.observedWidth;
          ensure(
            sameNumbers(all.observed.subarray(row * size, (row + 1) * size), alone.observed, CLOSE),
            "observe must treat each row by itself (no mean, maximum or softmax over the first axis)",
            `other numbers for row ${row} alone than among ${ROWS}`,
            "observe",
          );
        }
      }),
  },
  {
    name: "observe follows the order of the rows",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const model = modelOf(shape);
        const order = range(ROWS).reverse();
        const [plain, turned] = [
          await recordOf(subject, shape, strategy, model),
          await recordOf(subject, shape, strategy, model, order),
        ];
        const size = shape.depth * plain.observedWidth;
        ensure(
          order.every((row, index) =>
            sameNumbers(
              plain.observed.subarray(row * size, (row + 1) * size),
              turned.observed.subarray(index * size, (index + 1) * size),
              CLOSE,
            ),
          ),
          "observe must return its numbers in the order of the rows",
          "other numbers when the rows are turned round",
          "observe",
        );
      }),
  },
  {
    name: "observe leaves no tensors behind",
    isVital: true,
    run: (subject) =>
      everywhere(subject, (strategy, shape) =>
        withoutLeaks("observe", async () => {
          await recordOf(subject, shape, strategy);
        }),
      ),
  },
  {
    name: "observe leaves the signals alone",
    isVital: true,
    run: (subject) =>
      everywhere(subject, (strategy, shape) => {
        withSignals(shape, (now) => {
          const before = now.logits.dataSync().slice();
          observeOnce(subject, strategy, shape, now);
          for (const [name, tensor] of Object.entries(now))
            ensure(
              !tensor.isDisposed,
              "observe must not dispose what it is given",
              `${name} disposed`,
              "observe",
            );
          ensure(
            sameNumbers(before, now.logits.dataSync()),
            "observe must not change what it is given",
            "other logits",
            "observe",
          );
        });
      }),
  },
  {
    name: "observe works on one layer, one row and more classes",
    run: (subject) =>
      everywhere(subject, async (strategy, shape) => {
        const classes = shape.task === "regression" ? 1 : 5;
        for (const [depth, rows] of [
          [1, 1],
          [1, 3],
          [3, 1],
        ] as const) {
          const other = { ...shape, depth, classes };
          const model = modelOf(other, { rows });
          const made = await recordOf(subject, other, strategy, model, range(rows));
          ensure(
            made.observed.length === rows * depth * made.observedWidth,
            "observe must work for any depth and number of rows and classes",
            `${made.observed.length} numbers for ${rows} rows of ${depth} layers`,
            "observe",
          );
        }
      }),
  },
];

type PlainSignals = Readonly<
  Record<"logits" | "probs" | "pooled" | "hidden" | "features", tf.Tensor2D>
>;

/** Hands out the signals of three rows, freed afterwards. */
function withSignals(shape: ModelShape, act: (now: PlainSignals) => void): void {
  tf.tidy(() => {
    const logits = tf.randomNormal([3, shape.classes], 0, 1, "float32", 4) as tf.Tensor2D;
    const vector = (seed: number) =>
      tf.randomNormal([3, shape.hidden], 0, 1, "float32", seed) as tf.Tensor2D;
    act({
      logits,
      probs: tf.softmax(logits),
      pooled: vector(5),
      hidden: vector(6),
      features: vector(7),
    });
  });
}

function tensorsOf(subject: Subject, strategy: ExitStrategy, shape: ModelShape) {
  return Object.fromEntries(
    Object.entries(paramsOf(subject, shape, strategy)).map(([name, { data, shape, dtype }]) => [
      name,
      tf.tensor(data, [...shape], dtype),
    ]),
  );
}

function observeOnce(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
  now: PlainSignals,
): void {
  toObserver(strategy).observe(now, {
    site: { layer: 1, depth: shape.depth, task: shape.task },
    params: tensorsOf(subject, strategy, shape),
    carry: undefined,
  });
}

/** The observer's own complaint, if it is of this kind; other kinds are other checks' business. */
function refusalOf(
  subject: Subject,
  strategy: ExitStrategy,
  shape: ModelShape,
  kind: string,
): string | undefined {
  let refusal: string | undefined;
  withSignals(shape, (now) => {
    try {
      observeOnce(subject, strategy, shape, now);
    } catch (error) {
      if (messageOf(error).includes(kind)) refusal = messageOf(error);
    }
  });
  return refusal;
}

function describe(values: Float32Array): string {
  const index = values.findIndex((value) => !Number.isFinite(value));
  return `${values[index]} among ${values.length} numbers`;
}
