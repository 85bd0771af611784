// Curves of a cell's runs, drawn when its card opens, and again when the window or the colour scheme changes.
"use strict";
(() => {
  const HEIGHT = 190;
  const LINES = ["--accent", "--bad", "--good", "--odd", "--soft"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => (value == null ? "–" : String(Number(value.toPrecision(4))));
  const draw = (place, runs, name) => {
    const epochs = [...new Set(runs.flatMap((run) => run.epochs))].sort((a, b) => a - b);
    const values = runs.map((run) => {
      const known = new Map(run.epochs.map((epoch, i) => [epoch, run[name][i]]));
      return epochs.map((epoch) => known.get(epoch) ?? null);
    });
    const lines = runs.map((run, i) => {
      const stroke = colour(LINES[i % LINES.length]);
      const best = [epochs.indexOf(run.best)];
      const points = { show: true, size: 8, fill: stroke, filter: () => best };
      return { label: `Seed ${run.seed}`, stroke, width: 1.5, points, value: (_, value) => short(value) };
    });
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const options = {
      width: place.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false } },
      cursor: { drag: { x: false, y: false } },
      axes: [{ ...axis, size: 28 }, { ...axis, size: 52 }],
      series: [{ label: "Epoch" }, ...lines],
    };
    return new uPlot(options, [epochs, ...values], place);
  };
  const drawn = new Map();
  const show = (card) => {
    const curves = card.querySelector(".curves");
    curves.hidden = false;
    const runs = JSON.parse(curves.querySelector("script").textContent);
    for (const chart of drawn.get(card) ?? []) chart.destroy();
    const [loss, recall] = curves.querySelectorAll("div[role=group]");
    drawn.set(card, [draw(loss, runs, "loss"), draw(recall, runs, "recall")]);
  };
  for (const card of document.querySelectorAll("details.cell")) {
    card.addEventListener("toggle", () => { if (card.open && !drawn.has(card)) show(card); });
    if (card.open) show(card);
  }
  const again = () => { for (const card of drawn.keys()) show(card); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(again, 150); });
})();
