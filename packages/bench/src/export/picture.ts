/** @file A curve chart as a picture that stands alone: with title and legend, on white, as SVG and as PNG. */
import { CHART, type CurveChart, curveChartBody } from "../report/curve-chart.js";
import { html, raw } from "../report/html.js";
import { COLOURS, markerPath } from "../report/marker.js";
import { pictureStyle } from "../report/style.js";

const TITLE = 30;
const LINE = 18;
const COLUMNS = 2;
const LONGEST = 30;

/** The chart as an SVG file. Text is set in whatever sans-serif font the viewer has. */
export function chartPicture(chart: CurveChart, title: string): string {
  const names = new Map(chart.series.map(({ name, style }) => [style, name]));
  const lines = Math.ceil(names.size / COLUMNS);
  const height = TITLE + CHART.height + lines * LINE + 8;
  const legend = [...names].map(([style, name], index) => {
    const x = 24 + (index % COLUMNS) * ((CHART.width - 24) / COLUMNS);
    const y = TITLE + CHART.height + Math.floor(index / COLUMNS) * LINE + 8;
    return html`<g class="s${style % COLOURS}"><path class="mark" d="${markerPath(style, 5)}" transform="translate(${x} ${y - 4})"/></g><text class="legend" x="${x + 12}" y="${y}">${shorten(name)}</text>`;
  });
  return html`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${CHART.width} ${height}" width="${CHART.width}" height="${height}"><title>${chart.description}</title><style>${raw(pictureStyle)}</style><rect class="background" width="${CHART.width}" height="${height}"/><text class="title" x="${CHART.width / 2}" y="20" text-anchor="middle">${shorten(title, 46)}</text><g transform="translate(0 ${TITLE - 4})">${curveChartBody(chart)}</g>${legend}</svg>
`.html;
}

function shorten(text: string, longest = LONGEST): string {
  const letters = [...text.replaceAll(/\s+/g, " ")];
  return letters.length <= longest
    ? letters.join("")
    : `${letters.slice(0, longest - 1).join("")}…`;
}

export interface Painter {
  /** PNG at twice the size of the SVG. */
  paint(svg: string): Uint8Array;
}

/**
 * Finds what turns SVG into PNG; or says why there is nothing.
 *
 * Letters come from the fonts of the machine: bundling one would add a megabyte to every install for a picture that the SVG
 * beside it already is. Where there is no font, a chart without numbers would be worth nothing, so none is made.
 */
export async function openPainter(): Promise<Painter | { readonly missing: string }> {
  let resvg: typeof import("@resvg/resvg-js");
  try {
    resvg = await import("@resvg/resvg-js");
  } catch (cause) {
    return {
      missing: `@resvg/resvg-js can't be loaded here (${(cause as Error).message.split("\n")[0]})`,
    };
  }
  const { Resvg } = resvg;
  const options = {
    font: {
      loadSystemFonts: true,
      defaultFontFamily: "DejaVu Sans",
      sansSerifFamily: "DejaVu Sans",
    },
    fitTo: { mode: "zoom", value: 2 },
  } as const;
  const probe = `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text y="15" font-family="sans-serif">0.5</text></svg>`;
  if (new Resvg(probe, options).getBBox() === undefined) {
    return { missing: "there is no font on this machine (fonts-dejavu-core is enough)" };
  }
  return { paint: (svg) => new Resvg(svg, options).render().asPng() };
}
