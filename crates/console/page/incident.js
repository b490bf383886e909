// One incident: what is wrong, why, what is done about it, and what somebody may say to it.

import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";
import { post } from "./api.js";
import { Plots } from "./plots.js";
import { ACTION, SEVERITY, TONE, cause, clock, count, day, left, ms, number, percent, span, when, words } from "./words.js";

const html = htm.bind(h);
const RANK = ["viewer", "operator", "approver", "admin"];
export const may = (me, role) => !me.read_only && RANK.indexOf(me.role) >= RANK.indexOf(role);

// Asks why before anything is said, since the ledger does.
export function Say({ me, role, path, body, what, danger, main, children }) {
  const dialog = useRef();
  const [state, set] = useState({});
  const allowed = may(me, role);
  const why = me.read_only || (allowed ? "" : `This needs the role ${role}; yours is ${me.role}.`);
  const send = async (event) => {
    event.preventDefault();
    const reason = new FormData(event.target).get("reason");
    set({ busy: true });
    try {
      await post(path, { ...body, reason });
      set({ done: true });
      dialog.current.close();
    } catch (error) {
      set({ error: error.message });
    }
  };
  return html`
    <button type="button" class=${danger ? "danger" : main ? "main" : ""} disabled=${!allowed} title=${why || what} onClick=${() => { set({}); dialog.current.showModal(); }}>${children}</button>
    ${state.done && html`<span class="muted" role="status">said; see the timeline</span>`}
    <dialog ref=${dialog} aria-label=${what}>
      <form method="dialog" onSubmit=${send}>
        <h2>${what}</h2>
        <p class="muted">It is said in your name, ${me.who}, and stays in the ledger.</p>
        <label>Why<textarea name="reason" required rows="3" maxlength="500"></textarea></label>
        ${state.error && html`<p class="error" role="alert">${state.error}</p>`}
        <div class="buttons">
          <button type="button" class="quiet" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class=${danger ? "danger" : "main"} disabled=${state.busy}>${children}</button>
        </div>
      </form>
    </dialog>`;
}

function Evidence({ evidence, known, light }) {
  const strongest = Math.max(3, ...evidence.map((e) => Math.abs(e.weight)));
  return html`<ul class="evidence">${evidence.map((e) => {
    const side = e.weight > 0.05 ? "for" : e.weight < -0.05 ? "against" : "neither";
    const there = e.signals.filter((id) => known.has(id));
    return html`<li class=${side}>
      <span class="weight" title="natural logarithm of the odds that it adds">
        <span class="bar"><i style=${{ width: `${Math.min(50, (50 * Math.abs(e.weight)) / strongest)}%` }}></i></span>
        <span class="num">${e.weight > 0 ? "+" : e.weight < 0 ? "−" : ""}${Math.abs(e.weight).toFixed(1)}</span>
      </span>
      <span><b>${words(e.kind)}</b> ${e.detail}
        ${there.length > 0 && html` <button type="button" class="link" onClick=${() => light(there)}>show ${count(there.length, "signal")}</button>`}</span>
    </li>`;
  })}</ul>`;
}

function Causes({ incident, known, light }) {
  const { hypotheses, none_of_these: none } = incident;
  if (!hypotheses.length) return html`<p class="muted">No cause was found that would explain it.</p>`;
  return html`
    ${hypotheses.map((hypothesis) => {
      const quiet = hypothesis.evidence.filter((e) => e.kind === "quiet");
      const rest = hypothesis.evidence.filter((e) => e.kind !== "quiet").sort((a, b) => b.weight - a.weight);
      return html`<details class="cause" key=${hypothesis.rank + hypothesis.class + hypothesis.change} open=${hypothesis.rank === 1}>
        <summary>
          <span class="rank">${hypothesis.rank}</span>
          <span class="what">${cause(hypothesis)}</span>
          <span class="share"><span class="meter"><i style=${{ width: `${100 * hypothesis.probability}%` }}></i></span>${percent(hypothesis.probability)}</span>
        </summary>
        <${Evidence} evidence=${rest} known=${known} light=${light} />
        ${quiet.length > 0 && html`<details class="quiet"><summary>checks that found nothing</summary><${Evidence} evidence=${quiet} known=${known} light=${light} /></details>`}
      </details>`;
    })}
    <p class="none"><span>none of these</span><span class="share"><span class="meter"><i style=${{ width: `${100 * none}%` }}></i></span>${percent(none)}</span></p>`;
}

// Something that runs out, by the pipeline's clock.
function Countdown({ label, from, until, now }) {
  const [a, b, at] = [ms(from), ms(until), now];
  if (at == null || at >= b) return null;
  const gone = Math.min(1, Math.max(0, (at - a) / Math.max(1, b - a)));
  return html`<div class="countdown">
    <span>${label}</span>
    <progress max="1" value=${gone} aria-label=${label}></progress>
    <span class="num">${left(b - at)}</span>
  </div>`;
}

export function Actions({ view, me, now }) {
  const { actions, records } = view;
  if (!actions.length) {
    const last = records.filter((r) => ["no_playbook", "action_held", "playbook_chosen"].includes(r.kind)).at(-1);
    const why = !last ? "Nothing was decided about it yet."
      : last.kind === "no_playbook" ? "No playbook fits its cause, so nothing is asked for."
      : last.kind === "action_held" ? `“${last.body.playbook}” must wait: ${last.body.why}.`
      : `“${last.body.playbook}” was chosen, and nothing was asked for yet.`;
    const reasons = last?.body.candidates ?? [];
    return html`<p>${why}</p>
      ${reasons.length > 0 && html`<details><summary>playbooks that were looked at</summary><dl class="facts">
        ${reasons.map((c) => html`<div key=${c.playbook}><dt>${c.playbook}</dt><dd>${c.reason}</dd></div>`)}</dl></details>`}`;
  }
  return actions.map(({ request, state, since, outcomes, offers }) => {
    const chosen = records.filter((r) => r.kind === "playbook_chosen" && r.body.playbook === request.playbook && ms(r.at) <= ms(request.at)).at(-1);
    const [word, means] = ACTION[state];
    const parameters = Object.entries(request.parameters ?? {});
    return html`<article class="action" key=${request.id}>
      <h3>${words(request.action)} <span class="of">${request.target}</span> <span class="chip ${TONE[state] ?? ""}">${word}</span></h3>
      <p class="muted">${means} ${request.reverses ? "It undoes what was done before." : ""}</p>
      ${state === "waiting" && html`<${Countdown} label="approval runs out" from=${request.at} until=${request.expires_at} now=${now} />`}
      ${["requested", "started"].includes(state) && html`<${Countdown} label="to be started" from=${request.at} until=${request.expires_at} now=${now} />`}
      ${["started", "verifying"].includes(state) && html`<${Countdown} label="signals must be back" from=${request.at} until=${request.verify_by} now=${now} />`}
      ${offers.length > 0 && !me.read_only && html`<div class="buttons">
        ${offers.includes("approve") && html`<${Say} me=${me} role="approver" path="actions/${request.id}/approve" what="Approve: ${words(request.action)} ${request.target}" main>Approve</${Say}>`}
        ${offers.includes("deny") && html`<${Say} me=${me} role="approver" path="actions/${request.id}/deny" what="Deny: ${words(request.action)} ${request.target}" danger>Deny</${Say}>`}
        ${offers.includes("undo") && html`<${Say} me=${me} role="approver" path="actions/${request.id}/undo" what="Undo: ${words(request.action)} ${request.target}" danger>Undo</${Say}>`}
      </div>`}
      <dl class="facts">
        <div><dt>policy</dt><dd>${words(request.rung)}${chosen?.body.limited_by?.length ? html`, since ${chosen.body.limited_by.map((l) => l.why).join("; ")}` : ""}</dd></div>
        <div><dt>playbook</dt><dd>${request.playbook}</dd></div>
        <div><dt>owner</dt><dd>${request.owner}</dd></div>
        <div><dt>why</dt><dd>${request.reason}</dd></div>
        ${parameters.length > 0 && html`<div><dt>with</dt><dd>${parameters.map(([k, v]) => html`<code>${k}=${v}</code> `)}</dd></div>`}
        <div><dt>undone by</dt><dd>${request.reversal ? words(request.reversal.action) : request.reverses ? "–" : "nothing: it cannot be taken back"}</dd></div>
        <div><dt>permit</dt><dd>${request.permit ? `for ${request.permit.executor}, once, until ${clock(request.expires_at, true)}` : "none: nobody may act on it yet"}</dd></div>
        ${request.approved_by && html`<div><dt>approved by</dt><dd>${request.approved_by}</dd></div>`}
        <div><dt>verified</dt><dd>${state === "verified" ? `at ${clock(since)}` : `by ${clock(request.verify_by)} at the latest`}</dd></div>
      </dl>
      ${outcomes.length > 0 && html`<ul class="outcomes">${outcomes.map((o) => html`<li key=${o.at + o.status}><time datetime=${o.at}>${clock(o.at, true)}</time> ${o.executor}: ${words(o.status)}${o.detail ? `, ${o.detail}` : ""}</li>`)}</ul>`}
    </article>`;
  });
}

const KINDS = { change: "C", signal: "S", incident: "I", decision: "D", human: "H", action: "A" };

// Signals that did the same at the same minute are one line, once there are more than a few.
function heaped(moments) {
  const ending = ({ text }) => /(went .*|came .*|stayed.*|fell .*|sends .*)$/.exec(text)?.[0];
  const lines = [];
  for (const moment of moments) {
    const last = lines.at(-1);
    const same = moment.kind === "signal" && last?.[0].kind === "signal" && clock(last[0].at) === clock(moment.at) && ending(last[0]) === ending(moment);
    if (same) last.push(moment);
    else lines.push([moment]);
  }
  return lines.flatMap((line) => (line.length > 3 ? [line] : line.map((moment) => [moment])));
}

function Moment({ moment, light }) {
  return html`${moment.text}
    ${moment.anomaly && html` <button type="button" class="link" onClick=${() => light([moment.anomaly])}>show</button>`}
    ${moment.record != null && html` <span class="muted">#${moment.record}</span>`}`;
}

function Timeline({ moments, light }) {
  let today = null;
  return html`<ol class="timeline">${heaped(moments).map((line) => {
    const [moment] = line;
    const date = day(moment.at);
    const head = date !== today && html`<li class="day">${date}</li>`;
    today = date;
    return html`${head}<li class=${moment.kind}>
      <time datetime=${moment.at} title=${moment.at}>${clock(moment.at)}</time>
      <span class="dot" role="img" title=${moment.kind} aria-label=${moment.kind}>${KINDS[moment.kind]}</span>
      ${line.length === 1 ? html`<span><${Moment} moment=${moment} light=${light} /></span>`
        : html`<details><summary>${moment.text} <span class="muted">and ${line.length - 1} more did</span></summary>
          <ul>${line.map((one) => html`<li><${Moment} moment=${one} light=${light} /></li>`)}</ul></details>`}
    </li>`;
  })}</ol>`;
}

const SIGNAL = { active: "outside its band", recovered: "back", adapted: "accepted", silent: "silent" };

export function IncidentPage({ view, plots, me, now }) {
  const { brief, incident } = view;
  const [focus, setFocus] = useState(new Set());
  const known = new Set(view.anomalies.map((a) => a.id));
  const severity = SEVERITY[brief.severity];
  const open = brief.status === "open";
  const label = useRef();
  const light = (ids) => {
    setFocus(new Set(ids));
    const plot = plots?.series.find((p) => p.spans.some((s) => ids.includes(s.anomaly)));
    const figure = plot && document.getElementById(`signal-${plot.spans[0].anomaly}`);
    figure?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  const [what, setWhat] = useState("false_alarm");
  useEffect(() => { document.title = `${incident.title} – Suture`; }, [incident.title]);
  const lasted = (open ? now ?? ms(incident.updated_at) : ms(incident.resolved_at)) - ms(incident.opened_at);
  // beside long columns of plots there is room
  const aside = incident.signals.length > 5;
  const story = html`<section class="card" aria-labelledby="timeline"><h2 id="timeline">Timeline</h2>
        ${view.opened_by && html`<p class="muted">It opened when its signals rose ${view.opened_by.height.toFixed(1)} nats above chance; ${view.opened_by.bar.toFixed(1)} were enough${view.opened_by.change ? `, so soon after ${view.opened_by.change}` : ""}.</p>`}
        <${Timeline} moments=${view.timeline} light=${light} /></section>`;
  return html`
    <header class="headline">
      <p class="crumbs"><a href="#/incidents">Incidents</a> / <code>${incident.id}</code></p>
      <h1><span class="severity ${brief.severity}" title=${severity.word}>${severity.glyph}</span> ${incident.title}</h1>
      <p class="chips">
        <span class="chip ${open ? "bad" : "good"}">${open ? "open" : `resolved, ${words(incident.resolution ?? "")}`}</span>
        <span class="chip">${severity.word}</span>
        ${brief.acknowledged && html`<span class="chip">taken by ${brief.acknowledged.by}</span>`}
        ${brief.label && html`<span class="chip">labelled ${words(brief.label.text)} by ${brief.label.by}</span>`}
        ${brief.escalated && html`<span class="chip ask">a human is needed: ${brief.escalated.text}</span>`}
        <span class="muted">opened ${when(incident.opened_at)} UTC, ${open ? "for" : "lasted"} ${span(lasted)}, scope ${incident.scope}</span>
      </p>
      ${!me.read_only && html`<div class="buttons">
        <${Say} me=${me} role="operator" path="incidents/${incident.id}/acknowledge" what="Take this incident: nothing more is done for it by itself">Acknowledge</${Say}>
        <label class="inline">It was
          <select ref=${label} value=${what} onChange=${(e) => setWhat(e.target.value)} disabled=${!may(me, "operator")}>
            <option value="true">an incident</option><option value="false_alarm">a false alarm</option><option value="maintenance">maintenance</option>
          </select></label>
        <${Say} me=${me} role="operator" path="incidents/${incident.id}/label" body=${{ label: what }} what="Say what it was: ${words(what)}">Label</${Say}>
      </div>`}
    </header>
    ${incident.judged_without?.length > 0 && html`<p class="banner">Judged without ${count(incident.judged_without.length, "partition")} that sent nothing.</p>`}
    <div class="columns">
      <section class="card signals" aria-labelledby="signals">
        <h2 id="signals">Signals</h2>
        ${plots ? (plots.series.length ? html`<${Plots} plots=${plots} focus=${focus} />` : html`<p class="muted">None of its signals is kept here any more.</p>`) : html`<p class="skeleton" aria-busy="true">loading plots</p>`}
        <details><summary>${count(incident.signals.length, "signal")} as they stand</summary>
          <div class="scroll" tabindex="0" role="group" aria-label="Signals as they stand"><table><thead><tr><th>signal</th><th>service</th><th>since</th><th>now</th><th class="num">seen</th><th class="num">expected</th></tr></thead>
          <tbody>${incident.signals.map((s) => {
            const a = view.anomalies.find((a) => a.id === s.anomaly);
            return html`<tr key=${s.anomaly}><td>${s.metric}${s.opening ? "" : html` <span class="muted">joined</span>`}</td><td>${s.service ?? "–"}</td><td>${clock(s.onset)}</td><td>${SIGNAL[s.state]}</td><td class="num">${number(a?.value)}</td><td class="num">${number(a?.expected)}</td></tr>`;
          })}</tbody></table></div>
        </details>
      </section>
      <div class="side">
        <section class="card" aria-labelledby="causes"><h2 id="causes">Likely causes</h2><${Causes} incident=${incident} known=${known} light=${light} /></section>
        <section class="card" aria-labelledby="action"><h2 id="action">What is done about it</h2><${Actions} view=${view} me=${me} now=${now} /></section>
        ${aside && story}
      </div>
      ${!aside && story}
    </div>`;
}
