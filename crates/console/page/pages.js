// The overview, the list of incidents, the ledger and the pipeline.

import { h } from "preact";
import { useEffect, useState } from "preact/hooks";
import htm from "htm";
import { get } from "./api.js";
import { CallGraph } from "./graph.js";
import { Say } from "./incident.js";
import { ACTION, HEALTH, SEVERITY, TONE, cause, clock, count, left, ms, number, percent, span, when, words } from "./words.js";

const html = htm.bind(h);

// Asks for something, and again whenever `again` changes; what was known stays while it is asked.
export function useAsked(path, again) {
  const [state, set] = useState({});
  useEffect(() => {
    if (!path) return undefined;
    const stop = new AbortController();
    get(path, stop.signal)
      .then((data) => set({ data, path }))
      .catch((error) => {
        if (error.name !== "AbortError") set((known) => ({ ...known, error, failed: path }));
      });
    return () => stop.abort();
  }, [path, again]);
  return {
    data: state.path === path || !state.failed ? state.data : undefined,
    error: state.failed === path ? state.error : undefined,
  };
}

export const Waiting = () => html`<div class="card skeleton" aria-busy="true">loading</div>`;

export const Broken = ({ error }) => html`<div class="card error" role="alert">
  <h1>${error.status === 404 ? "That is not here" : "That did not work"}</h1><p>${error.message}</p>
  <p><button type="button" onClick=${() => location.reload()}>Try again</button> <a href="#/">Overview</a></p></div>`;

function Row({ brief, now }) {
  const severity = SEVERITY[brief.severity];
  const open = brief.status === "open";
  const [place] = brief.services;
  return html`<li class="incident ${open ? "open" : ""}">
    <a href="#/incident/${brief.id}">
      <span class="severity ${brief.severity}" title=${severity.word}>${severity.glyph}</span>
      <span class="body">
        <b>${brief.title.split(": ")[0]}</b>
        <span class="cause">${cause(brief.first)}${brief.first ? html` <span class="num">${percent(brief.first.probability)}</span>` : ""}</span>
        <span class="muted">${when(brief.opened_at)} · ${open ? (now ? `open for ${span(now - ms(brief.opened_at))}` : "open") : `${words(brief.resolution ?? "resolved")} after ${span(ms(brief.resolved_at) - ms(brief.opened_at))}`}${place && brief.services.length > 1 ? ` · ${count(brief.services.length, "service")}` : ""}</span>
      </span>
      <span class="tags">
        ${brief.action && html`<span class="chip ${TONE[brief.action] ?? ""}">${ACTION[brief.action][0]}</span>`}
        ${brief.acknowledged && html`<span class="chip">${brief.acknowledged.by}</span>`}
        ${brief.label && html`<span class="chip">${words(brief.label.text)}</span>`}
      </span>
    </a></li>`;
}

function Doing({ actions, now }) {
  if (!actions.length) return html`<p class="muted">Nothing: no action was asked for.</p>`;
  return html`<ul class="doing">${actions.slice(0, 8).map(({ request, state, since }) => {
    const until = state === "waiting" || state === "requested" ? request.expires_at : state === "verifying" || state === "started" ? request.verify_by : null;
    return html`<li key=${request.id}><a href="#/incident/${request.incident}">
      <span><b>${words(request.action)}</b> ${request.target}</span>
      <span class="chip ${TONE[state] ?? ""}">${ACTION[state][0]}${until && now && now < ms(until) ? html` <span class="num">${left(ms(until) - now)}</span>` : ""}</span>
      <span class="muted">${request.playbook} · ${clock(since)}</span>
    </a></li>`;
  })}</ul>`;
}

function useNarrow() {
  const query = matchMedia("(max-width: 760px)");
  const [narrow, set] = useState(query.matches);
  useEffect(() => {
    const seen = (event) => set(event.matches);
    query.addEventListener("change", seen);
    return () => query.removeEventListener("change", seen);
  }, []);
  return narrow;
}

export function Overview({ data, me, now }) {
  const narrow = useNarrow();
  const open = data.incidents.filter((i) => i.status === "open");
  const over = data.incidents.filter((i) => i.status !== "open");
  const health = {};
  for (const { health: h } of data.services) health[h] = (health[h] ?? 0) + 1;
  const busy = data.actions.filter((a) => ["waiting", "requested", "started", "verifying"].includes(a.state)).length;
  const scopes = [...new Set([...data.incidents.map((i) => i.scope), ...(data.setting.scope ? [data.setting.scope] : [])])];
  return html`
    <h1 class="hidden">Overview</h1>
    ${data.note && html`<p class="banner" role="status">${data.note}</p>`}
    <div class="tiles" role="group" aria-label="At a glance">
      <div class="tile ${data.open ? "bad" : "good"}"><b>${data.open}</b><span>open ${data.open === 1 ? "incident" : "incidents"}</span></div>
      <div class="tile"><b>${data.services.length}</b><span>services${["suspected", "affected", "odd"].filter((k) => health[k]).map((k) => `, ${health[k]} ${HEALTH[k].word}`)}</span></div>
      <div class="tile"><b>${busy}</b><span>${busy === 1 ? "action" : "actions"} under way</span></div>
      <div class="tile"><b>${data.known}</b><span>incidents known here</span></div>
    </div>
    ${data.frozen.map((f) => html`<p class="banner" key=${f.scope}>❄ ${f.scope} is frozen by ${f.by}: ${f.reason}. Nothing is done there.
      <${Say} me=${me} role="approver" path="scopes/${encodeURIComponent(f.scope)}/thaw" what="Thaw ${f.scope}: actions may be done again">Thaw</${Say}></p>`)}
    <div class="columns overview">
      <section class="card" aria-labelledby="graph"><h2 id="graph">Services</h2>
        <p class="key">${Object.entries(HEALTH).map(([key, { glyph, word }]) => html`<span class="service ${key}"><span class="glyph">${glyph}</span> ${word}</span> `)}</p>
        ${data.services.length ? html`<${CallGraph} services=${data.services} calls=${data.calls} down=${narrow} />` : html`<p class="empty">No service was seen yet. They come with the first telemetry, and calls with a topology or with spans.</p>`}
      </section>
      <div class="side">
        <section class="card" aria-labelledby="open"><h2 id="open">Open incidents</h2>
          ${open.length ? html`<ul class="incidents">${open.map((brief) => html`<${Row} key=${brief.id} brief=${brief} now=${now} />`)}</ul>` : html`<p class="empty">None. Everything that is watched is as usual, or not far enough from it.</p>`}
        </section>
        <section class="card" aria-labelledby="doing"><h2 id="doing">What the machine is doing</h2><${Doing} actions=${data.actions} now=${now} />
          ${!me.read_only && html`<div class="buttons">${scopes.filter((s) => !data.frozen.some((f) => f.scope === s)).slice(0, 3).map((s) => html`<${Say} key=${s} me=${me} role="operator" path="scopes/${encodeURIComponent(s)}/freeze" what="Freeze ${s}: stop what is under way, and do nothing more" danger>❄ Freeze ${s}</${Say}>`)}</div>`}
        </section>
      </div>
      ${over.length > 0 && html`<section class="card" aria-labelledby="over"><h2 id="over">Resolved last</h2>
          <ul class="incidents">${over.slice(0, 6).map((brief) => html`<${Row} key=${brief.id} brief=${brief} now=${now} />`)}</ul>
          ${data.known > open.length + 6 && html`<p><a href="#/incidents">all ${data.known}</a></p>`}</section>`}
    </div>`;
}

// A field that asks a little after the last key.
function useTyped() {
  const [text, set] = useState("");
  const [settled, settle] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => settle(text), 200);
    return () => clearTimeout(timer);
  }, [text]);
  return [text, set, settled];
}

export function IncidentList({ version, now }) {
  const [q, setQ, asked] = useTyped();
  const [status, setStatus] = useState("");
  const path = `incidents?${new URLSearchParams({ ...(asked && { q: asked }), ...(status && { status }), limit: 200 })}`;
  const { data, error } = useAsked(path, version);
  return html`<h1>Incidents</h1>
    <form class="search" role="search" onSubmit=${(e) => e.preventDefault()}>
      <label>Find<input type="search" value=${q} onInput=${(e) => setQ(e.target.value)} placeholder="a service, a title, an id" /></label>
      <label>Which<select value=${status} onChange=${(e) => setStatus(e.target.value)}><option value="">all</option><option value="open">open</option><option value="resolved">resolved</option></select></label>
    </form>
    ${error && html`<${Broken} error=${error} />`}
    ${!data && !error && html`<${Waiting} />`}
    ${data && html`<section class="card" aria-label="Incidents"><p class="muted" role="status">${count(data.matching, "incident")}${data.incidents.length < data.matching ? `, the last ${data.incidents.length} of them` : ""}</p>
      ${data.incidents.length ? html`<ul class="incidents">${data.incidents.map((brief) => html`<${Row} key=${brief.id} brief=${brief} now=${now} />`)}</ul>` : html`<p class="empty">${q || status ? "None fits that." : "No incident has opened yet."}</p>`}</section>`}`;
}

function about(record) {
  const { body } = record;
  if (body.outcome) return `${body.outcome.executor}: ${words(body.outcome.status)}${body.outcome.detail ? `, ${body.outcome.detail}` : ""}`;
  if (body.to?.class) return cause(body.to);
  return body.title ?? body.why ?? body.reason ?? body.request?.reason ?? (body.playbook ? `${body.playbook}${body.rung ? `, ${body.rung}` : ""}` : body.hypothesis ? cause(body.hypothesis) : "");
}

export function LedgerPage({ version }) {
  const [q, setQ, asked] = useTyped();
  const [kind, setKind] = useState("");
  const path = `ledger?${new URLSearchParams({ ...(asked && { q: asked }), ...(kind && { kind }), limit: 100 })}`;
  const { data, error } = useAsked(path, version);
  return html`<h1>Ledger</h1>
    <form class="search" role="search" onSubmit=${(e) => e.preventDefault()}>
      <label>Find<input type="search" value=${q} onInput=${(e) => setQ(e.target.value)} placeholder="anything in a record" /></label>
      <label>Kind<select value=${kind} onChange=${(e) => setKind(e.target.value)}><option value="">all</option>${(data?.kinds ?? []).map((k) => html`<option key=${k} value=${k}>${words(k)}</option>`)}</select></label>
    </form>
    ${error && html`<${Broken} error=${error} />`}
    ${!data && !error && html`<${Waiting} />`}
    ${data && html`
      <section class="card" aria-label="Chains"><h2>Chains</h2>
        ${data.chains.length === 0 && html`<p class="empty">Nothing was decided yet.</p>`}
        <ul class="chains">${data.chains.map((c) => html`<li key=${c.scope}>
          <span class="chip ${c.broken ? "bad" : "good"}">${c.broken ? "✗ broken" : "✓ whole"}</span>
          <span><b>${c.scope}</b> ${c.broken ?? `records ${c.from} to ${c.head}, each with the hash of the one before`}${c.begun_anew ? `, begun anew ${count(c.begun_anew, "time")}` : ""}${c.from > 0 ? "; what came before was not seen here" : ""}<br /><code class="hash">${c.hash}</code></span></li>`)}</ul>
      </section>
      <section class="card" aria-label="Records"><p class="muted" role="status">${count(data.matching, "record")} of ${data.kept} kept${data.records.length < data.matching ? `, the last ${data.records.length}` : ""}</p>
        <ul class="records">${data.records.map((r) => html`<li key=${r.scope + r.seq + r.hash}><details>
          <summary><span class="num">#${r.seq}</span> <time datetime=${r.at} title=${r.at}>${when(r.at)}</time> <b>${words(r.kind)}</b> <span class="about">${about(r)}</span></summary>
          <div class="record">
            ${(r.body.incident ?? r.body.request?.incident) && html`<p><a href="#/incident/${r.body.incident ?? r.body.request.incident}">its incident</a></p>`}
            <pre tabindex="0">${JSON.stringify(r.body, null, 2)}</pre>
            <p class="hash"><code>${r.hash}</code> follows on <code>${r.previous}</code></p></div></details></li>`)}</ul>
        ${data.records.length === 0 && data.kept > 0 && html`<p class="empty">None fits that.</p>`}</section>`}`;
}

export function PipelinePage({ version }) {
  const [q, setQ, asked] = useTyped();
  const path = `pipeline?${new URLSearchParams({ ...(asked && { q: asked }), limit: 100 })}`;
  const { data, error } = useAsked(path, version);
  if (error && !data) return html`<${Broken} error=${error} />`;
  if (!data) return html`<${Waiting} />`;
  return html`<h1>Pipeline</h1>
    ${data.stages.length > 0 && html`<section class="card" aria-label="Stages"><ol class="stages">${data.stages.map((s) => html`<li key=${s.name}><b>${s.name}</b><span class="muted">${s.detail}</span>
      <dl>${Object.entries(s.counts).map(([name, value]) => html`<div key=${name}><dt>${words(name)}</dt><dd class="num">${number(value)}</dd></div>`)}</dl></li>`)}</ol></section>`}
    <section class="card" aria-labelledby="missed"><h2 id="missed">Near misses</h2>
      <p class="muted">Groups of anomalies that did not become an incident: how far each rose above chance, and how far it had to.</p>
      ${data.near_misses.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Near misses"><table><thead><tr><th>when</th><th>what</th><th>signals</th><th class="num">nats</th><th>came of it</th></tr></thead>
        <tbody>${data.near_misses.slice(0, 50).map((m, n) => html`<tr key=${n}><td>${when(m.at)}</td><td>${words(m.class)}${m.service ? ` in ${m.service}` : ""}</td><td>${m.signals.join(", ")}</td><td class="num">${m.height.toFixed(1)} of ${m.bar.toFixed(1)}</td><td>${words(m.outcome)}</td></tr>`)}</tbody></table></div>` : html`<p class="empty">None is known here.</p>`}</section>
    <section class="card" aria-labelledby="series"><h2 id="series">Series</h2>
      <form class="search" role="search" onSubmit=${(e) => e.preventDefault()}><label>Find<input type="search" value=${q} onInput=${(e) => setQ(e.target.value)} placeholder="a metric or a label" /></label></form>
      ${data.series.length ? html`<p class="muted" role="status">${count(data.matching, "series", "series")}</p><ul class="series">${data.series.map((s) => html`<li key=${s.metric + JSON.stringify(s.labels)}><details><summary><b>${s.metric}</b> ${Object.entries(s.labels).map(([k, v]) => html`<code>${k}=${v}</code> `)}</summary><p>${s.explained}</p></details></li>`)}</ul>` : html`<p class="empty">${q ? "None fits that." : "Why each series is watched as it is was not told: a replay tells it with --explain."}</p>`}</section>
    <section class="card" aria-labelledby="kept"><h2 id="kept">What is kept here</h2><dl class="kept">${Object.entries(data.kept).map(([name, n]) => html`<div key=${name}><dt>${words(name)}</dt><dd class="num">${n}</dd></div>`)}</dl>
      ${data.windows_left_out > 0 && html`<p class="muted">${data.windows_left_out} windows of series found no room.</p>`}</section>`;
}
