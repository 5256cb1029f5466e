/** @file Prompts with what they are answered at several speeds, side by side. */
import type { ResponseSample } from "../results.js";
import { type Html, html, scrollBox } from "./html.js";
import { knobText, percent, type View } from "./view.js";

export function responsesSection(view: View): Html {
  const { responses = [] } = view.results;
  if (responses.length === 0) return html``;
  return html`<section id="responses"><h2>Responses</h2>
<p class="note">Some prompts and what they are answered, from full depth to the fastest point that was decoded. Speed-up is that of the whole point, in layers; the score is the text's own ROUGE-L.</p>
${responses.map((sample) => sampleHtml(view, sample))}</section>`;
}

function sampleHtml(view: View, { task, id, prompt, reference, answers }: ResponseSample): Html {
  return html`
<article class="card"><h3>${view.taskTitle(task)}, ${id}</h3><details><summary>Prompt and reference</summary><pre tabindex="0">${prompt}</pre><p>Reference:</p><pre tabindex="0">${reference}</pre></details>
${scrollBox(
  "Responses",
  html`<table><thead><tr><th scope="col" class="left">Method</th><th scope="col" class="left">Response</th><th scope="col" class="left">Knob</th><th scope="col">Speed-up</th><th scope="col">ROUGE-L</th></tr></thead><tbody>${answers.map(
    ({ method, knob, speedup, score, text }) =>
      html`<tr><th scope="row">${view.methodTitle(method)}</th><td class="left response">${text}</td><td class="left">${knob ? `${knob.name} ${knobText(knob.value)}` : "–"}</td><td>${speedup.toFixed(2)}×</td><td>${percent(score)}</td></tr>`,
  )}</tbody></table>`,
)}</article>`;
}
