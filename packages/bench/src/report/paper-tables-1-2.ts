/** @file Tables 1 and 2 as printed in ConsistentEE (AAAI 2024, arXiv 2312.11882): quoted figures, not ours. */

export const paperTables12 = {
  source: "ConsistentEE, AAAI 2024, Tables 1 and 2; arXiv 2312.11882",
  /** Spearman's correlation of the memorized layer with loss and with forgetting events. */
  table1: {
    rte: { loss: 0.76, forgetting: 0.59 },
    mrpc: { loss: 0.84, forgetting: 0.43 },
    "sst-2": { loss: 0.66, forgetting: 0.32 },
  },
  /** Classes, training, development and test rows, as printed. */
  table2: {
    rte: [2, "2.5k", "0.3k", "3.0k"],
    mrpc: [2, "3.7k", "0.4k", "1.7k"],
    "sst-2": [2, "67k", "0.9k", "1.8k"],
    qnli: [2, "105k", "5.5k", "5.5k"],
    qqp: [2, "364k", "40k", "391k"],
    mnli: [3, "393k", "9.8k", "9.8k"],
  },
} as const satisfies {
  source: string;
  table1: Readonly<Record<string, { loss: number; forgetting: number }>>;
  table2: Readonly<Record<string, readonly [number, string, string, string]>>;
};
