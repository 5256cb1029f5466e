/** @file How many inputs left at each layer, as inline SVG; bars may be stacked by group. */
import { type Html, html } from "./html.js";

export interface Histogram {
  /** Counts at layer 1, …, at layer L. */
  readonly counts: readonly number[];
  /** Counts of each group, drawn stacked when they add up to `counts`. */
  readonly groups?: Readonly<Record<string, readonly number[]>>;
  readonly meanExitLayer: number;
}

/** Shades of groups, `--g0` to `--g4`. */
export const SHADES = 5;
const WIDTH = 240;
const HEIGHT = 112;
const LEFT = 4;
const BOTTOM = 18;
const TOP = 8;

export function histogramChart({ counts, groups, meanExitLayer }: Histogram, name: string): Html {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(...counts, 1);
  const slot = (WIDTH - 2 * LEFT) / counts.length;
  const toHeight = (count: number) => (count / most) * (HEIGHT - TOP - BOTTOM);
  const stacks = stackable(counts, groups) ? Object.entries(groups!) : [["", counts] as const];
  const every = counts.length > 16 ? Math.ceil(counts.length / 12) : 1;
  const bars = counts.map((count, index) => {
    const x = LEFT + index * slot;
    let bottom = HEIGHT - BOTTOM;
    const rects = stacks.map(([, groupCounts], group) => {
      const height = toHeight(groupCounts[index]!);
      if (height === 0) return undefined;
      bottom -= height;
      return html`<rect class="bar g${group % SHADES}" x="${round(x + 1)}" y="${round(bottom)}" width="${round(slot - 2)}" height="${round(height)}"/>`;
    });
    const share = total === 0 ? 0 : (100 * count) / total;
    const detail = stacks
      .filter(([group]) => group !== "")
      .map(([group, groupCounts]) => `\n${group}: ${groupCounts[index]}`)
      .join("");
    const tip = `${name}\nlayer ${index + 1}: ${count} of ${total} (${share.toFixed(1)} %)${detail}`;
    const label =
      index % every === 0
        ? html`<text class="tick" x="${round(x + slot / 2)}" y="${HEIGHT - 5}" text-anchor="middle">${index + 1}</text>`
        : undefined;
    return html`<g class="point" data-t="${tip}"><rect class="hit" x="${round(x)}" y="0" width="${round(slot)}" height="${HEIGHT - BOTTOM}"/>${rects}</g>${label}`;
  });
  const meanX = round(LEFT + (meanExitLayer - 0.5) * slot);
  const description = `${name}: exits per layer ${counts.join(", ")}; mean exit layer ${meanExitLayer.toFixed(2)}`;
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${description}"><line class="base" x1="${LEFT}" x2="${WIDTH - LEFT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>${bars}<line class="mean" x1="${meanX}" x2="${meanX}" y1="${TOP - 4}" y2="${HEIGHT - BOTTOM}"/></svg>`;
}

function stackable(
  counts: readonly number[],
  groups: Readonly<Record<string, readonly number[]>> | undefined,
): boolean {
  const stacks = Object.values(groups ?? {});
  return (
    stacks.length > 0 &&
    counts.every(
      (count, index) => stacks.reduce((sum, stack) => sum + (stack[index] ?? 0), 0) === count,
    )
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
