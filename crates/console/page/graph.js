// The call graph, laid out once for each shape that it takes.

import { h } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import htm from "htm";
import { Graph as Layout, layout } from "dagre";
import { HEALTH } from "./words.js";

const html = htm.bind(h);
const HEIGHT = 30;
// beyond so many services only those in trouble are drawn, with their neighbours, unless somebody asks for all
const FEW = 24;
// and no more than so many ever
const MOST = 200;
// no smaller than can be read: what is larger scrolls
const SMALLEST = 0.7;

const wide = (name) => Math.max(64, Math.round(7.9 * name.length) + 36);

function arrange(names, calls, down) {
  const graph = new Layout();
  graph.setGraph({ rankdir: down ? "TB" : "LR", nodesep: down ? 14 : 10, ranksep: down ? 34 : 46, marginx: 6, marginy: 6 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const name of names) graph.setNode(name, { width: wide(name), height: HEIGHT });
  for (const { from, to } of calls) if (from !== to) graph.setEdge(from, to);
  layout(graph);
  const { width, height } = graph.graph();
  return {
    width,
    height,
    nodes: names.map((name) => ({ name, ...graph.node(name) })),
    edges: graph.edges().map((edge) => ({ from: edge.v, to: edge.w, points: graph.edge(edge).points })),
  };
}

function line(points) {
  const [first, ...rest] = points;
  let path = `M${first.x},${first.y}`;
  for (let at = 0; at < rest.length - 1; at += 1) {
    const [a, b] = [rest[at], rest[at + 1]];
    const end = at === rest.length - 2 ? b : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    path += `Q${a.x},${a.y} ${end.x},${end.y}`;
  }
  if (rest.length === 1) path += `L${rest[0].x},${rest[0].y}`;
  return path;
}

const TROUBLE = ["suspected", "affected", "odd"];

// Services in trouble and those beside them, then the others as far as there is room.
function some(services, calls, all) {
  const ill = new Set(services.filter((s) => TROUBLE.includes(s.health)).map((s) => s.name));
  const kept = new Set([...ill].slice(0, MOST));
  for (const { from, to } of calls) {
    if (ill.has(from) && kept.size < MOST) kept.add(to);
    if (ill.has(to) && kept.size < MOST) kept.add(from);
  }
  if (all || !ill.size) for (const { name } of services) if (kept.size < MOST) kept.add(name);
  return kept;
}

export function CallGraph({ services, calls, down }) {
  const [all, setAll] = useState(services.length <= FEW);
  const frame = useRef();
  const kept = some(services, calls, all);
  const shown = services.filter((s) => kept.has(s.name));
  const names = shown.map((s) => s.name);
  const drawn = calls.filter((c) => kept.has(c.from) && kept.has(c.to));
  const shape = names.join() + "|" + drawn.map((c) => c.from + ">" + c.to).join() + down;
  const plan = useMemo(() => arrange(names, drawn, down), [shape]);
  const by = new Map(services.map((s) => [s.name, s]));
  const ill = (name) => ["affected", "suspected"].includes(by.get(name)?.health);
  const worst = services.find((s) => s.health === "suspected")?.name;
  useEffect(() => {
    const node = plan.nodes.find((n) => n.name === worst);
    const { clientWidth: wide, clientHeight: high, scrollWidth, scrollHeight } = frame.current;
    if (node) frame.current.scrollTo((node.x / plan.width) * scrollWidth - wide / 2, (node.y / plan.height) * scrollHeight - high / 2);
  }, [shape, worst]);
  return html`
    <div class="graph" ref=${frame} tabindex="0" role="group" aria-label="Who calls whom: ${names.length} services">
      <svg viewBox="0 0 ${plan.width} ${plan.height}" width=${plan.width} height=${plan.height} style=${{ minWidth: `${Math.round(SMALLEST * plan.width)}px` }}>
        <defs>
          <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path d="M0,0.8L7.5,4L0,7.2z" class="tip" />
          </marker>
        </defs>
        ${plan.edges.map(({ from, to, points }) => html`
          <path key=${from + ">" + to} d=${line(points)} class="call ${ill(from) && ill(to) ? "ill" : ""}" marker-end="url(#tip)" />`)}
        ${plan.nodes.map(({ name, x, y, width }) => {
          const service = by.get(name);
          const { glyph, word } = HEALTH[service.health];
          const [incident] = service.incidents;
          const body = html`
            <rect x=${x - width / 2} y=${y - HEIGHT / 2} width=${width} height=${HEIGHT} rx="7" />
            <text x=${x - width / 2 + 11} y=${y + 4.5} class="glyph">${glyph}</text>
            <text x=${x - width / 2 + 27} y=${y + 4.5}>${name}</text>
            <title>${name}: ${word}. ${service.why}</title>`;
          return incident
            ? html`<a key=${name} href="#/incident/${incident}" class="service ${service.health}" aria-label="${name}, ${word}">${body}</a>`
            : html`<g key=${name} class="service ${service.health}" role="img" aria-label="${name}, ${word}">${body}</g>`;
        })}
      </svg>
    </div>
    ${services.length > FEW && html`<p class="muted">${names.length} of ${services.length} services${names.length < services.length && !all ? ": those in trouble, and their neighbours" : ""}.
      ${" "}<button type="button" class="link" onClick=${() => setAll(!all)}>${all ? "only those in trouble" : "all of them"}</button></p>`}`;
}
