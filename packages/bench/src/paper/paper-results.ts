/**
 * @file `paper.json`: what `bench paper` adds to `results.json` of the same run, for Tables 1 and 2 and Figures 2 to 4 of
 * the paper. Table 3 is made from `results.json`.
 *
 * L = layers; a list over layers has layer 1 first.
 */

export interface PaperResults {
  readonly schema: 1;
  readonly command: string;
  /** Tasks in column order. */
  readonly tasks: readonly string[];
  readonly table1: readonly Table1Row[];
  readonly table2: readonly Table2Row[];
  readonly figure2: readonly Figure2Panel[];
  readonly figure3: readonly Figure3Curve[];
  readonly figure4: readonly Figure4Task[];
  /** Parts that could not be made, with the reason. */
  readonly failures: readonly { readonly part: string; readonly message: string }[];
}

/** Spearman's correlation of the memorized layer with two other signs of hardness, over training rows. */
export interface Table1Row {
  readonly task: string;
  readonly seed: number;
  /** Training rows. */
  readonly n: number;
  /** With the loss of the last layer after phase 1; 0 when one of the two is constant. */
  readonly loss: number;
  /** With the number of forgetting events during phase 1. */
  readonly forgetting: number;
  /** Evaluations of the training rows that events were counted over. */
  readonly evaluations: number;
  /** Rows with memorized layer 1, …, L. */
  readonly memorizedLayers: readonly number[];
  /** Rows with 0, 1, … forgetting events; rows that were never right count as the most forgotten. */
  readonly forgettingEvents: readonly number[];
  /** Rows that no evaluation answered right. */
  readonly neverRight: number;
}

/** Statistics of the loaded files, after row limits. */
export interface Table2Row {
  readonly task: string;
  /** 1 for a regression. */
  readonly classes: number;
  readonly metric: string;
  readonly train: number;
  readonly dev: number;
  readonly devMismatched: number | null;
  /** Unlabelled; null where it was not loaded. */
  readonly test: number | null;
  /** Rows left out of all files. */
  readonly malformed: number;
  /** Words per training row, both sentences together. */
  readonly meanWords: number;
  /** Share of the most frequent class of dev; null for a regression. */
  readonly majority: number | null;
}

/** Losses of training rows per layer: all layers under the weighted sum, and each row at its exit under ConsistentEE. */
export interface Figure2Panel {
  readonly task: string;
  readonly seed: number;
  readonly objective: "weighted-sum" | "consistentee";
  /** Of ConsistentEE's model; null for the weighted sum. */
  readonly alpha: number | null;
  /** ln C, the loss of a blind guess; for two classes, a row is right where its loss is below. */
  readonly boundary: number;
  /** Upper edge of the last bin; losses above are counted in it. */
  readonly largestLoss: number;
  readonly layers: readonly Figure2Layer[];
}

export interface Figure2Layer {
  readonly layer: number;
  /** Rows seen at this layer. */
  readonly n: number;
  /** Null where no row exits. */
  readonly accuracy: number | null;
  readonly meanLoss: number | null;
  /** Rows per bin of equal width from 0 to `largestLoss`. */
  readonly bins: readonly number[];
}

/** Score against saved layers. */
export interface Figure3Curve {
  readonly task: string;
  readonly method: string;
  readonly metric: string;
  /** Full depth's score, mean over seeds. */
  readonly fullScore: number;
  /** Points of all seeds, in order of saved layers. */
  readonly points: readonly {
    readonly savedLayers: number;
    readonly score: number;
    readonly knob: number | null;
    readonly seed: number;
  }[];
}

/** Vanilla against hardness-guided reward. */
export interface Figure4Task {
  readonly task: string;
  readonly metric: string;
  readonly vanilla: readonly Figure4Point[];
  readonly hardness: readonly Figure4Point[];
  /** Scores read from both curves at equal speed-up, by interpolation, mean over seeds. */
  readonly atEqualSpeedup: readonly {
    readonly speedup: number;
    readonly vanilla: number;
    readonly hardness: number;
  }[];
}

export interface Figure4Point {
  readonly alpha: number;
  readonly seed: number;
  /** L / mean exit layer. */
  readonly speedup: number;
  readonly score: number;
}
