// SPDX-License-Identifier: Apache-2.0
// The page of cards, and the controls that choose it. Text enters the page as text only.

const $ = (id) => document.getElementById(id);
const cards = $("rows");
let view = readView();
let found = [];

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Text of the catalog: its direction of writing ends with it.
function isolated(text, className) {
  const element = make("bdi", className, text);
  element.dir = "auto";
  return element;
}

// --- images ------------------------------------------------------------------------------------

let waiting = []; // images without a source yet: of a new page, or not loaded so far

function fill(image, i, which) {
  const src = thumb(i, which);
  if (src === undefined) return false;
  const file = src || ownFile(ROWS[i].files[which]);
  image.addEventListener("error", () => image.parentElement.classList.add("gone"), { once: true });
  if (!src) image.loading = "lazy"; // a full-size file is loaded when it scrolls into view
  if (file) image.src = file;
  else image.parentElement.classList.add("gone");
  return true;
}

// Some now, the rest frame by frame: the page changes before its last image is there.
function fillWaiting() {
  const until = performance.now() + 8;
  waiting = waiting.filter((one) => one[0].isConnected && (performance.now() > until || !fill(...one)));
  if (waiting.length) requestAnimationFrame(fillWaiting);
}

const suffix = (text) => (text ? `, ${text}` : "");

function label(row, which) {
  if (which === "source") return "Source";
  if (which === "mask") return "Mask";
  return row.images > 1 ? `Image ${which + 1}` : "Image";
}

// What distinguishes an image: that it is published, or the best of several.
function distinction(row, which) {
  if (which !== row.chosen) return "";
  if (row.status === "published") return "published";
  return row.images > 1 ? "best" : "";
}

function tile(i, which, className) {
  const row = ROWS[i];
  const button = make("button", `tile ${className}`);
  button.type = "button";
  button.dataset.row = i;
  button.dataset.which = which;
  const words = `${label(row, which)} of ${row.name}${suffix(distinction(row, which))}`;
  button.setAttribute("aria-label", words);
  if (className.startsWith("small") && !hasThumb(row, which)) {
    button.textContent = which + 1; // a full-size file is too large for a small tile
    return button;
  }
  const image = make("img");
  image.alt = words;
  image.decoding = "async";
  button.append(image);
  waiting.push([image, i, which]);
  return button;
}

// The images of a row that can be shown.
function imagesOf(row) {
  return [...["source", "mask"].filter((which) => hasThumb(row, which)), ...Array(row.images).keys()];
}

// --- cards ---------------------------------------------------------------------------------------

function pill(element, row) {
  element.textContent = status(row).label;
  element.dataset.tone = status(row).tone;
}

function heading(element, row) {
  element.replaceChildren(isolated(row.sku || row.name || "no sku"));
  if (row.view && row.view !== "main") element.append(" ", isolated(row.view, "view"));
}

function list(element, texts) {
  element.replaceChildren(
    ...texts.map((text) => {
      const item = make("li", "", text);
      item.dir = "auto";
      return item;
    }),
  );
}

function media(element, i) {
  const row = ROWS[i];
  if (!imagesOf(row).length) return element.remove();
  element.parentElement.classList.add("has-images");
  const pair = element.querySelector(".pair");
  const source = make("div", "cell");
  source.append(tile(i, "source", "big"));
  if (hasThumb(row, "mask")) source.append(tile(i, "mask", "inset"));
  pair.append(source);
  if (row.images) {
    const result = make("div", "cell");
    result.append(tile(i, row.lead, "big"));
    const best = distinction(row, row.lead);
    const words = row.images > 1 ? `${row.lead + 1} of ${row.images}${suffix(best)}` : best;
    if (words) result.append(make("span", "tag right", words));
    pair.append(result);
  } else {
    pair.append(make("div", "cell nothing", "no image"));
  }
  source.append(make("span", "tag left", "Source"));
  const film = element.querySelector(".film");
  if (row.images < 2) return film.remove();
  for (const which of Array(row.images).keys()) {
    film.append(tile(i, which, which === row.chosen ? "small chosen" : "small"));
  }
}

// The flags of one image of a row, and those of all its images.
function flagsOf(row, which) {
  const other = (flag) => /^image \d+\b/.test(flag) && !new RegExp(`^image ${which + 1}\\b`).test(flag);
  return row.flags.filter((flag) => !other(flag));
}

// The first flags for a card; a published row has passed all checks that matter.
function someFlags(row) {
  if (!status(row).attention) return [];
  const flags = flagsOf(row, row.lead).slice(0, 3);
  const more = row.flags.length - flags.length;
  return more ? [...flags, `and ${more} more`] : flags;
}

// The names of an image's scores, in the order in which they are shown.
function scoreNames(row, which) {
  return Object.keys(META.scores).filter((name) => row.scores[which]?.[name]);
}

// Whether a row's state in the plan says more than its status does.
const hasOtherState = (row) => Boolean(META.states[row.state]) && row.state !== row.status;

function facts(row) {
  const state = hasOtherState(row) || row.change ? META.states[row.state] : "";
  return [
    state && row.change ? `${state}: ${row.change}` : state,
    ...scoreNames(row, row.lead)
      .slice(0, 3)
      .map((name) => `${META.scores[name].label} ${row.scores[row.lead][name]}`),
    row.seed && `seed ${row.seed}`,
    row.cost,
    row.line !== null && !row.images && `line ${row.line}${row.column ? `, column ${row.column}` : ""}`,
  ].filter(Boolean);
}

function card(i) {
  const row = ROWS[i];
  const article = $("card").content.firstElementChild.cloneNode(true);
  const part = (name) => article.querySelector(name);
  article.id = `row${i}`;
  article.dataset.tone = status(row).tone;
  media(part(".media"), i);
  heading(part("h2"), row);
  pill(part(".pill"), row);
  list(part(".flags"), someFlags(row));
  for (const [name, text] of [["reason", row.reason], ["advice", row.advice], ["prompt", row.positive_prompt]]) {
    if (text) part(`.${name}`).textContent = text;
    else part(`.${name}`).remove();
  }
  part(".facts").append(...facts(row).flatMap((text, n) => (n ? ["\u00a0· ", isolated(text)] : [isolated(text)])));
  const more = part(".more");
  more.dataset.row = i;
  more.setAttribute("aria-label", `Details of ${row.name || `line ${row.line}`}`);
  const published = ownFile(row.published);
  if (published) part(".links").append(link(published, "Published image"));
  const earlier = reportLink(row);
  if (earlier) part(".links").append(earlier);
  return article;
}

// A link to the row in the gallery of the run that submitted it.
function reportLink(row) {
  const report = ownFile(row.report);
  return report && link(`${report}#q=${encodeURIComponent(row.name)}`, "Earlier report");
}

function link(url, text) {
  const element = make("a", "", text);
  element.href = url;
  element.target = "_blank";
  element.rel = "noopener noreferrer";
  element.referrerPolicy = "no-referrer";
  return element;
}

// --- chips, pages, counts ------------------------------------------------------------------------

function chip(name, text, count, isOn, toggle, tone) {
  const button = make("button", "chip", text);
  button.type = "button";
  button.dataset.name = name;
  button.setAttribute("aria-pressed", isOn);
  if (tone) button.dataset.tone = tone;
  button.append(" ", make("span", "", count.toLocaleString("en")));
  button.addEventListener("click", toggle);
  return button;
}

// Chips of a filter, "status" or "state". That of the statuses begins with a chip for all rows.
function chips(element, filter, labels, counts) {
  const chosen = view[filter];
  const isStatus = filter === "status";
  const hadFocus = element.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const toggled = (name) => () => {
    const names = new Set(chosen);
    if (!names.delete(name)) names.add(name);
    show({ ...view, [filter]: name ? names : new Set(), page: 1 }, true);
  };
  const some = Object.entries(labels).filter(([name]) => counts[name] || chosen.has(name));
  const tone = (name) => (isStatus ? META.statuses[name]?.tone : undefined);
  const buttons = some.map(([name, text]) =>
    chip(name, text, counts[name] || 0, chosen.has(name), toggled(name), tone(name)),
  );
  if (isStatus) buttons.unshift(chip("", "All", ROWS.length, !chosen.size, toggled("")));
  element.replaceChildren(...(isStatus ? [] : [make("span", "", "In the plan:")]), ...buttons);
  element.hidden = !isStatus && ((some.length < 2 && !chosen.size) || !ROWS.some(hasOtherState));
  if (hadFocus !== null) buttons.find((one) => one.dataset.name === hadFocus)?.focus();
}

const STATUS_LABELS = {
  [ATTENTION]: "Needs attention",
  ...Object.fromEntries(Object.entries(META.statuses).map(([name, one]) => [name, one.label])),
};

function pages() {
  return Math.max(1, Math.ceil(found.length / PAGE));
}

function turn(by) {
  const page = Math.min(pages(), Math.max(1, view.page + by));
  if (page === view.page) return;
  show({ ...view, page }, true);
  // Below the sticky tools, whose height depends on the number of chips.
  document.documentElement.style.scrollPaddingTop = `${$("tools").offsetHeight + 8}px`;
  $("bar").scrollIntoView({ block: "start" });
}

const pagers = [...document.querySelectorAll(".pager")].map((element) => {
  const before = make("button", "", "← Previous");
  const place = make("span");
  const next = make("button", "", "Next →");
  before.type = next.type = "button";
  before.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  element.append(before, place, next);
  return { element, before, place, next };
});

function showPages() {
  for (const { element, before, place, next } of pagers) {
    element.hidden = pages() < 2;
    place.textContent = `Page ${view.page.toLocaleString("en")} of ${pages().toLocaleString("en")}`;
    // Not `disabled`: that would lose the keyboard's focus on the last page.
    before.setAttribute("aria-disabled", view.page <= 1);
    next.setAttribute("aria-disabled", view.page >= pages());
  }
  const from = (view.page - 1) * PAGE;
  const to = Math.min(found.length, from + PAGE);
  const all = found.length === ROWS.length ? "" : ` (${ROWS.length.toLocaleString("en")} in total)`;
  const number = (value) => value.toLocaleString("en");
  $("count").textContent = found.length
    ? `${number(from + 1)} to ${number(to)} of ${number(found.length)} rows${all}`
    : ROWS.length
      ? `No rows match${all}`
      : "No rows to show: none is new, changed or in need of attention.";
}

let shown = ""; // the rows of the cards on the page

function show(wanted, isNew) {
  view = wanted;
  const result = matching(view);
  found = result.found;
  view.page = Math.min(view.page, pages());
  writeView(view, isNew);
  chips($("statuses"), "status", STATUS_LABELS, result.counts.statuses);
  chips($("states"), "state", META.states, result.counts.states);
  if (document.activeElement !== $("find")) $("find").value = view.q;
  $("order").value = view.sort;
  showPages();
  const page = found.slice((view.page - 1) * PAGE, view.page * PAGE);
  if (shown !== page.join()) {
    shown = page.join();
    cards.replaceChildren(...page.map(card));
  }
  showDetails();
  fillWaiting();
}

// --- input ---------------------------------------------------------------------------------------

cards.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-row]");
  if (button) open(Number(button.dataset.row), button.dataset.which);
});

let typing;
$("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => show({ ...view, q: $("find").value.trim(), page: 1 }, false), 120);
});
$("order").addEventListener("change", () => show({ ...view, sort: $("order").value, page: 1 }, true));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment holds the view
  cards.focus();
});
addEventListener("popstate", () => show(readView(), false));

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || $("details").open) return;
  if (event.target.closest("input, select, textarea")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) turn(by);
  else if (event.key === "/") $("find").focus();
  else return;
  event.preventDefault();
});
