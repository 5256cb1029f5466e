/** @file What a run was made with: the exact command, seeds, backbone, data, versions and machine. */
import { type Html, html } from "./html.js";
import { count, type View } from "./view.js";

export function runSection(view: View): Html {
  const { command, preset, backbone, data, versions, machine, taken = [] } = view.results;
  const { tasks, ...source } = data;
  const entries: [string, Html | string][] = [
    ["seeds", view.seeds.length === 0 ? "–" : view.seeds.join(", ")],
    ["preset", preset],
    ["backbone", plain(backbone)],
    ...Object.entries(source).map(([name, value]): [string, Html] => [
      name === "source" ? "data" : `data, ${name}`,
      plain(value),
    ]),
    ...(isRecord(tasks)
      ? Object.entries(tasks).map(([name, value]): [string, Html] => [
          `data of ${view.taskTitle(name)}`,
          plain(value),
        ])
      : []),
    ...(taken.length > 0
      ? [
          [
            "taken from earlier runs",
            taken
              .map(
                ({ task, method, seed }) =>
                  `${view.taskTitle(task)}, ${view.methodTitle(method)}, seed ${seed}`,
              )
              .join("; "),
          ] as [string, string],
        ]
      : []),
    ...machineEntries(machine ?? {}),
    ...Object.entries(versions ?? {}),
  ];
  return html`<section id="run"><h2>This run</h2><p class="note">The command that makes these results again:</p><pre tabindex="0"><code>${command}</code></pre>
<dl>${entries.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>\n`)}</dl></section>`;
}

const machineNames: Readonly<Record<string, string>> = {
  processors: "processors (logical)",
  memoryGiB: "memory, GiB",
  threads: "threads used",
};

function machineEntries(machine: Readonly<Record<string, string | number>>): [string, string][] {
  return Object.entries(machine).map(([name, value]) => [
    machineNames[name] ?? name,
    String(value),
  ]);
}

/** Nested values as they are written; no data set or backbone is described by more than two levels. */
function plain(value: unknown): Html {
  if (isRecord(value)) {
    const parts = Object.entries(value).map(
      ([name, inner]) =>
        `${name} ${typeof inner === "string" || typeof inner === "number" ? inner : JSON.stringify(inner)}`,
    );
    return html`${parts.join(", ")}`;
  }
  return html`${typeof value === "string" ? value : (JSON.stringify(value) ?? "–")}`;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** One line under the title. */
export function summaryLine(view: View): Html {
  const { results, methods, columns, seeds } = view;
  const tasks = new Set(columns.map(({ task }) => task)).size;
  return html`<p>${count(methods.length, "method")} on ${count(tasks, "task")}, ${count(seeds.length, "seed")}; data: ${results.data.source}, preset: ${results.preset}.</p>`;
}
