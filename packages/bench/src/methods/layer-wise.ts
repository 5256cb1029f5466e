/** @file The layer-wise recipes of `@cee/baselines`, each with the settings that suit a small encoder. */
import {
  berxit,
  cat,
  deebert,
  fastBert,
  type PhaseSettings,
  pabee,
  pastFuture,
  pceeBert,
  rightTool,
  romeBert,
  zeroTimeWaste,
} from "@cee/baselines";
import { brisk, gentle } from "./fine-tune.js";
import type { Method, Workbench } from "./method.js";
import { type RecipeMethodOptions, recipeMethod } from "./recipe-method.js";
import { rateFor } from "./strategy-method.js";

/** Small modules on recorded states, which cost next to nothing. */
const recorded = (bench: Workbench): PhaseSettings => ({
  epochs: 10,
  batchSize: 64,
  learningRate: rateFor(bench, 3e-3),
  warmup: 0,
});

/** The methods before they are made, for a user's options. */
export const layerWiseRecipes: readonly RecipeMethodOptions[] = [
  {
    name: "deebert",
    title: "DeeBERT",
    recipe: deebert,
    small: (bench) => ({ final: gentle(bench), highways: brisk(bench, 2) }),
  },
  { name: "pabee", title: "PABEE", recipe: pabee, isWeighted: true },
  {
    name: "berxit",
    title: "BERxiT",
    recipe: berxit,
    small: (bench) => ({ alternating: brisk(bench, 3) }),
  },
  {
    name: "right-tool",
    title: "Right-Tool",
    recipe: rightTool,
    small: (bench) => ({ joint: gentle(bench, 2) }),
  },
  { name: "pcee-bert", title: "PCEE-BERT", recipe: pceeBert, isWeighted: true },
  {
    name: "romebert",
    title: "RomeBERT",
    recipe: romeBert,
    small: (bench) => ({ joint: gentle(bench, 2) }),
  },
  {
    name: "fastbert",
    title: "FastBERT",
    recipe: fastBert,
    small: (bench) => ({ final: gentle(bench), distil: brisk(bench, 3) }),
  },
  {
    name: "past-future",
    title: "Past-Future",
    recipe: pastFuture,
    small: (bench) => ({ joint: brisk(bench, 2) }),
  },
  {
    name: "cat",
    title: "CAT",
    recipe: cat,
    small: (bench) => ({
      final: gentle(bench),
      exits: brisk(bench, 2),
      scaling: recorded(bench),
      meta: recorded(bench),
    }),
  },
  {
    name: "ztw",
    title: "Zero Time Waste",
    recipe: zeroTimeWaste,
    small: (bench) => ({
      final: gentle(bench),
      cascade: brisk(bench, 2),
      ensemble: recorded(bench),
    }),
  },
];

export const layerWise: readonly Method[] = layerWiseRecipes.map((recipe) => recipeMethod(recipe));
