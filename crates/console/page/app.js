// The frame: who is looking, at which page, and how fresh it is.

import { h, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import htm from "htm";
import { get, listen, sign, token } from "./api.js";
import { IncidentPage } from "./incident.js";
import { Broken, IncidentList, LedgerPage, Overview, PipelinePage, Waiting, useAsked } from "./pages.js";
import { clock, day, ms } from "./words.js";

const html = htm.bind(h);
const route = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);

function SignIn({ why }) {
  const enter = (event) => {
    event.preventDefault();
    sign(new FormData(event.target).get("token").trim());
    location.reload();
  };
  return html`<main class="signin"><form class="card" onSubmit=${enter}>
    <h1>Suture</h1>
    <p>${why ?? "Nothing is shown without a token. Whoever runs this server has given you one, or it printed an address that holds one."}</p>
    <label>Token<input name="token" type="password" autocomplete="off" required autofocus /></label>
    <button type="submit" class="main">Sign in</button>
  </form></main>`;
}

const PAGES = [["", "Overview"], ["incidents", "Incidents"], ["ledger", "Ledger"], ["pipeline", "Pipeline"]];

function Incident({ id, version, me, now }) {
  const view = useAsked(`incidents/${encodeURIComponent(id)}`, version);
  // while it is open its plots go on, a minute at a time
  const minute = view.data?.brief.status === "open" && now ? Math.floor(now / 60000) : 0;
  const plots = useAsked(`incidents/${encodeURIComponent(id)}/plots`, `${version} ${minute}`);
  if (view.error && !view.data) return html`<${Broken} error=${view.error} />`;
  if (!view.data || view.data.brief.id !== id) return html`<${Waiting} />`;
  return html`<${IncidentPage} view=${view.data} plots=${plots.data} me=${me} now=${now} />`;
}

function App() {
  const [place, go] = useState(route());
  const [me, setMe] = useState(null);
  const [failed, setFailed] = useState(null);
  const [news, setNews] = useState({ version: 0 });
  const [link, setLink] = useState("asking");
  const [tick, setTick] = useState(Date.now());
  useEffect(() => {
    const moved = () => {
      go(route());
      window.scrollTo(0, 0);
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    if (!token()) return undefined;
    get("me").then(setMe, setFailed);
    return listen((told) => setNews({ ...told, heard: Date.now() }), setLink);
  }, []);
  // what is not an incident's own page changes with everything; an incident's with what is said about it
  const [page, id] = place;
  const [touched, setTouched] = useState(0);
  useEffect(() => {
    if (news.incidents?.includes(id)) setTouched(news.version);
  }, [news.version]);
  const overview = useAsked(me && page === "" ? "overview" : null, news.version);
  const live = (overview.data?.setting ?? me?.setting)?.mode === "live";
  useEffect(() => {
    const timer = setInterval(() => setTick(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    const title = PAGES.find(([name]) => name === page)?.[1];
    if (title) document.title = `${title} – Suture`;
  }, [page]);
  if (!token()) return html`<${SignIn} />`;
  if (failed?.status === 401 || link === "signed out") {
    sign(null);
    return html`<${SignIn} why="That token is not known here, or not any more." />`;
  }
  if (failed) return html`<main><${Broken} error=${failed} /></main>`;
  if (!me) return html`<main><${Waiting} /></main>`;
  const told = ms(news.now);
  // by the wall clock time goes on between news; a simulation's goes its own way
  const now = told != null && live && news.heard ? told + (tick - news.heard) : told;
  const mode = me.setting.mode;
  const pill = link === "lost" ? ["stale", "no connection"] : mode === "replay" ? ["", "replay"] : link === "live" ? ["live", mode] : ["", "connecting"];
  const body = page === "" ? (overview.data ? html`<${Overview} data=${overview.data} me=${me} now=${now} />` : overview.error ? html`<${Broken} error=${overview.error} />` : html`<${Waiting} />`)
    : page === "incident" ? html`<${Incident} key=${id} id=${id} version=${touched} me=${me} now=${now} />`
    : page === "incidents" ? html`<${IncidentList} version=${news.version} now=${now} />`
    : page === "ledger" ? html`<${LedgerPage} version=${news.version} />`
    : page === "pipeline" ? html`<${PipelinePage} version=${news.version} />`
    : html`<${Broken} error=${{ status: 404, message: "There is no such page." }} />`;
  return html`
    <a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); document.getElementById("main").focus(); }}>to the content</a>
    <header class="top">
      <a class="brand" href="#/"><img src="./icon.svg" alt="" width="24" height="24" /> Suture</a>
      <nav aria-label="Pages">${PAGES.map(([name, title]) => html`<a key=${name} href="#/${name}" aria-current=${(name === page || (name === "incidents" && page === "incident")) ? "page" : null}>${title}</a>`)}</nav>
      <span class="state">
        <span class="pill ${pill[0]}" role="status">${pill[1]}</span>
        ${now != null && html`<time datetime=${new Date(now).toISOString()}>${day(now)} ${clock(now, mode !== "replay")} UTC</time>`}
        <span class="who" title="what this token may do">${me.who} · ${me.role}</span>
      </span>
    </header>
    <main id="main" tabindex="-1">
      ${link === "lost" && html`<p class="banner stale" role="alert">The connection is lost: this is how things were${news.heard ? ` ${Math.round((tick - news.heard) / 1000)} s ago` : ""}. It is being tried again.</p>`}
      ${me.read_only && html`<p class="banner">Read-only: ${me.read_only}.</p>`}
      ${body}
    </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
