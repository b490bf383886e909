// Talking to the server: a token, requests, and a stream of news.

const KEY = "suture-token";
const hash = new URLSearchParams(location.hash.slice(1));
if (hash.has("token")) {
  sessionStorage.setItem(KEY, hash.get("token"));
  // the token leaves the address as soon as it is known
  history.replaceState(null, "", location.pathname + "#/");
}

export const token = () => sessionStorage.getItem(KEY);
export const sign = (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY));

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(`./api/v1/${path}`, {
      ...options,
      headers: { authorization: `Bearer ${token()}`, ...options.headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server does not answer.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Failure(response.status, body.error || `The server answered ${response.status}.`);
}

export const get = async (path, signal) => (await ask(path, { signal })).json();

export const post = async (path, body) =>
  (await ask(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  })).json();

const FIRST = 1000;
const LAST = 30000;

// Calls `news` with everything that is new and `link` with how the connection is, until told to stop.
export function listen(news, link) {
  const stop = new AbortController();
  let wait = FIRST;
  const sleep = (millis) => new Promise((done) => setTimeout(done, millis));
  (async () => {
    while (!stop.signal.aborted) {
      try {
        const response = await ask("events", { signal: stop.signal });
        link("live");
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          wait = FIRST;
          text += value;
          const parts = text.split("\n\n");
          text = parts.pop();
          for (const part of parts) {
            const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("");
            if (data) news(JSON.parse(data));
          }
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error.status === 401) return link("signed out");
      }
      link("lost");
      await sleep(wait);
      wait = Math.min(2 * wait, LAST);
    }
  })();
  return () => stop.abort();
}
