/** @file The layer-wise recipes of `@cee/baselines`, each with the settings that suit a small encoder. */
import {
  berxit,
  deebert,
  type PhaseSettings,
  pabee,
  pceeBert,
  rightTool,
  romeBert,
} from "@cee/baselines";
import { consistentEEPresets } from "@cee/consistentee";
import type { Method, Workbench } from "./method.js";
import { recipeMethod } from "./recipe-method.js";
import { rateFor } from "./strategy-method.js";

const { initialise, task } = consistentEEPresets.small;

/** Goes on from trained exits, gently: the encoder moves. */
const gentle = (bench: Workbench, epochs = 1): PhaseSettings => ({
  ...task,
  epochs,
  learningRate: rateFor(bench, task.learningRate),
});

/** Trains what is fresh, at the rate of the training on all exits. */
const brisk = (bench: Workbench, epochs: number): PhaseSettings => ({
  ...initialise,
  epochs,
  learningRate: rateFor(bench, initialise.learningRate),
});

export const layerWise: readonly Method[] = [
  recipeMethod({
    name: "deebert",
    title: "DeeBERT",
    recipe: deebert,
    small: (bench) => ({ final: gentle(bench), highways: brisk(bench, 2) }),
  }),
  recipeMethod({ name: "pabee", title: "PABEE", recipe: pabee, isWeighted: true }),
  recipeMethod({
    name: "berxit",
    title: "BERxiT",
    recipe: berxit,
    small: (bench) => ({ alternating: brisk(bench, 3) }),
  }),
  recipeMethod({
    name: "right-tool",
    title: "Right-Tool",
    recipe: rightTool,
    small: (bench) => ({ joint: gentle(bench, 2) }),
  }),
  recipeMethod({ name: "pcee-bert", title: "PCEE-BERT", recipe: pceeBert, isWeighted: true }),
  recipeMethod({
    name: "romebert",
    title: "RomeBERT",
    recipe: romeBert,
    small: (bench) => ({ joint: gentle(bench, 2) }),
  }),
];
