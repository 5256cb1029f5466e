/** @file The texts of a data set and the rows that they give, counted through. */
import type { HostTensor } from "@cee/engine";
import type { TrainingSubject } from "./subject.js";

export interface TextRows {
  /** Tokens of each text. */
  readonly lengths: readonly number[];
  /** Labels of all rows, text after text. */
  readonly labels: Float32Array;
  /** The rows of some texts. */
  rowsOf(texts: readonly number[]): readonly number[];
  /** Some texts as a padded batch. */
  feed(texts: readonly number[]): Record<string, HostTensor>;
}

export function textRows<TText>(
  subject: TrainingSubject<TText>,
  texts: readonly TText[],
): TextRows {
  const own = texts.map((text) => subject.labels(text));
  const starts = [0];
  for (const { length } of own) starts.push((starts.at(-1) as number) + length);
  const labels = new Float32Array(starts.at(-1) as number);
  own.forEach((values, text) => {
    labels.set(values, starts[text]);
  });
  return {
    lengths: texts.map((text) => subject.length(text)),
    labels,
    rowsOf: (wanted) =>
      wanted.flatMap((text) => {
        const [start, end] = [starts[text] as number, starts[text + 1] as number];
        return Array.from({ length: end - start }, (_, index) => start + index);
      }),
    feed: (wanted) => ({ ...subject.feed(wanted.map((text) => texts[text] as TText)) }),
  };
}
