/** @file Public entry of `@cee/bench`: data, metrics, protocol, results and their presentation, and the benchmark itself. */
export { type EmbeddedOptions, embeddedTaskNames, loadEmbeddedTask } from "./data/embedded.js";
export { listGlueTasks, loadGlueTask } from "./data/glue.js";
export { glueTaskNames } from "./data/glue-tasks.js";
export { type HubOptions, loadHubTask } from "./data/hub.js";
export type { HubFilesOptions } from "./data/hub-files.js";
export type {
  DataRow,
  FileProblems,
  Hardness,
  LoadedTask,
  LoadOptions,
  RowLimits,
  SplitName,
  Splits,
  TaskDefinition,
} from "./data/task.js";
export { BenchError, type BenchErrorCode } from "./errors.js";
export {
  type Presentation,
  remakePresentation,
  writePresentation,
} from "./export/presentation.js";
export type { GlueOptions } from "./glue/options.js";
export type { BenchOutcome, GlueOutcome } from "./glue/output.js";
export { createProgressLine, type ProgressLine, type ProgressStream } from "./glue/progress.js";
export { type GlueHooks, runGlue } from "./glue/run.js";
export {
  type BootstrapOptions,
  type PairedInterval,
  pairedBootstrap,
} from "./metrics/bootstrap.js";
export { type MetricName, metricNames, score, type Values } from "./metrics/score.js";
export {
  holm,
  type McNemar,
  type MeanAndError,
  mcNemar,
  meanAndError,
} from "./metrics/statistics.js";
export type {
  Figure2Layer,
  Figure2Panel,
  Figure3Curve,
  Figure4Point,
  Figure4Task,
  PaperResults,
  Table1Row,
  Table2Row,
} from "./paper/paper-results.js";
export { type PaperOutcome, runPaper } from "./paper/run-paper.js";
export {
  allowedLoss,
  type Curve,
  type CurvePoint,
  chooseHeldOut,
  chooseOperatingPoints,
  type HeldOutOptions,
  type HeldOutPoint,
  type LossRule,
  type OperatingPoints,
  type ScoredPoint,
} from "./protocol/operating-points.js";
export { type ReportOptions, renderReport, writeReport } from "./report/report.js";
export {
  type ClassFields,
  type Comparison,
  type EarlyExitFields,
  type Failure,
  type HeldOutFields,
  type InputStrip,
  type Knob,
  type LeftOut,
  type MatchedFields,
  type OperatingPoint,
  type ResultRow,
  type Results,
  type RowIntervals,
  readResults,
  validateResults,
  writeResults,
} from "./results.js";
export {
  type Cell,
  type Column,
  type Table,
  type TableRow,
  toCsv,
  toLatex,
  toMarkdown,
  toText,
} from "./table/table.js";
export { type TableThreeOptions, tableThree } from "./table/table-three.js";
