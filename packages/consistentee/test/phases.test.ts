/** @file The plan of the iterative training, and the losses of its phases. */
import { createEngine, type TensorParams, valueAndGrads } from "@cee/engine";
import type { ModelShape, PhaseReport, TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type ConsistentEEInput,
  consistentEEPlan,
  epsilonAt,
  initialisePhase,
  policyPhase,
  resolveOptions,
  taskPhase,
} from "../src/index.js";
import { graded, shape, uniformTensor } from "./support.js";

/** Runs a plan on made-up held-out objectives, one per task phase; returns the names of its phases. */
function phasesOf(options: ConsistentEEInput, objectives: readonly number[], model = shape) {
  const plan = consistentEEPlan(model, resolveOptions(options));
  const left = [...objectives];
  const phases: TrainingPhase[] = [];
  let next = plan.next();
  while (!next.done) {
    const phase = next.value;
    phases.push(phase);
    const objective = phase.name.startsWith("task") ? left.shift() : undefined;
    const report: PhaseReport = {
      phase: phase.name,
      steps: 1,
      loss: 0,
      measures: objective === undefined ? {} : { objective },
    };
    next = plan.next(report);
  }
  return phases;
}
const namesOf = (...args: Parameters<typeof phasesOf>) => phasesOf(...args).map((p) => p.name);

/** Ends with the task step. */
const asThePaper = { finishWithPolicy: false } as const;

describe("plan", () => {
  it("ends with the task step in the paper's preset, and with the policy in the small one", () => {
    expect(namesOf({ preset: "paper", initialised: true, maxRounds: 1 }, [-1]).at(-1)).toBe(
      "task-1",
    );
    expect(namesOf({ preset: "small", initialised: true }, [-1]).at(-1)).toBe("policy-2");
  });

  it("repeats policy and task step until the held-out objective gains too little", () => {
    const rounds = (...objectives: number[]) =>
      namesOf({ ...asThePaper, maxRounds: 5 }, objectives);
    expect(rounds(-1, -0.5, -0.4995)).toEqual(
      ["initialise", 1, 2, 3].flatMap((n) =>
        n === "initialise" ? n : [`policy-${n}`, `task-${n}`],
      ),
    );
    expect(rounds(-1, -1.2)).toHaveLength(5);
    expect(rounds(-5, -4, -3, -2, -1)).toHaveLength(11);
  });

  it("runs every round when nothing is held out", () => {
    expect(namesOf({ ...asThePaper, maxRounds: 3 }, [])).toHaveLength(7);
  });

  it("leaves out an initialisation that was shared, and ends with a policy step on request", () => {
    const options = { initialised: true, finishWithPolicy: true } as const;
    expect(namesOf({ ...options, maxRounds: 1 }, [-1])).toEqual(["policy-1", "task-1", "policy-2"]);
    expect(namesOf({ ...options, maxRounds: 4 }, [-1, -1])).toEqual([
      "policy-1",
      "task-1",
      "policy-2",
      "task-2",
      "policy-3",
    ]);
  });

  it("trains what the paper trains in each step", () => {
    const [initialise, policy, task] = phasesOf({ maxRounds: 1 }, [-1]) as [
      TrainingPhase,
      TrainingPhase,
      TrainingPhase,
    ];
    expect(initialise.trains).toEqual(["backbone.**", "heads.**"]);
    expect(policy).toMatchObject({ trains: ["strategy.**"], source: "record" });
    expect(task.trains).toEqual(["backbone.**", "heads.**"]);
  });

  it("of a model with one layer is the initialisation alone", () => {
    expect(namesOf({}, [], { ...shape, depth: 1 })).toEqual(["initialise"]);
  });
});

describe("side data and measures", () => {
  const { record } = graded(12, 2);

  it("hold the loss of every exit and the price of a layer", () => {
    const phase = policyPhase(resolveOptions({ alpha: 0.6 }), 1);
    const side = phase.prepare?.(record);
    expect(side?.width).toBe(7);
    // Row 1 has hardness 2: margins -0.4, 0.4, …; its price is 0.6 (1 - 2 / 6).
    const row = side?.values.slice(7, 14) as Float32Array;
    const losses = [-0.4, 0.4, 1.2, 2, 2.8, 3.6].map((margin) => Math.log1p(Math.exp(-margin)));
    expect(row).toBeAllclose([...losses, 0.4], { rtol: 1e-5 });
  });

  it("measure the rule of inference and the policy that was optimised", () => {
    const phase = taskPhase(resolveOptions({ alpha: 0, reward: "vanilla" }), 1);
    const observed = new Float32Array(12 * 6).fill(-50);
    for (let row = 0; row < 12; row += 1) observed[row * 6 + 2] = 50;
    const measures = phase.measure?.({ ...record, observed });
    expect(measures).toMatchObject({ meanExitLayer: 3, oracleExitLayer: 6 });
    expect(measures?.expectedExitLayer).toBeCloseTo(3, 6);
    expect(measures?.gap).toBeCloseTo(0, 6);
    const nothing = {
      ...record,
      ids: [],
      labels: new Float32Array(0),
      logits: new Float32Array(0),
    };
    expect(phase.measure?.({ ...nothing, observed: new Float32Array(0) })).toEqual({});
  });
});

const model: ModelShape = { task: "classification", depth: 3, hidden: 4, classes: 3 };

/** A model without encoder: each layer's state is its input times one number, each head one matrix. */
function stepOf(
  params: TensorParams,
  states: readonly tf.Tensor2D[],
  labels: tf.Tensor1D,
  perRow: tf.Scalar,
  seed: tf.Tensor1D,
): TrainingStep {
  return {
    shape: model,
    exits: states.map((state, index) => {
      const pooled = tf.mul(state, params["backbone.scale"] as tf.Tensor) as tf.Tensor2D;
      const head = params[`heads.${index + 1}`] as tf.Tensor2D;
      return { pooled, logits: tf.matMul(pooled, head) } as never;
    }),
    labels,
    params: Object.fromEntries(
      Object.entries(params).map(([path, value]) => [path.replace("strategy.", ""), value]),
    ),
    side: undefined,
    perRow,
    progress: perRow,
    step: perRow,
    seed,
  };
}

/** Policies that look at one component of the state: above zero, exit. */
function modelParams(): Record<string, tf.Tensor> {
  const params: Record<string, tf.Tensor> = { "backbone.scale": tf.scalar(1) };
  for (let layer = 1; layer <= 3; layer += 1)
    params[`heads.${layer}`] = tf.sub(uniformTensor([4, 3], `head ${layer}`), 0.5);
  for (let layer = 1; layer <= 2; layer += 1) {
    const name = `strategy.policy.${layer}`;
    params[`${name}.hidden.weight`] = tf.tensor2d([
      [layer === 1 ? 1 : 0, layer === 2 ? 1 : 0, 0, 0],
    ]);
    params[`${name}.hidden.bias`] = tf.zeros([1]);
    params[`${name}.output.weight`] = tf.ones([1, 1]);
    params[`${name}.output.bias`] = tf.zeros([1]);
  }
  return params;
}

function batch(rows: number) {
  return {
    states: [1, 2, 3].map(
      (layer) => tf.sub(uniformTensor([rows, 4], `state ${layer} ${rows}`), 0.5) as tf.Tensor2D,
    ),
    labels: tf.tensor1d(Array.from({ length: rows }, (_, row) => row % 3)),
    perRow: tf.scalar(1 / rows),
    seed: tf.tensor1d([3, 4], "int32"),
  };
}

const lossOf = (phase: TrainingPhase) =>
  Object.values(phase.losses)[0] as (s: TrainingStep) => tf.Scalar;

describe("task loss", () => {
  it("is the loss at the exit that the policy chooses, and reaches no other head and no policy", () => {
    const loss = lossOf(taskPhase(resolveOptions({}), 1));
    tf.tidy(() => {
      // Row 0 exits at layer 1, row 1 at layer 3; nobody exits at layer 2.
      const states = [0, 1, 2].map(() =>
        tf.tensor2d([
          [1, -1, 0.5, 0.2],
          [-1, -1, 0.3, 0.9],
        ]),
      );
      const params = modelParams();
      const labels = tf.tensor1d([2, 1]);
      const { loss: value, gradients } = valueAndGrads(
        (p) => loss(stepOf(p, states, labels, tf.scalar(0.5), tf.tensor1d([1, 2], "int32"))),
        params,
      );
      const crossEntropy = (row: number, head: number, label: number) => {
        const state = tf.slice(states[0] as tf.Tensor2D, [row, 0], [1, 4]);
        const logits = tf.matMul(state, params[`heads.${head}`] as tf.Tensor2D);
        return -(tf.logSoftmax(logits).dataSync()[label] as number);
      };
      const expected = (crossEntropy(0, 1, 2) + crossEntropy(1, 3, 1)) / 2;
      expect(value.dataSync()).toBeAllclose([expected], { rtol: 1e-5 });
      const size = (path: string) => tf.max(tf.abs(gradients[path] as tf.Tensor)).dataSync()[0];
      expect(size("heads.1")).toBeGreaterThan(0.01);
      expect(size("heads.3")).toBeGreaterThan(0.01);
      expect(size("backbone.scale")).toBeGreaterThan(0.001);
      expect(size("heads.2")).toBe(0);
      for (const path of Object.keys(params).filter((p) => p.startsWith("strategy.")))
        expect(size(path)).toBe(0);
    });
  });

  it("with coin tosses and a share of the weighted loss reaches every head", () => {
    const options = resolveOptions({ taskEpsilon: 1, wceWeight: 0.5 });
    tf.tidy(() => {
      const { states, labels, perRow, seed } = batch(400);
      const params = modelParams();
      const evaluate = (phase: TrainingPhase) =>
        valueAndGrads((p) => lossOf(phase)(stepOf(p, states, labels, perRow, seed)), params);
      const both = evaluate(taskPhase(options, 1));
      const tossed = evaluate(taskPhase(resolveOptions({ taskEpsilon: 1 }), 1));
      const weighted = evaluate(initialisePhase(options.initialise));
      expect(both.loss.dataSync()).toBeAllclose(
        [(tossed.loss.dataSync()[0] as number) + 0.5 * (weighted.loss.dataSync()[0] as number)],
        { rtol: 1e-5 },
      );
      for (const layer of [1, 2, 3])
        expect(
          tf.max(tf.abs(tossed.gradients[`heads.${layer}`] as tf.Tensor)).dataSync()[0],
        ).toBeGreaterThan(0);
    });
  });
});

describe("weighted loss", () => {
  it("counts layer t with t / (1 + … + L)", () => {
    tf.tidy(() => {
      const logit = (loss: number) => -Math.log(Math.expm1(loss));
      const exits = [1, 0.8, 0.6].map((loss) => ({ logits: tf.tensor2d([[logit(loss), 0]]) }));
      const step = {
        shape: { ...model, classes: 2 },
        exits,
        labels: tf.tensor1d([0]),
        perRow: tf.scalar(1),
      } as never;
      const value = lossOf(initialisePhase(resolveOptions({}).initialise))(step);
      expect(value.dataSync()).toBeAllclose([0.733333], { rtol: 1e-5 });
    });
  });
});

describe("compiled losses", () => {
  let engine: Awaited<ReturnType<typeof createEngine>>;
  beforeAll(async () => {
    engine = await createEngine({ threads: 1 });
  });
  afterAll(() => engine.dispose());

  const host = (tensor: tf.Tensor) => ({
    dtype: tensor.dtype as "float32" | "int32",
    shape: tensor.shape,
    data: tensor.dataSync() as Float32Array | Int32Array,
  });

  it.each([
    ["task", taskPhase(resolveOptions({ taskEpsilon: 0.5, wceWeight: 0.1 }), 1)],
    ["initialise", initialisePhase(resolveOptions({}).initialise)],
  ])("of %s agree with the eager ones at several batch sizes", async (name, phase) => {
    const params = modelParams();
    const evaluate = (p: TensorParams, b: ReturnType<typeof batch>) => {
      const { loss, gradients } = valueAndGrads(
        (q) => lossOf(phase)(stepOf(q, b.states, b.labels, b.perRow, b.seed)),
        p,
      );
      return { loss, gradients };
    };
    const scalar = { dtype: "float32", shape: [] } as const;
    const compiled = engine.compile(({ params: p, ...rest }) => evaluate(p, rest as never), {
      name,
      inputs: {
        params: Object.fromEntries(
          Object.entries(params).map(([path, value]) => [
            path,
            { dtype: "float32" as const, shape: value.shape },
          ]),
        ),
        states: [1, 2, 3].map(() => ({ dtype: "float32" as const, shape: ["batch", 4] })),
        labels: { dtype: "float32", shape: ["batch"] },
        perRow: scalar,
        seed: { dtype: "int32", shape: [2] },
      },
    });
    for (const rows of [1, 7, 33]) {
      const b = batch(rows);
      const found = await compiled.run<ReturnType<typeof hostOf>>({
        params: Object.fromEntries(
          Object.entries(params).map(([path, value]) => [path, host(value)]),
        ),
        states: b.states.map(host),
        labels: host(b.labels),
        perRow: host(b.perRow),
        seed: host(b.seed),
      });
      const expected = hostOf(tf.tidy(() => evaluate(params, b)));
      expect(found.loss.data).toBeAllclose(expected.loss.data, { rtol: 1e-5 });
      for (const [path, { data }] of Object.entries(expected.gradients))
        expect(found.gradients[path]?.data ?? []).toBeAllclose(data, { rtol: 1e-4, atol: 1e-6 });
    }
  });

  function hostOf({ loss, gradients }: { loss: tf.Tensor; gradients: TensorParams }) {
    return {
      loss: host(loss),
      gradients: Object.fromEntries(
        Object.entries(gradients).map(([path, value]) => [path, host(value)]),
      ),
    };
  }
});

describe("epsilon", () => {
  it("decays from its start to its end", () => {
    const at = (step: number) =>
      tf.tidy(() =>
        epsilonAt(tf.scalar(step), {
          epsilonStart: 0.1,
          epsilonEnd: 0.01,
          epsilonDecay: 50,
        }).dataSync<"float32">(),
      );
    expect(at(0)).toBeAllclose([0.1], { rtol: 1e-6 });
    expect(at(50)).toBeAllclose([0.01 + 0.09 / Math.E], { rtol: 1e-5 });
    expect(at(5000)).toBeAllclose([0.01], { rtol: 1e-5 });
  });
});
