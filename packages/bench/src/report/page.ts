/** @file Style and script of the report: inlined, so that the file needs nothing else. */

export const style = `
:root { color-scheme: light dark; --ink:#1b1f24; --dim:#57606a; --paper:#fff; --card:#f6f8fa; --line:#d0d7de;
  --c0:#0072b2; --c1:#c14f00; --c2:#007d5a; --c3:#a8497f; --c4:#8a6100; --c5:#2f7fb8; --c6:#6b4fbb; --c7:#444;
  --g0:#7fb3d5; --g1:#2f7fb8; --g2:#0b3c5d; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6edf3; --dim:#9da7b1; --paper:#0d1117; --card:#161b22; --line:#30363d;
  --c0:#58b2ec; --c1:#ff8f4d; --c2:#3fd0a4; --c3:#ec9bc8; --c4:#f0c04a; --c5:#9fd0ff; --c6:#b9a4ff; --c7:#cfd5db;
  --g0:#1f5f8b; --g1:#4a9fd8; --g2:#bfe0f7; } }
* { box-sizing: border-box; }
body { margin:0 auto; padding:16px; max-width:1180px; background:var(--paper); color:var(--ink);
  font:16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size:1.6rem; line-height:1.2; margin:.4em 0 .3em; } h2 { font-size:1.25rem; margin:2em 0 .4em; }
h3 { font-size:1rem; margin:0 0 .3em; } h4 { font-size:.85rem; font-weight:600; margin:0; overflow-wrap:anywhere; }
p { margin:.4em 0; max-width:75ch; } .note, .dim { color:var(--dim); font-size:.85rem; }
code, pre { font-family:ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size:.85rem; }
pre { background:var(--card); border:1px solid var(--line); border-radius:6px; padding:10px; overflow-x:auto; }
.scroll { overflow-x:auto; margin:.6em 0; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.9rem; white-space:nowrap; }
caption { text-align:left; color:var(--dim); padding-bottom:4px; }
th, td { padding:4px 9px; text-align:right; } th.left, td.left { text-align:left; }
thead th { border-bottom:1px solid var(--line); font-weight:600; } th[scope=colgroup] { text-align:center; }
tbody th { font-weight:500; position:sticky; left:0; background:var(--paper); }
tr.ruled > * { border-top:1px solid var(--line); }
.cards { display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap:14px; }
.card { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:12px; min-width:0; }
.small { display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 170px), 1fr)); gap:12px; margin:.4em 0 1.4em; }
svg { display:block; width:100%; height:auto; } .card tbody th { background:var(--card); }
.grid { stroke:var(--line); stroke-width:.6; } .base { stroke:var(--dim); stroke-width:.8; }
.tick { fill:var(--dim); font-size:11px; } .axis { fill:var(--ink); font-size:12px; } .small .tick { font-size:10px; }
.reference { stroke:var(--ink); stroke-width:1; stroke-dasharray:4 4; opacity:.7; }
.curve { fill:none; stroke:var(--series); stroke-width:1.8; opacity:.85; } .mark { fill:var(--series); }
.ring { fill:none; stroke:var(--series); stroke-width:1.6; } .ring.one-percent { stroke-dasharray:3 2.4; }
.hit { fill:transparent; } .hidden { display:none; } .mean { stroke:var(--c1); stroke-width:1.4; stroke-dasharray:3 2; }
.bar.g0 { fill:var(--g0); } .bar.g1 { fill:var(--g1); } .bar.g2 { fill:var(--g2); }
[data-tip]:hover .mark { stroke:var(--ink); stroke-width:1.2; } [data-tip]:hover .bar { stroke:var(--ink); stroke-width:.8; }
.legend { display:flex; flex-wrap:wrap; gap:6px; margin:.5em 0 .9em; }
.legend button { display:inline-flex; align-items:center; gap:6px; font:inherit; font-size:.85rem; color:inherit; cursor:pointer;
  background:var(--card); border:1px solid var(--line); border-radius:16px; padding:3px 11px 3px 7px; min-height:32px; }
.legend button[aria-pressed=false] { opacity:.45; text-decoration:line-through; } .legend svg { width:16px; height:16px; flex:none; }
.key { display:inline-block; width:.8em; height:.8em; margin:0 .3em 0 .9em; border-radius:2px; vertical-align:-.05em; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:2px 14px; margin:.4em 0; font-size:.9rem; }
dt { color:var(--dim); } dd { margin:0; overflow-wrap:anywhere; } summary { cursor:pointer; padding:6px 0; }
#tip { position:fixed; z-index:9; pointer-events:none; white-space:pre-line; max-width:260px; padding:6px 9px; border-radius:6px;
  background:var(--ink); color:var(--paper); font-size:.8rem; line-height:1.35; visibility:hidden; }
:focus-visible { outline:2px solid var(--c0); outline-offset:2px; }
@media (max-width:500px) { body { padding:12px; } .card { padding:8px; } dl { grid-template-columns:1fr; } dd { margin-bottom:6px; }
  .small { grid-template-columns:repeat(2, minmax(0, 1fr)); } th, td { padding:4px 7px; } }
@media print { .legend { display:none; } details > * { display:block; } }
`;

export const script = `
"use strict";
const tip = document.getElementById("tip");
const show = (event) => {
  const target = event.target.closest && event.target.closest("[data-tip]");
  if (!target) { tip.style.visibility = "hidden"; return; }
  tip.textContent = target.dataset.tip;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const x = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4));
  const above = event.clientY - height - 14;
  tip.style.left = x + "px";
  tip.style.top = (above > 4 ? above : event.clientY + 18) + "px";
  tip.style.visibility = "visible";
};
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => { tip.style.visibility = "hidden"; }, { passive: true });
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const visible = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(visible));
    for (const series of document.querySelectorAll('[data-series="' + button.dataset.for + '"]')) {
      series.classList.toggle("hidden", !visible);
    }
  });
}
document.documentElement.dataset.ready = "true";
`;
