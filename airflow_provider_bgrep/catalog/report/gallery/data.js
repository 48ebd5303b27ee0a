"use strict";
// SPDX-License-Identifier: Apache-2.0
// The rows of the night, which of them are shown, and the view as the address's fragment keeps it.

const META = JSON.parse(document.getElementById("meta").textContent);
const PAGE = 48; // full lines of two, three or four cards
const NEEDS = "attention"; // a status that stands for all that need somebody

const ROWS = [];
for (const block of document.querySelectorAll("script.rows")) {
  const names = META.fields;
  for (const cells of JSON.parse(block.textContent)) {
    const row = Object.fromEntries(cells.map((cell, i) => [names[i], cell]));
    for (const name of META.common) row[name] = META.shared[row[name]];
    ROWS.push(row);
  }
  block.remove(); // its text would stay in memory
}

const status = (row) => META.statuses[row.status];

// --- order ---------------------------------------------------------------------------------------

const last = (value) => (value === null ? Infinity : value);
const collator = new Intl.Collator(undefined, { numeric: true });
const COMPARED = {
  // Of those that need somebody, and of the others, those that can be looked at first.
  "": (a, b) => status(b).needs - status(a).needs || (b.made > 0) - (a.made > 0),
  worst: (a, b) => last(a.worst) - last(b.worst),
  name: (a, b) => collator.compare(a.name, b.name),
  catalog: (a, b) => last(a.line) - last(b.line),
};
const ordered = {};

function order(name) {
  if (!ordered[name]) {
    // Infinity - Infinity is no number; sorting is stable, so that ties stay as the night had them.
    const by = (a, b) => COMPARED[name](ROWS[a], ROWS[b]) || 0;
    ordered[name] = ROWS.map((_, i) => i).sort(by);
  }
  return ordered[name];
}

// --- what is looked for --------------------------------------------------------------------------

const fold = (text) => text.normalize("NFKC").toLowerCase();
const folded = [];

function haystack(i) {
  if (folded[i] === undefined) {
    const row = ROWS[i];
    const { name, sku, view, positive, reason, what, result_key, request_id, gateway_id } = row;
    folded[i] = fold(
      [name, sku, view, positive, reason, what, ...row.flags, status(row).label, result_key, request_id, gateway_id].join("\n"),
    );
  }
  return folded[i];
}

function isStatus(row, wanted) {
  return !wanted.size || wanted.has(row.status) || (wanted.has(NEEDS) && status(row).needs > 0);
}

// Rows of a view, and for the chips how many there would be of each status and state.
function matching(view) {
  const words = fold(view.q).split(/\s+/).filter(Boolean);
  const found = [];
  const counts = { statuses: {}, states: {} };
  for (const i of order(view.sort)) {
    const row = ROWS[i];
    if (!words.every((word) => haystack(i).includes(word))) continue;
    const isOfState = !view.state.size || view.state.has(row.state);
    const isOfStatus = isStatus(row, view.status);
    if (isOfState) {
      counts.statuses[row.status] = (counts.statuses[row.status] || 0) + 1;
      if (status(row).needs) counts.statuses[NEEDS] = (counts.statuses[NEEDS] || 0) + 1;
    }
    if (isOfStatus) counts.states[row.state] = (counts.states[row.state] || 0) + 1;
    if (isOfState && isOfStatus) found.push(i);
  }
  return { found, counts };
}

// --- the view in the address ---------------------------------------------------------------------

function readView() {
  const given = new URLSearchParams(location.hash.slice(1));
  const several = (name, known) =>
    new Set((given.get(name) || "").split(",").filter((one) => Object.hasOwn(known, one)));
  const number = (name) => (/^\d{1,9}$/.test(given.get(name) || "") ? Number(given.get(name)) : null);
  const look = number("look");
  return {
    status: several("status", { ...META.statuses, [NEEDS]: 1 }),
    state: several("state", Object.fromEntries(META.why.map((name) => [name, 1]))),
    q: given.get("q") || "",
    sort: Object.hasOwn(COMPARED, given.get("sort") || "") ? given.get("sort") || "" : "",
    page: number("page") || 1,
    look: look !== null && look < ROWS.length ? look : null,
  };
}

function writeView(view, isNew) {
  const told = [];
  if (view.status.size) told.push(`status=${[...view.status].join(",")}`);
  if (view.state.size) told.push(`state=${[...view.state].join(",")}`);
  if (view.q) told.push(`q=${encodeURIComponent(view.q.toWellFormed())}`);
  if (view.sort) told.push(`sort=${view.sort}`);
  if (view.page > 1) told.push(`page=${view.page}`);
  if (view.look !== null) told.push(`look=${view.look}`);
  const fragment = `#${told.join("&")}`;
  if (fragment === (location.hash || "#")) return;
  try {
    history[isNew ? "pushState" : "replaceState"](null, "", fragment);
  } catch {
    // Browsers take only so many a minute; the view is shown all the same.
  }
}

// --- images ------------------------------------------------------------------------------------

// Of a row's images there are "source", "mask", and 0, 1, … for what was made.
const place = (which) => ({ source: 0, mask: 1 })[which] ?? which + 2;
const isHeld = (row, which) => row.held[place(which)] === "1";

let split = { i: -1, texts: [] }; // the row's that was asked for last: its images are asked for one by one

// A small image's URL; "" if it is not in this page, undefined while the page has not been read so far.
function thumb(i, which) {
  if (!isHeld(ROWS[i], which)) return "";
  if (split.i !== i) {
    const block = document.getElementById(`t${i}`);
    // Without anything after it, its text may still be coming.
    if (!block || (!block.nextSibling && document.readyState === "loading")) return undefined;
    split = { i, texts: block.textContent.split(" ") };
  }
  return `data:image/webp;base64,${split.texts[place(which)]}`;
}

// A path relative to this file, quoted as URLs are, or nothing.
function ownFile(path) {
  return path && /^(\.\.\/)*[\w%~-][\w%.~/-]*$/.test(path) ? path : "";
}

function webLink(url) {
  return /^https?:\/\/[^\s\\]+$/i.test(url || "") ? url : "";
}
