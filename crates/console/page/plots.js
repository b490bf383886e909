// The signals of an incident on one axis of time.

import { h } from "preact";
import { useEffect, useRef } from "preact/hooks";
import htm from "htm";
import { clock, day, ms, number, when } from "./words.js";

const html = htm.bind(h);
const HEIGHT = 118;

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    ink: of("--ink"), muted: of("--muted"), line: of("--line"), series: of("--series"), band: of("--band"),
    expected: of("--expected"), anomaly: of("--anomaly"), change: of("--change"), action: of("--action"), opened: of("--opened"),
    resolved: of("--fine"),
  };
};

// A letter and a number for each mark, as they stand in the plots and in the list of marks.
export function named(marks) {
  const seen = {};
  const letter = { change: "C", action: "A", opened: "I", resolved: "R" };
  return marks.map((mark) => {
    seen[mark.kind] = (seen[mark.kind] ?? 0) + 1;
    const alone = ["opened", "resolved"].includes(mark.kind);
    return { ...mark, name: letter[mark.kind] + (alone ? "" : seen[mark.kind]) };
  });
}

// The day stands below the hour only where there is more than one.
function ticks(u, splits) {
  let last = one(u.scales.x) ? day(1000 * splits[0]) : null;
  return splits.map((at) => {
    const today = day(1000 * at);
    const text = today === last ? clock(1000 * at) : `${clock(1000 * at)}\n${today}`;
    last = today;
    return text;
  });
}

const one = ({ min, max }) => day(1000 * min) === day(1000 * max);

// Spans behind the lines, and marks in front of them.
function painting(plot, marks, focus, ink) {
  const clip = (u, draw) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, bbox);
    ctx.restore();
  };
  const end = (u) => u.scales.x.max * 1000;
  return {
    drawClear: (u) => clip(u, (ctx, bbox) => {
      for (const { from, to, anomaly } of plot.spans) {
        const [a, b] = [ms(from), ms(to) ?? end(u)].map((at) => u.valToPos(at / 1000, "x", true));
        ctx.globalAlpha = focus.has(anomaly) ? 0.34 : 0.16;
        ctx.fillStyle = ink.anomaly;
        ctx.fillRect(a, bbox.top, Math.max(2, b - a), bbox.height);
      }
    }),
    draw: (u) => {
      clip(u, (ctx, bbox) => {
        ctx.lineWidth = 1.5 * devicePixelRatio;
        for (const { at, kind } of marks) {
          const x = u.valToPos(ms(at) / 1000, "x", true);
          ctx.strokeStyle = ink[kind];
          ctx.setLineDash(kind === "change" ? [5, 4] : kind === "action" ? [2, 3] : []);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
      });
      const { ctx, bbox } = u;
      ctx.save();
      ctx.font = `600 ${10 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textAlign = "center";
      ctx.textBaseline = "bottom";
      // names that would lie on one another become one
      const heaps = [];
      for (const { at, kind, name } of marks) {
        const x = u.valToPos(ms(at) / 1000, "x", true);
        if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
        const last = heaps.at(-1);
        if (last && x - last.to < 22 * devicePixelRatio) Object.assign(last, { to: x, names: [...last.names, name], kind: last.kind === kind ? kind : "" });
        else heaps.push({ from: x, to: x, names: [name], kind });
      }
      for (const { from, to, names, kind } of heaps) {
        ctx.fillStyle = ink[kind] ?? ink.ink;
        const text = names.length > 3 ? `${names[0]}–${names.at(-1)}` : names.join(" ");
        ctx.fillText(text, (from + to) / 2, bbox.top - 2 * devicePixelRatio);
      }
      ctx.restore();
    },
  };
}

function options(plot, marks, focus, range, width, read) {
  const ink = colours();
  const axis = { stroke: ink.muted, grid: { stroke: ink.line, width: 1 }, ticks: { stroke: ink.line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height: HEIGHT,
    padding: [16, 10, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "incident" }, drag: { x: false, y: false }, points: { size: 7 }, y: false },
    scales: {
      x: { time: true, range: () => range },
      y: {
        // the band may be far wider than anything seen: what was seen sets the height
        range: (u) => {
          const seen = u.data[1].filter((v) => v != null);
          let [low, high] = [Math.min(...seen), Math.max(...seen)];
          for (const at of [2, 3]) {
            const known = u.data[at].filter((v) => v != null);
            const room = 1.5 * (high - low || Math.abs(high) || 1);
            for (const v of known) if (v > low - room && v < high + room) [low, high] = [Math.min(low, v), Math.max(high, v)];
          }
          const room = 0.08 * (high - low || Math.abs(high) || 1);
          return [low - room, high + room];
        },
      },
    },
    axes: [
      { ...axis, size: one({ min: range[0], max: range[1] }) ? 22 : 34, values: ticks, space: 64 },
      { ...axis, size: 54, values: (_, splits) => splits.map(number), space: 26 },
    ],
    series: [
      {},
      { stroke: ink.series, width: 1.6, points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: ink.expected, width: 1, dash: [4, 3], points: { show: false } },
    ],
    bands: [{ series: [2, 3], fill: ink.band }],
    hooks: Object.fromEntries(
      Object.entries({ ...painting(plot, marks, focus, ink), setCursor: read }).map(([name, hook]) => [name, [hook]]),
    ),
  };
}

function Plot({ plot, marks, focus, range }) {
  const place = useRef();
  const told = useRef();
  const chart = useRef();
  const key = `${plot.at.length}|${plot.at.at(-1)}|${range}|${marks.length}|${[...focus]}|${JSON.stringify(plot.spans.map((s) => s.to))}`;
  useEffect(() => {
    const node = place.current;
    if (!plot.at.length || !node) return undefined;
    const read = (u) => {
      const at = u.cursor.idx;
      const text = at == null || u.data[1][at] == null
        ? ""
        : `${clock(1000 * u.data[0][at])}: ${number(u.data[1][at])}` +
          (u.data[4][at] == null ? "" : `, expected ${number(u.data[4][at])} (${number(u.data[3][at])} to ${number(u.data[2][at])})`);
      if (told.current) told.current.textContent = text;
    };
    const data = [plot.at.map((at) => at / 1000), plot.value, plot.upper, plot.lower, plot.expected];
    const make = () => {
      chart.current?.destroy();
      chart.current = new window.uPlot(options(plot, marks, focus, range, node.clientWidth, read), data, node);
    };
    make();
    const sized = new ResizeObserver(() => {
      if (chart.current && chart.current.width !== node.clientWidth) chart.current.setSize({ width: node.clientWidth, height: HEIGHT });
    });
    sized.observe(node);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    theme.addEventListener("change", make);
    return () => {
      sized.disconnect();
      theme.removeEventListener("change", make);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [key]);
  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const u = chart.current;
    if (by === undefined || !u) return;
    event.preventDefault();
    const last = u.data[0].length - 1;
    const at = Math.min(last, Math.max(0, (u.cursor.idx ?? (by > 0 ? -1 : last + 1)) + by));
    u.setCursor({ left: u.valToPos(u.data[0][at], "x"), top: HEIGHT / 2 }, true, true);
  };
  const labels = Object.entries(plot.labels).filter(([, value]) => value !== plot.service);
  const lit = plot.spans.some((s) => focus.has(s.anomaly));
  return html`
    <figure class="plot ${lit ? "lit" : ""}" id="signal-${plot.spans[0].anomaly}">
      <figcaption>
        <b>${plot.metric}</b>${plot.service && html` <span class="of">of ${plot.service}</span>`}
        ${labels.map(([name, value]) => html` <code>${name}=${value}</code>`)}
        <output ref=${told} class="read"></output>
      </figcaption>
      ${plot.at.length
        ? html`<div class="canvas" ref=${place} tabindex="0" role="img" onKeyDown=${step}
            aria-label="${plot.metric} from ${when(1000 * range[0])} to ${when(1000 * range[1])}. ${plot.spans.map((s) => s.detail).join(" ")} Left and right arrows read its values."></div>`
        : html`<p class="muted">${plot.spans.map((s) => s.detail).join(" ")} No history of this series is kept here.</p>`}
    </figure>`;
}

export function Plots({ plots, focus }) {
  const marks = named(plots.marks);
  const range = [ms(plots.from) / 1000, ms(plots.to) / 1000];
  return html`
    <ul class="marks" aria-label="Marks on the axis">
      ${marks.map((mark) => html`<li key=${mark.name} class=${mark.kind}><b>${mark.name}</b> <time datetime=${mark.at}>${clock(mark.at)}</time> ${mark.text}</li>`)}
    </ul>
    <p class="key"><i class="series"></i> measured <i class="expected"></i> expected <i class="band"></i> its band <i class="span"></i> outside it</p>
    ${plots.series.map((plot) => html`<${Plot} key=${plot.spans[0].anomaly} plot=${plot} marks=${marks} focus=${focus} range=${range} />`)}
    ${plots.left_out > 0 && html`<p class="muted">and ${plots.left_out} series more, beyond what is drawn at once</p>`}`;
}
