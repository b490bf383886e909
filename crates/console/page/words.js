// Times, numbers and names in words. Every time is UTC, as it stands in the ledger.

const pad = (n) => String(n).padStart(2, "0");

export const ms = (time) => (time == null ? null : typeof time === "number" ? time : Date.parse(time));

export function clock(time, seconds = false) {
  const at = new Date(ms(time));
  return `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}${seconds ? ":" + pad(at.getUTCSeconds()) : ""}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function day(time) {
  const at = new Date(ms(time));
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
}

export const when = (time) => `${day(time)} ${clock(time)}`;

export function span(millis) {
  const seconds = Math.max(0, Math.round(millis / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

// exact to the second, for what runs out
export function left(millis) {
  const seconds = Math.max(0, Math.ceil(millis / 1000));
  const hours = Math.floor(seconds / 3600);
  const rest = `${hours ? pad(Math.floor(seconds / 60) % 60) : Math.floor(seconds / 60)}:${pad(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

export function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e9) return `${(value / 1e9).toPrecision(3)} G`;
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  if (size >= 1e-3) return String(Number(value.toPrecision(3)));
  return value.toExponential(1);
}

export const percent = (share) => {
  const of100 = 100 * share;
  if (of100 > 0 && of100 < 1) return "<1%";
  if (of100 > 99 && of100 < 100) return ">99%";
  return `${Math.round(of100)}%`;
};

export const words = (name) => String(name ?? "").replaceAll("_", " ");

export const cause = (first) => {
  if (!first) return "no cause found yet";
  const place = first.service ? ` ${first.change ? "of" : "in"} ${first.service}` : "";
  return `${words(first.class)}${first.change ? " " + first.change : ""}${place}`;
};

export const count = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;

// a glyph beside every colour, so that colour is never all that tells
export const HEALTH = {
  suspected: { glyph: "◆", word: "suspected" },
  affected: { glyph: "▲", word: "affected" },
  odd: { glyph: "◐", word: "odd" },
  fine: { glyph: "●", word: "fine" },
  unknown: { glyph: "○", word: "unknown" },
};

export const SEVERITY = {
  critical: { glyph: "■", word: "critical" },
  warning: { glyph: "▲", word: "warning" },
  info: { glyph: "●", word: "info" },
};

export const ACTION = {
  advised: ["advised", "It is advice: nothing was done."],
  waiting: ["waits for approval", "A named human must let it go ahead."],
  requested: ["asked for", "Executors may take it up."],
  started: ["under way", "An executor is working on it."],
  verifying: ["being verified", "It was done; the signals that opened the incident must come back."],
  dry_run: ["dry run", "An executor said what it would have done."],
  verified: ["verified", "The signals came back."],
  not_verified: ["did not help", "The signals did not come back in time."],
  reversed: ["undone", "It was taken back."],
  reversal_failed: ["could not be undone", "A human must take it back."],
  failed: ["failed", "The executor tried and failed."],
  refused: ["refused by the executor", "It was not tried."],
  denied: ["denied", "A human would not have it."],
  expired: ["not approved in time", "Nobody let it go ahead."],
  withdrawn: ["withdrawn", "It was not wanted any more."],
  missing: ["no outcome", "No executor said what became of it."],
};

export const TONE = {
  waiting: "ask", requested: "busy", started: "busy", verifying: "busy", verified: "good",
  not_verified: "bad", reversal_failed: "bad", failed: "bad", refused: "bad", missing: "bad", expired: "bad",
};
