// The plots of the report: what was measured, the band it was expected in, what is known to have been wrong, and alarms.
"use strict";
const HEIGHT = 170;
const data = JSON.parse(document.getElementById("data").textContent);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (v) => {
  if (v == null) return "–";
  const size = Math.abs(v);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return v.toExponential(2);
  return String(Number(v.toPrecision(5)));
};
const iso = (s, from, to) => new Date(1000 * s).toISOString().slice(from, to);
// days as they stand in every table here, and the year or the day below where it changes
const ticks = (u, splits, axis, space, step) => {
  let last = "";
  return splits.map((at) => {
    const [text, below] = step >= 86400 ? [iso(at, 5, 10), iso(at, 0, 4)] : [iso(at, 11, 16), iso(at, 0, 10)];
    const shown = below === last ? text : `${text}\n${below}`;
    last = below;
    return shown;
  });
};
const when = (s) => new Date(1000 * s).toISOString().replace("T", " ").slice(0, 16);

function within(u, draw) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox);
  ctx.restore();
}

function plot(node, series, told) {
  const ink = { right: css("--right"), false: css("--false"), beside: css("--beside"), alarm: css("--alarm") };
  const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), size: 4 }, font: "11px system-ui, sans-serif" };
  const x = (u, at) => u.valToPos(at, "x", true);
  const options = {
    width: node.clientWidth,
    height: HEIGHT,
    tzDate: (at) => uPlot.tzDate(new Date(1000 * at), "Etc/UTC"),
    padding: [12, 10, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false }, points: { size: 6 }, y: false },
    scales: {
      y: {
        // what was measured sets the height: a band may be far wider
        range: (u) => {
          const seen = series.value.filter((v) => v != null);
          let low = Infinity, high = -Infinity;
          for (const v of seen) { low = Math.min(low, v); high = Math.max(high, v); }
          const room = 0.08 * (high - low || Math.abs(high) || 1);
          return [low - room, high + room];
        },
      },
    },
    axes: [{ ...axis, values: ticks, space: 60 }, { ...axis, size: 62, values: (_, splits) => splits.map(number) }],
    series: [
      {},
      { stroke: css("--series"), width: 1.3, points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
    ],
    bands: [{ series: [2, 3], fill: css("--band") }],
    hooks: {
      drawClear: [(u) => within(u, (ctx, box) => {
        ctx.fillStyle = css("--span");
        ctx.strokeStyle = ink.right;
        for (const span of series.spans) {
          const [a, b] = [x(u, span.from), x(u, span.to)];
          ctx.fillRect(a, box.top, Math.max(2, b - a), box.height);
          ctx.strokeRect(a, box.top - 4, Math.max(2, b - a), box.height + 8);
        }
      })],
      draw: [(u) => within(u, (ctx, box) => {
        for (const alarm of series.alarms) {
          const [a, b] = [x(u, alarm.at), x(u, alarm.to ?? u.scales.x.max)];
          ctx.fillStyle = ink[alarm.worth] ?? ink.alarm;
          ctx.globalAlpha = 0.16;
          ctx.fillRect(a, box.top, Math.max(1, b - a), box.height);
          ctx.globalAlpha = 1;
          // the head of a mark says what an alarm was without its colour, too
          const size = 5 * devicePixelRatio;
          ctx.fillRect(a - devicePixelRatio / 2, box.top, devicePixelRatio, box.height);
          ctx.beginPath();
          if (alarm.worth === "right") ctx.arc(a, box.top + size, size, 0, 7);
          else if (alarm.worth === "beside") ctx.rect(a - size, box.top, 2 * size, 2 * size);
          else { ctx.moveTo(a - size, box.top); ctx.lineTo(a + size, box.top); ctx.lineTo(a, box.top + 2 * size); }
          ctx.fill();
        }
      })],
      setCursor: [(u) => {
        const at = u.cursor.idx;
        told.textContent = at == null || series.value[at] == null ? "" :
          `${when(series.at[at])}: ${number(series.value[at])}` + (series.lower[at] == null ? "" : `, expected ${number(series.lower[at])} to ${number(series.upper[at])}`);
      }],
    },
  };
  return new uPlot(options, [series.at, series.value, series.upper, series.lower], node);
}

const charts = new Map();
function draw(node) {
  charts.get(node)?.destroy();
  node.textContent = "";
  charts.set(node, plot(node, data[Number(node.dataset.series)], node.parentNode.querySelector("output")));
}
const nodes = [...document.querySelectorAll(".canvas")];
nodes.forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => nodes.forEach(draw));
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  for (const [node, chart] of charts) chart.setSize({ width: node.clientWidth, height: HEIGHT });
});
for (const node of nodes) {
  node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const u = charts.get(node);
    if (by === undefined || !u) return;
    event.preventDefault();
    const last = u.data[0].length - 1;
    const at = Math.min(last, Math.max(0, (u.cursor.idx ?? (by > 0 ? -1 : last + 1)) + by));
    u.setCursor({ left: u.valToPos(u.data[0][at], "x"), top: HEIGHT / 2 });
  });
}
