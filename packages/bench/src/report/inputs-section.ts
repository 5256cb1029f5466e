/** @file A strip per input: what each layer answers, where it leaves, and where another value of the knob would stop it. */
import type { InputStrip } from "../results.js";
import { type Html, html, jsonText, raw } from "./html.js";
import type { View } from "./view.js";

/** Inputs of one method on one task, as the page's script reads them. */
export interface StripData {
  readonly title: string;
  readonly knobName: string;
  /** Positions of the slider, ascending; empty without a knob. */
  readonly values: readonly number[];
  /** Where the slider stands at first: the operating point. */
  readonly start: number;
  readonly regression: boolean;
  /** A regression counts as right when it is off by no more. */
  readonly tolerance: number;
  readonly inputs: readonly {
    readonly id: string;
    /** Empty where texts may not be shown. */
    readonly text: string;
    readonly label: string | number;
    readonly hardness?: string;
    readonly answers: readonly (string | number)[];
    readonly observed: readonly (number | null)[] | null;
    readonly exits: readonly (readonly [value: number, exit: number])[];
    readonly exit: number;
  }[];
}

const TOLERANCE = 0.5;

export function inputsSection(view: View): Html {
  const { inputs = [] } = view.results;
  if (inputs.length === 0) return html``;
  const groups = new Map<string, InputStrip[]>();
  for (const strip of inputs) {
    const key = JSON.stringify([strip.task, strip.split, strip.method, strip.seed]);
    groups.set(key, [...(groups.get(key) ?? []), strip]);
  }
  const order = ({ task, method }: StripKey) => [
    view.columns.findIndex((column) => column.task === task),
    view.methods.indexOf(method),
  ];
  const sets = [...groups.values()]
    .sort((a, b) => {
      const [x, y] = [order(a[0]!), order(b[0]!)];
      return x[0]! - y[0]! || x[1]! - y[1]!;
    })
    .map((group) => dataOf(view, group));
  const isRegression = sets.some(({ regression }) => regression);
  return html`<section id="inputs"><h2>Single inputs</h2>
<p class="note">One strip per input, one cell per layer, from the first layer to the last: what that layer's exit answers. Blue is right and orange is wrong${
    isRegression ? ` (of a regression: off by at most ${TOLERANCE})` : ""
  }; the framed cell is where the input leaves, paler cells are never computed. Move the slider to see what another value of the knob would do. A small sample: its figures are not the table's.</p>
<div class="controls"><label for="strip-pick">Task and method <select id="strip-pick">${sets.map(
    ({ title }, index) => html`<option value="${index}">${title}</option>`,
  )}</select></label></div>
<div class="whatif"><label id="strip-control" for="strip-knob"><span>What if <code id="strip-knob-name"></code> were</span> <input type="range" id="strip-knob" min="0" max="0" step="1" value="0"></label>
<p><output id="strip-output" for="strip-knob strip-pick" aria-live="polite"></output></p></div>
<ul class="strips" id="strips"></ul><noscript><p class="note">The strips are drawn by a script.</p></noscript>
<script type="application/json" id="strip-data">${raw(jsonText(sets))}</script></section>`;
}

type StripKey = Pick<InputStrip, "task" | "method">;

function dataOf(view: View, group: readonly InputStrip[]): StripData {
  const first = group[0]!;
  const values = [
    ...new Set(group.flatMap(({ knob }) => knob?.exits.map(([value]) => value) ?? [])),
  ].sort((a, b) => a - b);
  const chosen = first.knob?.value ?? null;
  const start =
    chosen === null
      ? 0
      : Math.max(
          0,
          values.findLastIndex((value) => value <= chosen),
        );
  const column = view.columns.find(
    ({ task, split }) => task === first.task && split === first.split,
  );
  return {
    title: `${column?.title ?? first.task} · ${view.methodTitle(first.method)}`,
    knobName: first.knob?.name ?? "",
    values,
    start,
    regression: typeof first.label === "number",
    tolerance: TOLERANCE,
    inputs: group.map(({ id, text, pair, label, hardness, answers, observed, knob, exit }) => ({
      id,
      text: [text, ...(pair === undefined ? [] : [pair])].join(" ‖ "),
      label,
      ...(hardness === undefined ? {} : { hardness }),
      answers,
      observed,
      exits: knob?.exits ?? [],
      exit,
    })),
  };
}
