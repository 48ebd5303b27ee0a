"use strict";
// SPDX-License-Identifier: Apache-2.0
// The rows of the run, the filters, search and order that choose among them, and the view in the address.

const META = JSON.parse(document.getElementById("meta").textContent);
const PAGE = 48; // fills lines of two, three or four cards
const ATTENTION = "attention"; // in a filter: every status that needs attention

// What a row has of each key that its JSON leaves out.
const BLANK = {
  name: "", sku: "", view: "", status: "", state: "", reason: "", change: "", advice: "", column: "", line: null,
  image: "", mask: "", positive_prompt: "", negative_prompt: "", seed: "", settings: "", cost: "",
  images: 0, lead: 0, chosen: null, files: [], thumbs: "", published: "", report: "",
  flags: [], scores: [], missed: [], thresholds: {}, margin: null,
  result_key: "", request_id: "", gateway_request_id: "", nonce: "", submitted_at: "", submitted_by: "",
};

const ROWS = [];
for (const block of document.querySelectorAll("script.rows")) {
  for (const row of JSON.parse(block.textContent)) ROWS.push({ ...BLANK, ...row });
  block.remove(); // its text would stay in memory
}

const status = (row) => META.statuses[row.status];

// --- order ---------------------------------------------------------------------------------------

const last = (value) => (value === null ? Infinity : value);
const collator = new Intl.Collator(undefined, { numeric: true });
const COMPARED = {
  // Among the rows that need attention, and among the others, those with images come first.
  "": (a, b) => status(b).attention - status(a).attention || (b.images > 0) - (a.images > 0),
  worst: (a, b) => last(a.margin) - last(b.margin),
  name: (a, b) => collator.compare(a.name, b.name),
  catalog: (a, b) => last(a.line) - last(b.line),
};
const ordered = {};

function order(name) {
  if (!ordered[name]) {
    // Infinity - Infinity is NaN. Sorting is stable: equal rows stay in the order of the page.
    const by = (a, b) => COMPARED[name](ROWS[a], ROWS[b]) || 0;
    ordered[name] = ROWS.map((_, i) => i).sort(by);
  }
  return ordered[name];
}

// --- search and filters --------------------------------------------------------------------------

const fold = (text) => text.normalize("NFKC").toLowerCase();
const SEARCHED = [
  "name", "sku", "view", "positive_prompt", "reason", "change", "result_key", "request_id", "gateway_request_id",
];
const folded = []; // the searched text of each row, once it was needed

function searched(i) {
  if (folded[i] === undefined) {
    const row = ROWS[i];
    const texts = SEARCHED.map((name) => row[name]);
    folded[i] = fold([...texts, ...row.flags, status(row).label].join("\n"));
  }
  return folded[i];
}

function isStatus(row, wanted) {
  return !wanted.size || wanted.has(row.status) || (wanted.has(ATTENTION) && status(row).attention);
}

// The rows of a view, and the counts on the chips: rows of each status and state.
function matching(view) {
  const words = fold(view.q).split(/\s+/).filter(Boolean);
  const found = [];
  const counts = { statuses: {}, states: {} };
  for (const i of order(view.sort)) {
    const row = ROWS[i];
    if (!words.every((word) => searched(i).includes(word))) continue;
    const isOfState = !view.state.size || view.state.has(row.state);
    const isOfStatus = isStatus(row, view.status);
    if (isOfState) {
      counts.statuses[row.status] = (counts.statuses[row.status] || 0) + 1;
      if (status(row).attention) counts.statuses[ATTENTION] = (counts.statuses[ATTENTION] || 0) + 1;
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
  const row = number("row");
  return {
    status: several("status", { ...META.statuses, [ATTENTION]: 1 }),
    state: several("state", META.states),
    q: given.get("q") || "",
    sort: Object.hasOwn(COMPARED, given.get("sort") || "") ? given.get("sort") || "" : "",
    page: number("page") || 1,
    row: row !== null && row < ROWS.length ? row : null,
  };
}

function writeView(view, isNew) {
  const parts = [];
  if (view.status.size) parts.push(`status=${[...view.status].join(",")}`);
  if (view.state.size) parts.push(`state=${[...view.state].join(",")}`);
  if (view.q) parts.push(`q=${encodeURIComponent(view.q.toWellFormed())}`);
  if (view.sort) parts.push(`sort=${view.sort}`);
  if (view.page > 1) parts.push(`page=${view.page}`);
  if (view.row !== null) parts.push(`row=${view.row}`);
  const fragment = `#${parts.join("&")}`;
  if (fragment === (location.hash || "#")) return;
  try {
    history[isNew ? "pushState" : "replaceState"](null, "", fragment);
  } catch {
    // Browsers limit how often this may be called; the view is shown anyway.
  }
}

// --- images ------------------------------------------------------------------------------------

// Images of a row are "source", "mask", and 0, 1, … for the output images.
const place = (which) => ({ source: 0, mask: 1 })[which] ?? which + 2;
const hasThumb = (row, which) => row.thumbs[place(which)] === "1";

let split = { i: -1, texts: [] }; // the thumbnails of the row used last: they are used one after the other

// A thumbnail's URL; "" if it is not in this page, undefined while the page has not loaded that far.
function thumb(i, which) {
  if (!hasThumb(ROWS[i], which)) return "";
  if (split.i !== i) {
    const block = document.getElementById(`t${i}`);
    // Until something follows it, its text may be incomplete.
    if (!block || (!block.nextSibling && document.readyState === "loading")) return undefined;
    split = { i, texts: block.textContent.split(" ") };
  }
  return `data:image/webp;base64,${split.texts[place(which)]}`;
}

// A percent-encoded path relative to this page, or "".
function ownFile(path) {
  return path && /^(\.\.\/)*[\w%~-][\w%.~/-]*$/.test(path) ? path : "";
}

function webLink(url) {
  return /^https?:\/\/[^\s\\]+$/i.test(url || "") ? url : "";
}
