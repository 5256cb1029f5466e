/** @file TR-BERT: one training per price of a token, all from one fine-tuned model. */
import {
  openTrBert,
  type TrBertInput,
  type TrBertOptions,
  trBertOptions,
  trBertParams,
  trBertPlan,
  trBertRegression,
} from "@cee/baselines";
import { consistentEEPresets } from "@cee/consistentee";
import type { TrainingPhase } from "@cee/exit-policies";
import { fineTuneSettings } from "./fine-tune.js";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";
import { initialiseSpec, rateFor } from "./strategy-method.js";
import { tokenwisePoint } from "./tokenwise.js";

/** Prices that trace the curve; the paper's are per data set and lie between 0.01 and 5. */
const alphas: Readonly<Record<Workbench["preset"], readonly number[]>> = {
  small: [0.1, 0.5, 2],
  paper: [0.01, 0.1, 0.5, 1, 2, 5],
};

function optionsOf(bench: Workbench, alpha: number): TrBertOptions {
  const published = trBertOptions();
  const { policy } = consistentEEPresets.small;
  const small: TrBertInput = {
    copies: 4,
    initialised: true,
    policy: {
      ...published.policy,
      epochs: 1,
      learningRate: rateFor(bench, policy.learningRate),
    },
    joint: fineTuneSettings(bench, published.joint),
  };
  const { fineTune } = published;
  const paper: TrBertInput = {
    initialised: true,
    fineTune: { ...fineTune, epochs: bench.epochs ?? fineTune.epochs },
  };
  return trBertOptions({ alpha, ...(bench.preset === "small" ? small : paper) });
}

/** The fine-tuned model that all prices start from. */
function teacherSpec(bench: Workbench): TrainingSpec {
  if (bench.preset === "small") return initialiseSpec(bench);
  const options = optionsOf(bench, 0);
  return {
    label: "tr-bert, teacher",
    identity: { method: "tr-bert-teacher", ...options.fineTune },
    *plan() {
      const plan = trBertPlan(bench.model, { ...options, initialised: false });
      yield plan.next().value as TrainingPhase;
    },
  };
}

function spec(bench: Workbench, alpha: number): TrainingSpec {
  const options = optionsOf(bench, alpha);
  return {
    label: `tr-bert alpha ${alpha}`,
    identity: { method: "tr-bert", ...options },
    parent: teacherSpec(bench),
    params: () => trBertParams(bench.model, options, bench.seed),
    plan: () => trBertPlan(bench.model, options),
  };
}

export const trBert: Method = {
  name: "tr-bert",
  title: "TR-BERT",
  unsupported: (task) =>
    task === "regression" ? `tr-bert can't do regression: ${trBertRegression}` : undefined,
  trainings: (bench) => [
    teacherSpec(bench),
    ...alphas[bench.preset].map((alpha) => spec(bench, alpha)),
  ],
  async run(bench) {
    const points: CurvePoint[] = [];
    for (const alpha of alphas[bench.preset]) {
      const trained = await bench.fit(spec(bench, alpha));
      points.push(
        await tokenwisePoint(bench, () => openTrBert(bench.engine, bench.model, trained.params), {
          knob: { name: "alpha", value: alpha },
          options: { ...optionsOf(bench, alpha) },
        }),
      );
    }
    return points;
  },
};
