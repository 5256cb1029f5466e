/** @file Losses of training rows per layer as a heat map: Figure 2 of the paper for one objective. */
import type { Figure2Panel } from "../paper/paper-results.js";
import { type Html, html } from "./html.js";

const WIDTH = 420;
const HEIGHT = 270;
const LEFT = 58;
const RIGHT = 8;
const TOP = 40;
const BOTTOM = 44;

/** Darker cells hold more of the layer's rows; what stands above a column is its accuracy. */
export function lossChart({ layers, boundary, largestLoss }: Figure2Panel, name: string): Html {
  const slot = (WIDTH - LEFT - RIGHT) / Math.max(1, layers.length);
  const toY = (loss: number) =>
    HEIGHT - BOTTOM - (Math.min(loss, largestLoss) / largestLoss) * (HEIGHT - TOP - BOTTOM);
  const columns = layers.map(({ layer, n, accuracy, meanLoss, bins }, index) => {
    const x = LEFT + index * slot;
    const step = largestLoss / Math.max(1, bins.length);
    const most = Math.max(...bins, 1);
    const cells = bins.map((count, bin) => {
      if (count === 0) return undefined;
      const [bottom, top] = [toY(bin * step), toY((bin + 1) * step)];
      return html`<rect class="heat" opacity="${(0.12 + (0.88 * count) / most).toFixed(2)}" x="${round(x + 1)}" y="${round(top)}" width="${round(slot - 2)}" height="${round(bottom - top)}"/>`;
    });
    const share = accuracy === null ? "–" : `${(100 * accuracy).toFixed(0)}`;
    const tip = [
      `${name}\nlayer ${layer}: ${n} rows`,
      ...(accuracy === null ? [] : [`accuracy ${(100 * accuracy).toFixed(1)} %`]),
      ...(meanLoss === null ? [] : [`mean loss ${meanLoss.toFixed(3)}`]),
    ].join("\n");
    const middle = round(x + slot / 2);
    return html`<g class="point" data-t="${tip}"><rect class="hit" x="${round(x)}" y="${TOP}" width="${round(slot)}" height="${HEIGHT - TOP - BOTTOM}"/>${cells}</g><text class="tick" x="${middle}" y="${TOP - 6}" text-anchor="middle">${share}</text><text class="tick" x="${middle}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${layer}</text>`;
  });
  const ticks = [0, largestLoss / 2, largestLoss].map(
    (loss) =>
      html`<text class="tick" x="${LEFT - 6}" y="${round(toY(loss) + 4)}" text-anchor="end">${Number(loss.toFixed(2))}</text>`,
  );
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  const at = round(toY(boundary));
  const description = `${name}: losses per layer; accuracy per layer ${layers.map(({ accuracy }) => (accuracy === null ? "none" : `${(100 * accuracy).toFixed(1)} %`)).join(", ")}`;
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${description}"><text class="axis" x="${LEFT}" y="12">accuracy per layer, %</text>${columns}${ticks}<line class="boundary" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/><line class="base" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/><text class="axis" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">layer</text><text class="axis" x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})">loss</text></svg>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
