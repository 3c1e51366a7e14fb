/** The card's whole style sheet: system fonts, light and dark, paper. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f5f1; --card: #ffffff; --ink: #1b1b19; --soft: #5c5b55; --faint: #8a8880; --rule: #e3e1d9;
  --grid: #ecebe4; --first: #2a62c9; --second: #a9c1ee; --chosen: #0b7a55; --chosen-soft: #e3f3ec;
  --warn: #a8450b; --warn-soft: #fbeee2; --float: #6b6a64; --tag: #efede6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131312; --card: #1c1c1a; --ink: #f0efea; --soft: #b5b3aa; --faint: #8d8b83; --rule: #34332f;
    --grid: #2a2926; --first: #7ba6f7; --second: #3d598f; --chosen: #4cc79a; --chosen-soft: #17352b;
    --warn: #f0a265; --warn-soft: #3a2615; --float: #a5a39b; --tag: #2a2926;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 56px 24px 72px; }
.eyebrow { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .08em; text-transform: uppercase; }
h1 { margin: 6px 0 18px; font-size: clamp(28px, 4.4vw, 44px); line-height: 1.12; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 56px 0 6px; font-size: 21px; letter-spacing: -.01em; }
p { margin: 0 0 12px; max-width: 76ch; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.verdict { margin: 0; max-width: none; padding: 16px 20px; border-left: 4px solid var(--chosen); border-radius: 4px 10px 10px 4px; background: var(--chosen-soft); font-size: 18px; }
.verdict.is-refused { border-color: var(--warn); background: var(--warn-soft); }
.verdict + p { margin-top: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px; margin: 26px 0 0; }
.tile { margin: 0; padding: 18px 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 13px; color: var(--soft); }
.tile dd.big { font-size: 29px; line-height: 1.3; font-weight: 650; letter-spacing: -.02em; color: var(--ink); font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 16px; margin-top: 16px; }
figure { margin: 0; padding: 20px; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure.wide .chart { max-width: 900px; margin: 0 auto; }
figcaption { margin-bottom: 10px; }
figcaption strong { display: block; }
figcaption span { color: var(--soft); font-size: 14px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0 0; padding: 0; list-style: none; color: var(--soft); font-size: 13px; }
.legend svg { width: 14px; height: 14px; vertical-align: -2px; margin-right: 6px; overflow: visible; }
.chart { display: block; width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow: visible; }
.chart text { fill: var(--ink); }
.chart .tick, .chart .label, .chart .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .name, .chart .limit-label, .chart .value { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.chart .name.is-chosen { fill: var(--chosen); font-weight: 650; }
.grid { stroke: var(--grid); } .axis { stroke: var(--faint); }
.limit { stroke: var(--warn); stroke-dasharray: 5 4; } .chart .limit-label { fill: var(--warn); }
.front { fill: none; stroke: var(--first); stroke-width: 2; opacity: .45; }
.interval { stroke: var(--faint); stroke-width: 1.5; } .interval.is-chosen { stroke: var(--chosen); }
.point { stroke: var(--card); stroke-width: 2; }
.point.meets { fill: var(--first); } .point.misses { fill: var(--card); stroke: var(--first); }
.point.float { fill: var(--float); } .point.chosen { fill: var(--chosen); }
.ring { fill: none; stroke: var(--chosen); stroke-width: 1.5; }
.bar.first { fill: var(--first); } .bar.second { fill: var(--second); }
.heat { fill: var(--first); stroke: var(--rule); } .chart .heat-text { font-size: 11px; } .chart .heat-width { font-size: 11px; font-weight: 650; }
.scroll { margin-top: 14px; overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.scroll:focus-visible { outline: 2px solid var(--first); outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { padding: 12px 16px; text-align: left; color: var(--soft); font-size: 13px; }
th, td { padding: 11px 9px; border-top: 1px solid var(--rule); text-align: left; vertical-align: top; }
thead th { font-size: 13px; line-height: 1.35; color: var(--soft); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
tbody th { font-weight: 650; min-width: 170px; max-width: 240px; overflow-wrap: anywhere; }
tr.is-chosen { background: var(--chosen-soft); } tr.is-chosen th { color: var(--chosen); }
td small, th small { display: block; color: var(--soft); font-size: 12px; font-weight: 400; }
td.wrap { min-width: 140px; overflow-wrap: anywhere; }
code, pre { font: 12px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
th code { display: block; margin-top: 3px; color: var(--soft); font-weight: 400; }
pre { margin: 14px 0 0; padding: 16px 18px; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; white-space: pre-wrap; font-size: 13px; }
.tag { display: inline-block; padding: 1px 7px; border-radius: 99px; background: var(--tag); color: var(--soft); font-size: 11px; font-weight: 600; white-space: nowrap; }
.facts { display: grid; grid-template-columns: minmax(120px, 220px) 1fr; gap: 8px 24px; margin: 14px 0 0; }
.facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) { main { padding: 32px 16px; } figure { overflow-x: auto; } .chart { min-width: 460px; } .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 10px; } }
@media print { :root { --page: #fff; } main { padding: 0; max-width: none; } figure, .tile, tr { break-inside: avoid; } .scroll { overflow: visible; } }
`;
