/**
 * The page of `client --watch`: a table of targets by trouble, and one target with
 * its picture. One document, whose script reads the stream of updates. Pure.
 *
 * @module
 */
import { durationText, percent } from "../show/format.ts";
import { numberText } from "../show/picture.ts";
import { byTrouble } from "../show/row.ts";

/** The document, and its Content-Security-Policy. */
export async function pageOf(hasHistory: boolean) {
  const script = new TextEncoder().encode(SCRIPT);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", script));
  const policy = "default-src 'none'; connect-src 'self'; " +
    "img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; " +
    `form-action 'none'; script-src 'sha256-${hash.toBase64()}'`;
  const html = DOCUMENT.replace("HIDDEN", hasHistory ? "" : "hidden");
  return { html, policy };
}

const STYLE = `
:root { scroll-padding-top: 64px; --bad: #b3001b; --odd: #854d00; --good: #176b2c; --link: #0a4fa3;
  --quiet: #595959; --line: #d0d0d0; --back: #fff; --text: #1c1c1c; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --odd: #ffc46b; --good: #7fd494;
  --link: #8ab8ff; --quiet: #adadad; --line: #444; --back: #16181c; --text: #ddd; } }
body { font: 15px/1.4 system-ui, sans-serif; max-width: 1360px; margin: 0 auto; padding: 0 16px;
  background: var(--back); color: var(--text); }
h1, h2 { font-size: 20px; margin: 12px 0 4px; } h2, dd, .name { overflow-wrap: anywhere; }
p, dl { margin: 4px 0; } dd { margin: 0; } a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { table-layout: fixed; width: 100%; border-collapse: collapse; }
caption { text-align: start; font-weight: 600; padding: 8px 0; }
th, td { padding: 4px 6px; text-align: end; border-bottom: 1px solid var(--line);
  font-weight: 400; font-variant-numeric: tabular-nums; }
thead th { position: sticky; top: 0; background: var(--back); vertical-align: bottom; }
thead th, dt { color: var(--quiet); } .name, .state, .outage { text-align: start; }
img { display: block; max-width: 100%; } .name { width: 22%; } .state { width: 15%; } .outage { width: 14%; } .picture { width: 160px; }
.bad, .odd, ul { color: var(--bad); font-weight: 600; }
.odd { color: var(--odd); } .good { color: var(--good); }
tr[aria-current] { background: color-mix(in srgb, var(--link) 14%, var(--back)); }
section { border-bottom: 1px solid var(--line); padding-bottom: 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px; }
section div { overflow-x: auto; } section img { min-width: 800px; } img { height: auto; }
@media (max-width: 1000px) { .hour, .p99 { display: none; } }
@media (max-width: 640px) { body { font-size: 14px; padding: 0 8px; } .picture { display: none; }
  .name { width: 24%; } .state { width: 22%; } .outage { width: 17%; } th, td { padding: 4px 3px; }
  thead th { font-size: 12px; } }`;

/** The script; texts of targets become text nodes and attributes only. */
const SCRIPT = `"use strict";
const [percent, numberText, durationText] = [${percent}, ${numberText}, ${durationText}];
const byTrouble = ${byTrouble};
const find = (selector) => document.querySelector(selector);
const [section, scroller, body] = ["section", "section div", "tbody"].map(find);
const [filter, span] = ["input", "select"].map(find);
// The entry of each target by its fragment: its facts, its row, and the elements in it.
const shown = new Map();
let [aheadMs, heardAt, heldUntil] = [0, performance.now(), 0];
let opened, drawn, events;

const now = () => Date.now() + aheadMs;
const clock = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ") + " UTC";
const orNone = (value, textOf) => value === null ? "n/a" : textOf(value);
const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");
const fragmentOf = (name) => "#" + encodeURIComponent(name);
const urlOf = ({ name, version }, kind) =>
  "plot.svg?target=" + encodeURIComponent(name) + "&" + kind + "&v=" + version;
const isMissed = ({ state, missed }) => state !== "down" && missed.length > 0;
const timeText = (ms) => durationText(ms).replace(" ", "\u00a0");
const stateText = (row) => row.state + " " + timeText(now() - row.since) +
  (isMissed(row) ? ", threshold missed" : "");
const outageText = (last) => last === null ? "none"
  : last.seconds === null ? "now, for " + timeText(now() - last.at)
  : timeText(1000 * last.seconds) + ", " + timeText(now() - last.at - 1000 * last.seconds) + " ago";

function put(element, text, property = "textContent") {
  if (element[property] !== text) element[property] = text;
}
// Gives a list its texts, in the elements that it has.
function fill(list, texts, tagOf) {
  while (list.children.length > texts.length) list.lastElementChild.remove();
  for (const [i, text] of texts.entries()) {
    put(list.children[i] ?? list.appendChild(document.createElement(tagOf(i))), text);
  }
}
function entryOf(row) {
  const tr = find("template").content.firstElementChild.cloneNode(true);
  const [link, img] = ["a", "img"].map((tag) => tr.querySelector(tag));
  link.href = fragmentOf(row.name);
  link.firstElementChild.textContent = row.name;
  return { row, tr, link, img, cells: tr.querySelectorAll("td") };
}
function paint(entry) {
  const { row, tr, cells, img } = entry;
  entry.texts = [stateText(row), orNone(row.lossNow, percent), orNone(row.lossHour, percent),
    orNone(row.medianMs, numberText), orNone(row.p99Ms, numberText), outageText(row.lastOutage)];
  for (const [i, text] of entry.texts.entries()) put(cells[i], text);
  const tone = isMissed(row) ? "odd" : { down: "bad", up: "good", waiting: "" }[row.state];
  put(cells[0], "state " + tone, "className");
  put(tr, entry === opened ? "true" : null, "ariaCurrent");
  if (entry.version !== row.version) img.src = urlOf(row, "small");
  entry.version = row.version;
}
// Moves few rows, and none while the pointer moves over them.
function order() {
  if (performance.now() < heldUntil) return;
  const focused = document.activeElement;
  let at = body.firstElementChild;
  for (const { tr } of [...shown.values()].sort((a, b) => byTrouble(a.row, b.row))) {
    if (tr === at || tr === at?.nextElementSibling) at = tr.nextElementSibling;
    else body.insertBefore(tr, at);
  }
  if (document.activeElement !== focused) focused.focus({ preventScroll: true });
}
function sift() {
  const words = filter.value.toLowerCase().split(/\\s+/);
  for (const { row: { name, address, labels }, tr } of shown.values()) {
    const texts = [name, address, ...Object.entries(labels).map((label) => label.join("="))];
    tr.hidden = !words.every((word) => texts.join(" ").toLowerCase().includes(word));
  }
  const count = body.querySelectorAll("tr:not([hidden])").length;
  put(find(".shown"), filter.value === "" ? "" : plural(count, "target") + " shown");
}
function showOpened() {
  section.hidden = opened === undefined;
  if (opened === undefined) return;
  const { row, texts: [state, now, hour, median, p99, outage] } = opened;
  const { at, datagrams } = row.lastOutage ?? {};
  put(find("h2"), row.name);
  fill(find("ul"), row.missed, () => "li");
  fill(find("dl"), ["address", row.address, ...Object.entries(row.labels).flat(),
    "state", state + ", since " + clock(row.since) + (row.why ? ": " + row.why : ""),
    "loss", now + " now, " + hour + " in the hour",
    "RTT", "median " + median + ", p99 " + p99 + " ms in the hour", "last outage",
    outage + (at ? ", from " + clock(at) + ": " + plural(datagrams, "datagram") : ""),
  ], (i) => i % 2 === 0 ? "dt" : "dd");
  const url = urlOf(row, "span=" + span.value);
  if (url !== drawn) scroller.firstElementChild.src = drawn = url;
}
// Opens the target of the address's fragment, or closes it.
function follow() {
  const before = opened;
  opened = shown.get(location.hash);
  if (opened !== before) [before, opened].filter(Boolean).forEach(paint);
  showOpened();
  if (opened === before) return;
  (opened === undefined ? before.link : find("h2")).focus();
  scroller.scrollLeft = 320;
}
function update({ now, isAll, targets, gone }) {
  [aheadMs, heardAt] = [now - Date.now(), performance.now()];
  const kept = new Set(targets.map(({ name }) => fragmentOf(name)));
  for (const key of isAll ? new Set(shown.keys()).difference(kept) : gone.map(fragmentOf)) {
    shown.get(key)?.tr.remove();
    shown.delete(key);
  }
  for (const row of targets) {
    const entry = shown.get(fragmentOf(row.name));
    if (entry === undefined) shown.set(fragmentOf(row.name), entryOf(row));
    else entry.row = row;
  }
  shown.forEach(paint);
  order();
  sift();
  follow();
  const rows = [...shown.values()].map(({ row }) => row);
  const down = rows.filter(({ state }) => state === "down").length.toLocaleString("en");
  put(find(".summary"), down + " of " + plural(rows.length, "target") + " down, " +
    rows.filter(isMissed).length.toLocaleString("en") + " with a threshold missed");
  document.title = (down === "0" ? "" : "(" + down + " down) ") + "roundtrip";
  put(find(".connection"), "");
}
function connect() {
  events?.close();
  events = new EventSource("events");
  events.onmessage = ({ data }) => update(JSON.parse(data));
}
connect();
// A connection can end without an error, and an error can end the attempts.
setInterval(() => {
  const silentMs = performance.now() - heardAt;
  if (events.readyState === 1 && silentMs < 30_000) return;
  const heard = clock(now() - silentMs);
  put(find(".connection"), "not connected since " + heard + ", the figures are old");
  if (events.readyState !== 0 || silentMs > 30_000) connect();
}, 5000);
addEventListener("hashchange", follow);
addEventListener("keydown", ({ key, target }) => {
  if (key === "Escape" && opened && !(target === filter && filter.value)) location.hash = "";
});
body.addEventListener("pointermove", () => heldUntil = performance.now() + 3000);
filter.addEventListener("input", sift);
span.addEventListener("change", showOpened);`;

const DOCUMENT = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>roundtrip</title>
<style>${STYLE}</style>
<h1>roundtrip</h1>
<p class="summary" role="status"></p>
<p class="connection" role="status">connecting …</p>
<main>
<section aria-labelledby="~name" hidden>
<h2 id="~name" tabindex="-1"></h2> <a href="#">Close</a>
<ul></ul><dl></dl>
<label HIDDEN>The last <select><option>hour<option>day<option>month</select></label>
<div tabindex="0" role="region" aria-label="picture">
<img width="960" height="444" alt="RTT over time, outages, and the distribution"></div>
</section>
<p><label>Filter by name, address or label <input type="search" autocomplete="off"></label>
<span class="shown" role="status"></span></p>
<table><caption>Targets, by trouble</caption>
<thead><tr><th scope="col" class="name">target<th scope="col" class="state">state
<th scope="col">loss now<th scope="col" class="hour">loss in the hour
<th scope="col">median RTT, ms<th scope="col" class="p99">p99 of RTT, ms
<th scope="col" class="outage">last outage<th scope="col" class="picture">last hour</thead>
<tbody></tbody></table>
<template><tr><th scope="row" class="name"><a><bdi></bdi></a><td><td><td class="hour"><td>
<td class="p99"><td class="outage"><td class="picture">
<img loading="lazy" alt="" width="160" height="32"></template>
<noscript>This page needs JavaScript.</noscript>
</main>
<script>${SCRIPT}</script>
</html>
`;
