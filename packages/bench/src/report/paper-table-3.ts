/**
 * @file Table 3 as printed in ConsistentEE (AAAI 2024, arXiv 2312.11882): quoted figures of BERT-base, not ours.
 *
 * Scores and saved shares in per cent. Known oddities are kept as printed: PABEE's average saved (28; its cells average
 * 26.3), and 90.9 for MNLI without loss beside 84.3 at full depth.
 */

export interface PaperCell {
  readonly score: number;
  readonly saved: number;
}

export interface PaperRow {
  readonly title: string;
  readonly split: "dev" | "test";
  /** What `saved` is a share of. */
  readonly measure: "layers" | "runtime";
  readonly average: PaperCell;
  readonly tasks: Readonly<Record<string, PaperCell>>;
}

const columns = ["rte", "mrpc", "sst-2", "qnli", "qqp", "mnli"] as const;

/** Scores and saved shares in the order of `columns`, the average last. */
function row(
  title: string,
  split: PaperRow["split"],
  measure: PaperRow["measure"],
  scores: readonly number[],
  saved: readonly number[],
): PaperRow {
  const cell = (index: number) => ({ score: scores[index]!, saved: saved[index]! });
  return {
    title,
    split,
    measure,
    average: cell(columns.length),
    tasks: Object.fromEntries(columns.map((task, index) => [task, cell(index)])),
  };
}

// biome-ignore format: one printed row a line
export const paperTable3: { readonly source: string; readonly tasks: readonly string[]; readonly rows: readonly PaperRow[] } = {
  source: "ConsistentEE, AAAI 2024, Table 3 (BERT-base; quoted, not measured here)",
  tasks: columns,
  rows: [
    row("BERT-Base", "dev", "layers", [66.4, 89.6, 91.8, 90.0, 89.6, 84.3, 85.3], [0, 0, 0, 0, 0, 0, 0]),
    row("DeeBERT", "dev", "layers", [65.7, 88.2, 89.6, 89.1, 87.5, 83.3, 83.9], [31, 35, 35, 22, 45, 27, 33]),
    row("PABEE", "dev", "layers", [65.0, 88.5, 89.8, 89.8, 88.0, 82.4, 83.9], [18, 31, 33, 18, 35, 23, 28]),
    row("BERxiT", "dev", "layers", [66.1, 88.4, 89.4, 90.0, 89.1, 83.4, 84.4], [31, 40, 38, 23, 43, 35, 35]),
    row("Right-Tool", "dev", "layers", [65.3, 88.2, 90.1, 89.4, 87.9, 82.9, 84.0], [17, 36, 31, 37, 32, 30, 30]),
    row("PCEE-BERT", "dev", "layers", [65.5, 88.4, 90.5, 89.4, 88.3, 83.7, 84.3], [26, 17, 33, 38, 33, 32, 30]),
    row("HashEE ◇", "dev", "runtime", [63.2, 85.6, 90.3, 88.4, 85.5, 82.6, 82.6], [9, 10, 4, 10, 6, 19, 10]),
    row("TR-BERT ◇", "dev", "runtime", [65.5, 87.7, 90.6, 88.6, 86.3, 83.1, 83.6], [6, 5, 6, 11, 9, 15, 9]),
    row("ConsistentEE ◇", "dev", "runtime", [65.7, 88.6, 90.7, 89.3, 89.2, 83.6, 84.5], [39, 32, 36, 34, 43, 30, 36]),
    row("ConsistentEE", "dev", "layers", [65.7, 88.6, 90.7, 89.3, 89.2, 83.6, 84.5], [55, 53, 58, 57, 55, 39, 53]),
    row("ConsistentEE ★", "dev", "layers", [66.4, 89.9, 92.0, 90.4, 90.2, 90.9, 86.6], [44, 30, 35, 42, 43, 11, 34]),
    row("BERT-Base", "test", "layers", [69.1, 88.9, 93.1, 89.8, 89.2, 83.2, 85.6], [0, 0, 0, 0, 0, 0, 0]),
    row("PABEE", "test", "layers", [67.6, 88.0, 90.5, 89.1, 88.4, 81.4, 84.2], [23, 17, 24, 18, 22, 12, 19]),
    row("BERxiT", "test", "layers", [67.9, 87.8, 90.3, 89.4, 88.7, 82.4, 84.4], [21, 14, 27, 20, 16, 14, 19]),
    row("DeeBERT", "test", "layers", [67.2, 87.3, 89.9, 88.6, 88.2, 82.0, 83.9], [22, 11, 26, 20, 13, 9, 17]),
    row("ConsistentEE", "test", "layers", [69.0, 89.0, 92.9, 89.9, 89.0, 83.4, 85.5], [46, 37, 46, 42, 45, 31, 41]),
  ],
};
