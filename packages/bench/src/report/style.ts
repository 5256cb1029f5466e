/** @file The report's style sheet, and the part of it that pictures outside the page need as well. */
import { COLOURS } from "./marker.js";

/**
 * Colours by name. Series colours are those of Okabe and Ito, darkened or lightened until each has at least 4.5:1 (light)
 * against the page; neighbours also differ in lightness, and every method has a marker of its own.
 */
const light = {
  ink: "#1b1f24",
  dim: "#57606a",
  paper: "#ffffff",
  card: "#f6f8fa",
  line: "#d0d7de",
  link: "#0a5ea8",
  good: "#b9dcf2",
  bad: "#f2c9a8",
  warn: "#8a4b00",
  c0: "#0072b2",
  c1: "#b84a00",
  c2: "#00785a",
  c3: "#a8497f",
  c4: "#7d5a00",
  c5: "#1f8a9e",
  c6: "#6b4fbb",
  c7: "#444444",
  g0: "#9cc7e4",
  g1: "#3f8fc4",
  g2: "#0b3c5d",
  g3: "#e0a15e",
  g4: "#8a4b00",
} as const;

const dark: Readonly<Record<keyof typeof light, string>> = {
  ink: "#e6edf3",
  dim: "#9da7b1",
  paper: "#0d1117",
  card: "#161b22",
  line: "#30363d",
  link: "#7ec3ff",
  good: "#1d4f73",
  bad: "#7a4316",
  warn: "#f0b060",
  c0: "#58b2ec",
  c1: "#ff8f4d",
  c2: "#3fd0a4",
  c3: "#ec9bc8",
  c4: "#f0c04a",
  c5: "#5fd3e6",
  c6: "#b9a4ff",
  c7: "#cfd5db",
  g0: "#1f5f8b",
  g1: "#4a9fd8",
  g2: "#bfe0f7",
  g3: "#a86a2a",
  g4: "#f5c98f",
};

type Colour = keyof typeof light;

/** Rules of the curve charts; `colour` gives a colour by name. */
function chartRules(colour: (name: Colour) => string): string {
  const series = Array.from({ length: COLOURS }, (_, index) => {
    const value = colour(`c${index}` as Colour);
    return `.s${index} .curve,.s${index} .ring{stroke:${value}} .s${index} .mark{fill:${value}}`;
  }).join("\n");
  return `.grid{stroke:${colour("line")};stroke-width:.7} .base{stroke:${colour("dim")};stroke-width:.8}
.tick{fill:${colour("dim")};font-size:12px} .axis{fill:${colour("ink")};font-size:13px}
.reference{stroke:${colour("ink")};stroke-width:1;stroke-dasharray:4 4;opacity:.7}
.curve{fill:none;stroke-width:1.7;stroke-linejoin:round;opacity:.8} .ring{fill:none;stroke-width:1.6}
.ring.one-percent{stroke-dasharray:3 2.4} .mark{stroke:${colour("card")};stroke-width:.5}
${series}`;
}

/** For pictures outside the page, on white. */
export const pictureStyle = `text{font-family:"DejaVu Sans","Liberation Sans",Arial,Helvetica,sans-serif}
.background{fill:${light.paper}} .title{fill:${light.ink};font-size:15px;font-weight:bold} .legend{fill:${light.ink};font-size:12px}
${chartRules((name) => light[name])}`;

const variables = (colours: Readonly<Record<string, string>>) =>
  Object.entries(colours)
    .map(([name, value]) => `--${name}:${value};`)
    .join("");

export const style = `
:root { color-scheme:light dark; ${variables(light)} }
@media screen and (prefers-color-scheme: dark) { :root { ${variables(dark)} } }
* { box-sizing:border-box; }
html { -webkit-text-size-adjust:100%; }
body { margin:0 auto; padding:16px 20px 40px; max-width:1240px; background:var(--paper); color:var(--ink);
  font:16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap:break-word; }
h1 { font-size:1.65rem; line-height:1.2; margin:.4em 0 .3em; } h2 { font-size:1.28rem; line-height:1.25; margin:2.2em 0 .4em; }
h3 { font-size:1.02rem; margin:0 0 .4em; overflow-wrap:anywhere; } h4 { font-size:.86rem; font-weight:600; margin:0 0 .2em; overflow-wrap:anywhere; }
p { margin:.4em 0; max-width:78ch; } .note, .dim { color:var(--dim); font-size:.86rem; } a { color:var(--link); }
code, pre { font-family:ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size:.85rem; }
pre { background:var(--card); border:1px solid var(--line); border-radius:6px; padding:10px 12px; overflow-x:auto; margin:.6em 0; }
nav { display:flex; flex-wrap:wrap; gap:4px 16px; margin:.6em 0; font-size:.92rem; } nav a { padding:3px 0; }
main > section { scroll-margin-top:8px; }
.scroll { overflow-x:auto; margin:.6em 0; max-width:100%; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.88rem; white-space:nowrap; }
caption { text-align:left; color:var(--dim); padding-bottom:4px; white-space:normal; }
th, td { padding:4px 9px; text-align:right; vertical-align:top; } th.left, td.left { text-align:left; }
thead th { border-bottom:1px solid var(--line); font-weight:600; vertical-align:bottom; } th[scope=colgroup] { text-align:center; }
th.start, td.start { border-left:1px solid var(--line); }
tbody th { font-weight:500; text-align:left; position:sticky; left:0; background:var(--paper); z-index:1; max-width:18em; white-space:normal; min-width:12.5em; }
.card tbody th { background:var(--card); }
tr.ruled > * { border-top:1px solid var(--line); } .sorted tr.ruled > * { border-top:0; }
td small { display:block; color:var(--dim); font-size:.76rem; line-height:1.25; } td.reason { color:var(--warn); font-style:italic; }
td.response { white-space:normal; min-width:16em; max-width:60ch; overflow-wrap:anywhere; } #responses .card { margin:0 0 14px; }
td.quoted, th.quoted { color:var(--dim); font-style:italic; }
button.sort { font:inherit; color:inherit; background:none; border:0; padding:2px 0; cursor:pointer; text-align:inherit; white-space:nowrap; }
button.sort::after { content:"↕"; display:inline-block; width:1em; margin-left:.15em; text-align:center; color:var(--dim); opacity:.55; }
th[aria-sort=ascending] button.sort::after { content:"▲"; opacity:1; } th[aria-sort=descending] button.sort::after { content:"▼"; opacity:1; }
.cards { display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 430px), 1fr)); gap:16px; }
.cards + h3, .scroll + h3, .note + h3, details + h3, ul + h3 { margin-top:1.6em; }
.card { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:12px 14px; min-width:0; }
.small { display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 205px), 1fr)); gap:14px 16px; margin:.5em 0 1.4em; align-items:end; }
figure { margin:0; min-width:0; } figcaption .dim { display:block; font-size:.78rem; }
svg { display:block; width:100%; height:auto; font-family:inherit; } .plot { max-width:600px; margin:0 auto; border-radius:4px; }
${chartRules((name) => `var(--${name})`)}
.halo { paint-order:stroke; stroke:var(--card); stroke-width:3px; }
.small .tick { font-size:11px; } .hit { fill:transparent; }
.mean { stroke:var(--c1); stroke-width:1.5; stroke-dasharray:3 2; } .heat { fill:var(--c0); } .boundary { stroke:var(--c1); stroke-width:1.2; stroke-dasharray:4 3; }
${Array.from({ length: 5 }, (_, index) => `.bar.g${index}{fill:var(--g${index})}`).join(" ")}
.at .mark, .at .bar { stroke:var(--ink); stroke-width:1.5; }
[class*="off-"] { display:none !important; }
.controls { display:flex; flex-wrap:wrap; gap:6px 8px; margin:.5em 0; align-items:center; } .controls > span { font-size:.86rem; color:var(--dim); }
.chip { display:inline-flex; align-items:center; gap:6px; font:inherit; font-size:.85rem; color:inherit; cursor:pointer; max-width:100%; text-align:left;
  background:var(--card); border:1px solid var(--line); border-radius:16px; padding:3px 11px; min-height:32px; overflow-wrap:anywhere; }
.chip svg, .sign svg { width:16px; height:16px; flex:none; } .sign { display:inline-flex; align-items:center; gap:5px; margin-right:1.1em; } .chip[aria-pressed=false] { opacity:.6; text-decoration:line-through; border-style:dashed; }
.pick .chip[aria-pressed=false] { opacity:1; text-decoration:none; border-style:solid; } .pick .chip[aria-pressed=true] { background:var(--ink); color:var(--paper); border-color:var(--ink); }
.key { display:inline-block; width:.8em; height:.8em; margin:0 .35em 0 .9em; border-radius:2px; vertical-align:-.05em; }
${Array.from({ length: 5 }, (_, index) => `.key.g${index}{background:var(--g${index})}`).join(" ")}
.flag { display:inline-block; color:var(--warn); border:1px solid currentColor; border-radius:4px; padding:0 6px; font-size:.78rem; font-weight:600; margin:2px 0; }
dl { display:grid; grid-template-columns:max-content minmax(0, 1fr); gap:3px 16px; margin:.4em 0; font-size:.9rem; }
dt { color:var(--dim); } dd { margin:0; overflow-wrap:anywhere; } dd ul { margin:0; padding-left:1.1em; } summary { cursor:pointer; padding:6px 0; }
ul.reasons { padding-left:1.2em; font-size:.9rem; } ul.reasons li { overflow-wrap:anywhere; }
select, input[type=range] { font:inherit; font-size:.9rem; max-width:100%; } select { color:inherit; background:var(--card); border:1px solid var(--line); border-radius:6px; padding:5px 8px; min-height:34px; }
label { display:inline-flex; flex-wrap:wrap; gap:4px 8px; align-items:center; font-size:.9rem; max-width:100%; }
.whatif input { width:min(420px, 100%); accent-color:var(--c0); } .whatif output { font-variant-numeric:tabular-nums; }
.strips { list-style:none; padding:0; margin:.6em 0; display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap:12px 20px; align-items:end; }
.strips li { min-width:0; } .strips .said { font-size:.86rem; margin:0 0 3px; display:-webkit-box; -webkit-line-clamp:2; -webkit-box-orient:vertical; overflow:hidden; overflow-wrap:anywhere; }
.strip { display:flex; gap:2px; } .strip span { flex:1 1 0; min-width:0; height:30px; line-height:28px; text-align:center; font-size:.7rem; border-radius:3px;
  border:1px solid transparent; overflow:hidden; white-space:nowrap; }
.strip .right { background:var(--good); } .strip .wrong { background:var(--bad); } .strip .after { opacity:.38; }
.strip .exit { border:2px solid var(--ink); line-height:26px; font-weight:700; }
#tip { position:fixed; z-index:9; pointer-events:none; white-space:pre-line; max-width:min(280px, 94vw); padding:6px 9px; border-radius:6px;
  background:var(--ink); color:var(--paper); font-size:.8rem; line-height:1.4; visibility:hidden; overflow-wrap:anywhere; }
:focus-visible { outline:2px solid var(--c0); outline-offset:2px; }
@media (max-width:560px) { body { padding:12px 12px 32px; } .card { padding:10px 8px; } dl { grid-template-columns:minmax(0, 1fr); gap:0; } dd { margin-bottom:7px; }
  .small { grid-template-columns:repeat(2, minmax(0, 1fr)); gap:12px 10px; } th, td { padding:4px 7px; } tbody th { max-width:8.5em; min-width:8em; overflow-wrap:anywhere; } td.response { min-width:13em; } }
@media print { body { max-width:none; padding:0; font-size:11pt; } nav, .controls, .whatif input, button.sort::after { display:none; } .scroll { overflow:visible; }
  table { font-size:7.5pt; } th, td { padding:2px 4px; } .card, figure, .strips li { break-inside:avoid; } h2, h3 { break-after:avoid; } tbody th { position:static; }
  * { -webkit-print-color-adjust:exact; print-color-adjust:exact; } }
`;
