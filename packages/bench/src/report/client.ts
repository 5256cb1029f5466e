/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/// <reference lib="dom.asynciterable" />
/**
 * @file What the report does in a browser: tips, sorting, filters, and the what-if slider over single inputs.
 *
 * The page holds the text of {@link reportClient}, so it must not use anything from outside itself.
 */
import type { StripData } from "./inputs-section.js";

/** Runs once in the page. Text is only ever set as text, never parsed as markup. */
export function reportClient(): void {
  const all = <T extends Element = HTMLElement>(
    selector: string,
    within: ParentNode = document,
  ) => [...within.querySelectorAll<T>(selector)];
  const byId = <T extends HTMLElement>(id: string) => document.getElementById(id) as T | null;

  // Tips: the nearest mark under the pointer, or the one that arrow keys walked to.
  const tip = byId("tip")!;
  let current: Element | undefined;

  const hide = () => {
    tip.style.visibility = "hidden";
    current?.classList.remove("at");
    current = undefined;
  };
  const textOf = (mark: Element): string => {
    const own = mark.getAttribute("data-t");
    if (own !== null) return own;
    const card = mark.closest("[data-tips]");
    const texts = JSON.parse(card?.getAttribute("data-tips") ?? "[]") as string[];
    return texts[Number(mark.getAttribute("data-i"))] ?? "";
  };
  const show = (mark: Element, x: number, y: number) => {
    if (mark !== current) {
      hide();
      tip.textContent = textOf(mark);
      mark.classList.add("at");
      current = mark;
    }
    const left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4));
    const above = y - tip.offsetHeight - 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : y + 18}px`;
    tip.style.visibility = "visible";
  };
  const centre = (mark: Element): readonly [number, number] => {
    const box = (mark.querySelector(".mark") ?? mark).getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const isShown = (mark: Element) => mark.getClientRects().length > 0;
  const marksOf = (plot: Element) =>
    all<SVGGElement>(".point[data-i], .point[data-t]", plot).filter(isShown);

  const point = (event: PointerEvent) => {
    const target = event.target as Element;
    const plot = target.closest(".plot");
    if (!plot) return hide();
    const direct = target.closest(".point[data-t]");
    if (direct) return show(direct, event.clientX, event.clientY);
    let nearest: Element | undefined;
    let least = event.pointerType === "touch" ? 32 : 18;
    for (const mark of marksOf(plot)) {
      if (mark.hasAttribute("data-t")) continue;
      const [x, y] = centre(mark);
      const distance = Math.hypot(event.clientX - x, event.clientY - y);
      if (distance < least) [nearest, least] = [mark, distance];
    }
    if (nearest) show(nearest, event.clientX, event.clientY);
    else hide();
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", hide, { passive: true, capture: true });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const plot = (event.target as Element).closest(".plot");
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowRight: [1, 0],
      ArrowLeft: [-1, 0],
      ArrowDown: [0, 1],
      ArrowUp: [0, -1],
    };
    const step = steps[event.key];
    if (!plot || !step) return;
    const lines = all(".series", plot)
      .map((series) => marksOf(series))
      .filter((marks) => marks.length > 0);
    if (lines.length === 0) lines.push(marksOf(plot));
    if (lines[0]!.length === 0) return;
    event.preventDefault();
    const line = lines.findIndex((marks) => marks.some((mark) => mark === current));
    const place = current ? (lines[line]?.indexOf(current as SVGGElement) ?? -1) : -1;
    const wrap = (value: number, length: number) => (value + length) % length;
    const nextLine = line < 0 ? 0 : wrap(line + step[1], lines.length);
    const marks = lines[nextLine]!;
    const next =
      line < 0
        ? 0
        : step[1] === 0
          ? wrap(place + step[0], marks.length)
          : Math.min(place, marks.length - 1);
    const mark = marks[next]!;
    show(mark, ...centre(mark));
  });

  // Sorting: numbers by value, texts by their letters, gaps last.
  const valueIn = (cell: Element | undefined): number | string => {
    const text = (cell?.getAttribute("data-v") ?? cell?.textContent ?? "").trim();
    const number = Number.parseFloat(text.replace("−", "-"));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const isGap = (value: number | string) => value === "" || value === "–";
  const compare = (a: number | string, b: number | string) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const button of all("table.sortable button.sort")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th")!;
      const table = heading.closest("table")!;
      const body = table.tBodies[0]!;
      const place = [...heading.parentElement!.children].indexOf(heading);
      const rows = [...body.rows].map((row) => ({ row, value: valueIn(row.cells[place]) }));
      const before = heading.getAttribute("aria-sort");
      const isNumeric = rows.some(({ value }) => typeof value === "number");
      const descending = before === null ? isNumeric : before === "ascending";
      for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      table.classList.add("sorted");
      rows.sort((a, b) =>
        isGap(a.value) || isGap(b.value)
          ? Number(isGap(a.value)) - Number(isGap(b.value))
          : (descending ? -1 : 1) * compare(a.value, b.value),
      );
      body.append(...rows.map(({ row }) => row));
    });
  }

  // Filters: a chip hides everything of one method, task or point; chips for the same thing move together.
  const toggle = (kind: string, key: string, visible: boolean) => {
    for (const chip of all(`[data-toggle="${kind}"][data-key="${key}"]`))
      chip.setAttribute("aria-pressed", String(visible));
    for (const element of all<Element>(`[data-${kind}="${key}"]`))
      element.classList.toggle(`off-${kind}`, !visible);
    hide();
  };
  for (const chip of all("[data-toggle]")) {
    chip.addEventListener("click", () =>
      toggle(chip.dataset.toggle!, chip.dataset.key!, chip.getAttribute("aria-pressed") !== "true"),
    );
  }
  for (const button of all("[data-every]")) {
    button.addEventListener("click", () => {
      const kind = button.dataset.every!;
      const visible = button.dataset.visible === "true";
      for (const key of new Set(all(`[data-toggle="${kind}"]`).map((chip) => chip.dataset.key!)))
        toggle(kind, key, visible);
    });
  }

  // Choices: of the elements that belong to one group, those of the chosen name are shown.
  const choose = (group: string, name: string) => {
    for (const chip of all(`[data-choose="${group}"]`))
      chip.setAttribute("aria-pressed", String(chip.dataset.key === name));
    for (const element of all(`[data-${group}]`))
      element.classList.toggle(`off-${group}`, element.getAttribute(`data-${group}`) !== name);
    hide();
  };
  for (const chip of all("[data-choose]")) {
    const { choose: group, key } = chip.dataset;
    chip.addEventListener("click", () => choose(group!, key!));
    if (chip.getAttribute("aria-pressed") === "true") choose(group!, key!);
  }

  addEventListener("beforeprint", () => {
    for (const details of all<HTMLDetailsElement>("details")) details.open = true;
  });

  // Single inputs: what every layer answers, and where a value of the knob would stop.
  const source = byId("strip-data");
  if (source) {
    const data = JSON.parse(source.textContent ?? "[]") as StripData[];
    const pick = byId<HTMLSelectElement>("strip-pick")!;
    const slider = byId<HTMLInputElement>("strip-knob")!;
    const control = byId("strip-control")!;
    const knobName = byId("strip-knob-name")!;
    const output = byId<HTMLOutputElement>("strip-output")!;
    const list = byId("strips")!;

    const exitAt = ({ exits, exit }: StripData["inputs"][number], value: number | undefined) => {
      if (value === undefined || exits.length === 0) return exit;
      return (exits.findLast(([at]) => at <= value) ?? exits[0]!)[1];
    };
    const isRight = (set: StripData, answer: string | number, label: string | number) =>
      set.regression ? Math.abs(Number(answer) - Number(label)) <= set.tolerance : answer === label;
    const shortOf = (answer: string | number) =>
      typeof answer === "number" ? answer.toFixed(1) : answer.slice(0, 3);

    const draw = () => {
      const set = data[Number(pick.value)];
      if (!set) return;
      const value = set.values[Number(slider.value)];
      let layers = 0;
      let right = 0;
      let full = 0;
      let error = 0;
      let fullError = 0;
      const items = set.inputs.map((input) => {
        const exit = exitAt(input, value);
        const depth = input.answers.length;
        const [given, last] = [input.answers[exit - 1]!, input.answers[depth - 1]!];
        layers += exit;
        right += Number(isRight(set, given, input.label));
        full += Number(isRight(set, last, input.label));
        error += Math.abs(Number(given) - Number(input.label));
        fullError += Math.abs(Number(last) - Number(input.label));
        const item = document.createElement("li");
        const said = document.createElement("p");
        said.className = "said";
        said.textContent = input.text === "" ? `row ${input.id}` : input.text;
        const strip = document.createElement("div");
        strip.className = "strip plot";
        strip.tabIndex = 0;
        strip.setAttribute("role", "img");
        strip.setAttribute(
          "aria-label",
          `answers by layer: ${input.answers.join(", ")}; right is ${input.label}; leaves at layer ${exit} with ${given}`,
        );
        for (const [index, answer] of input.answers.entries()) {
          const layer = index + 1;
          const cell = document.createElement("span");
          cell.textContent = shortOf(answer);
          cell.className = `point ${isRight(set, answer, input.label) ? "right" : "wrong"}${layer === exit ? " exit" : layer > exit ? " after" : ""}`;
          const seen = input.observed?.[index];
          cell.dataset.t = [
            `layer ${layer}: ${answer}${layer === exit ? ", leaves here" : ""}`,
            `right is ${input.label}${input.hardness ? ` (${input.hardness})` : ""}`,
            ...(typeof seen === "number" ? [`observed ${Number(seen.toPrecision(4))}`] : []),
          ].join("\n");
          strip.append(cell);
        }
        item.append(said, strip);
        return item;
      });
      list.replaceChildren(...items);
      const n = set.inputs.length;
      const depth = set.inputs[0]?.answers.length ?? 1;
      const mean = layers / n;
      const quality = set.regression
        ? `mean error ${(error / n).toFixed(2)} (full depth ${(fullError / n).toFixed(2)})`
        : `${right} of ${n} right (full depth ${full})`;
      const saved = Math.round(100 * (1 - mean / depth));
      output.textContent = `${value === undefined ? "" : `${Number(value.toPrecision(4))} · `}mean exit layer ${mean.toFixed(2)} of ${depth}, saved layers ${saved} % · ${quality}`;
    };
    const open = () => {
      const set = data[Number(pick.value)];
      if (!set) return;
      control.classList.toggle("off-knob", set.values.length < 2);
      knobName.textContent = set.knobName;
      slider.max = String(Math.max(0, set.values.length - 1));
      slider.value = String(set.start);
      draw();
    };
    pick.addEventListener("change", open);
    slider.addEventListener("input", draw);
    open();
  }
  document.documentElement.dataset.ready = "true";
}
