/**
 * @file The GLUE tasks: labels, metrics, and the columns that hold them.
 *
 * Label order is that of the `nyu-mll/glue` data set on the Hugging Face hub: entailment 0, not_entailment 1 for RTE
 * and QNLI; entailment 0, neutral 1, contradiction 2 for MNLI (checkpoints trained with GLUE's first scripts have
 * contradiction 0, entailment 1, neutral 2); the positive class, which F1 is about, is 1 in MRPC and QQP.
 */
import { BenchError, suggestNames } from "../errors.js";
import type { TaskDefinition } from "./task.js";

export interface GlueTask extends TaskDefinition {
  /** Column names that may hold each part, the most official one first; compared without case. */
  readonly columns: {
    readonly text: readonly string[];
    readonly pair?: readonly string[];
    readonly label: readonly string[];
    readonly index: readonly string[];
  };
  /** How files write the labels, in label order; empty for a regression. */
  readonly fileLabels: readonly string[];
  readonly files: {
    readonly train: string;
    readonly dev: string;
    readonly devMismatched?: string;
    readonly test: string;
    readonly testMismatched?: string;
  };
  /** Names of the files that the GLUE server takes predictions in. */
  readonly submission: { readonly test: string; readonly testMismatched?: string };
  readonly hub: {
    readonly config: string;
    readonly text: string;
    readonly pair?: string;
    readonly splits: {
      readonly train: string;
      readonly dev: string;
      readonly devMismatched?: string;
      readonly test: string;
      readonly testMismatched?: string;
    };
  };
}

const files = { train: "train.tsv", dev: "dev.tsv", test: "test.tsv" };
const hubSplits = { train: "train", dev: "validation", test: "test" };
const index = ["index", "id", "idx"];

export const glueTasks: readonly GlueTask[] = [
  {
    name: "rte",
    title: "RTE",
    pair: true,
    regression: false,
    labels: ["entailment", "not_entailment"],
    fileLabels: ["entailment", "not_entailment"],
    metric: "accuracy",
    metrics: ["accuracy", "balanced-accuracy"],
    columns: { text: ["sentence1"], pair: ["sentence2"], label: ["label"], index },
    files,
    submission: { test: "RTE.tsv" },
    hub: { config: "rte", text: "sentence1", pair: "sentence2", splits: hubSplits },
  },
  {
    name: "mrpc",
    title: "MRPC",
    pair: true,
    regression: false,
    labels: ["not_equivalent", "equivalent"],
    fileLabels: ["0", "1"],
    metric: "f1",
    metrics: ["f1", "accuracy", "balanced-accuracy"],
    columns: {
      text: ["#1 String", "sentence1"],
      pair: ["#2 String", "sentence2"],
      label: ["Quality", "label"],
      index,
    },
    files,
    submission: { test: "MRPC.tsv" },
    hub: { config: "mrpc", text: "sentence1", pair: "sentence2", splits: hubSplits },
  },
  {
    name: "sst-2",
    title: "SST-2",
    pair: false,
    regression: false,
    labels: ["negative", "positive"],
    fileLabels: ["0", "1"],
    metric: "accuracy",
    metrics: ["accuracy", "balanced-accuracy"],
    columns: { text: ["sentence"], label: ["label"], index },
    files,
    submission: { test: "SST-2.tsv" },
    hub: { config: "sst2", text: "sentence", splits: hubSplits },
  },
  {
    name: "qnli",
    title: "QNLI",
    pair: true,
    regression: false,
    labels: ["entailment", "not_entailment"],
    fileLabels: ["entailment", "not_entailment"],
    metric: "accuracy",
    metrics: ["accuracy", "balanced-accuracy"],
    columns: { text: ["question"], pair: ["sentence"], label: ["label"], index },
    files,
    submission: { test: "QNLI.tsv" },
    hub: { config: "qnli", text: "question", pair: "sentence", splits: hubSplits },
  },
  {
    name: "qqp",
    title: "QQP",
    pair: true,
    regression: false,
    labels: ["not_duplicate", "duplicate"],
    fileLabels: ["0", "1"],
    metric: "f1",
    metrics: ["f1", "accuracy", "balanced-accuracy"],
    columns: { text: ["question1"], pair: ["question2"], label: ["is_duplicate", "label"], index },
    files,
    submission: { test: "QQP.tsv" },
    hub: { config: "qqp", text: "question1", pair: "question2", splits: hubSplits },
  },
  {
    name: "mnli",
    title: "MNLI",
    pair: true,
    regression: false,
    labels: ["entailment", "neutral", "contradiction"],
    fileLabels: ["entailment", "neutral", "contradiction"],
    metric: "accuracy",
    metrics: ["accuracy", "balanced-accuracy"],
    columns: {
      text: ["sentence1", "premise"],
      pair: ["sentence2", "hypothesis"],
      label: ["gold_label", "label"],
      index,
    },
    files: {
      train: "train.tsv",
      dev: "dev_matched.tsv",
      devMismatched: "dev_mismatched.tsv",
      test: "test_matched.tsv",
      testMismatched: "test_mismatched.tsv",
    },
    submission: { test: "MNLI-m.tsv", testMismatched: "MNLI-mm.tsv" },
    hub: {
      config: "mnli",
      text: "premise",
      pair: "hypothesis",
      splits: {
        train: "train",
        dev: "validation_matched",
        devMismatched: "validation_mismatched",
        test: "test_matched",
        testMismatched: "test_mismatched",
      },
    },
  },
  {
    name: "sts-b",
    title: "STS-B",
    pair: true,
    regression: true,
    labels: [],
    fileLabels: [],
    range: [0, 5],
    metric: "spearman",
    metrics: ["spearman", "pearson"],
    columns: { text: ["sentence1"], pair: ["sentence2"], label: ["score", "label"], index },
    files,
    submission: { test: "STS-B.tsv" },
    hub: { config: "stsb", text: "sentence1", pair: "sentence2", splits: hubSplits },
  },
];

export const glueTaskNames: readonly string[] = glueTasks.map((task) => task.name);

/** Lower case without dashes and underscores: `SST-2`, `sst2` and `sst_2` are one task. */
export function foldTaskName(name: string): string {
  return name.toLowerCase().replaceAll(/[-_\s]/g, "");
}

/** Finds a task by name. @throws BenchError `UNKNOWN_TASK` */
export function glueTask(name: string): GlueTask {
  const folded = foldTaskName(name);
  const task = glueTasks.find((candidate) => foldTaskName(candidate.name) === folded);
  if (!task) {
    const message = `there is no such GLUE task, got "${name}". ${suggestNames(name, glueTaskNames)}`;
    throw new BenchError("UNKNOWN_TASK", "tasks", message);
  }
  return task;
}
