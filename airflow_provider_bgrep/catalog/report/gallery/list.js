// SPDX-License-Identifier: Apache-2.0
// The page of cards, and what chooses it. Text gets into the page as text only.

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

// Text of the catalog's: whatever direction it has ends with it.
function foreign(text, className) {
  const element = make("bdi", className, text);
  element.dir = "auto";
  return element;
}

// --- images ------------------------------------------------------------------------------------

let waiting = []; // images of cards that are to be filled yet: of a new page, or not read so far

function fill(image, i, which) {
  const src = thumb(i, which);
  if (src === undefined) return false;
  const file = src || ownFile(ROWS[i].files[which]);
  image.addEventListener("error", () => image.parentElement.classList.add("gone"), { once: true });
  if (!src) image.loading = "lazy"; // a full-size file is fetched only when it comes into sight
  if (file) image.src = file;
  else image.parentElement.classList.add("gone");
  return true;
}

// Some now and the rest frame by frame: a page turns before the last of its images is there.
function fillWaiting() {
  const until = performance.now() + 8;
  waiting = waiting.filter((one) => one[0].isConnected && (performance.now() > until || !fill(...one)));
  if (waiting.length) requestAnimationFrame(fillWaiting);
}

function label(row, which) {
  if (which === "source") return "Source";
  if (which === "mask") return "Mask";
  return row.made > 1 ? `Image ${which + 1}` : "Image";
}

function standing(row, which) {
  if (which !== row.chosen) return "";
  if (row.status === "published") return "published";
  return row.made > 1 ? "the best" : "";
}

function tile(i, which, className) {
  const row = ROWS[i];
  const button = make("button", `tile ${className}`);
  button.type = "button";
  button.dataset.row = i;
  button.dataset.which = which;
  const stands = standing(row, which);
  const words = `${label(row, which)} of ${row.name}${stands ? `, ${stands}` : ""}`;
  button.setAttribute("aria-label", words);
  if (className.startsWith("small") && !isHeld(row, which)) {
    button.textContent = which + 1; // a full-size file is too much for so small a place
    return button;
  }
  const image = make("img");
  image.alt = words;
  image.decoding = "async";
  button.append(image);
  waiting.push([image, i, which]);
  return button;
}

// What there is to look at of a row.
function images(row) {
  return [...["source", "mask"].filter((which) => isHeld(row, which)), ...Array(row.made).keys()];
}

// --- cards ---------------------------------------------------------------------------------------

function pill(element, row) {
  element.textContent = status(row).label;
  element.dataset.tone = status(row).tone;
}

function heading(element, row) {
  element.replaceChildren(foreign(row.sku || row.name || "no sku"));
  if (row.view && row.view !== "main") element.append(" ", foreign(row.view, "view"));
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
  if (!images(row).length) return element.remove();
  element.parentElement.classList.add("seen");
  const pair = element.querySelector(".pair");
  const source = make("div", "cell");
  source.append(tile(i, "source", "big"));
  if (isHeld(row, "mask")) source.append(tile(i, "mask", "inset"));
  pair.append(source);
  if (row.made) {
    const result = make("div", "cell");
    result.append(tile(i, row.main, "big"));
    const stands = standing(row, row.main);
    const words = row.made > 1 ? `${row.main + 1} of ${row.made}${stands ? `, ${stands}` : ""}` : stands;
    if (words) result.append(make("span", "tag right", words));
    pair.append(result);
  } else {
    pair.append(make("div", "cell nothing", "no image"));
  }
  source.append(make("span", "tag left", "source"));
  const film = element.querySelector(".film");
  if (row.made < 2) return film.remove();
  for (const which of Array(row.made).keys()) {
    film.append(tile(i, which, which === row.chosen ? "small chosen" : "small"));
  }
}

// What was found wanting about one of a row's images, or about all of them.
function flagsOf(row, which) {
  const other = (flag) => /^image \d+\b/.test(flag) && !new RegExp(`^image ${which + 1}\\b`).test(flag);
  return row.flags.filter((flag) => !other(flag));
}

// A few of them; of a row that is published nothing was wanting.
function someFlags(row) {
  if (!status(row).needs) return [];
  const flags = flagsOf(row, row.main).slice(0, 3);
  const more = row.flags.length - flags.length;
  return more ? [...flags, `and ${more} more`] : flags;
}

// What is known of an image's scores: [{ name, meaning, limit, value, isMissed }, …].
function scoresOf(row, which) {
  const told = row.scores[which] || [];
  return META.measures.flatMap(([name, meaning], n) => {
    const isMissed = told[n]?.startsWith("!");
    return told[n] ? [{ name, meaning, limit: row.limits[n], value: told[n].slice(isMissed ? 1 : 0), isMissed }] : [];
  });
}

function facts(row) {
  const why = META.why.includes(row.state) ? META.states[row.state] : "";
  return [
    why && row.change ? `${why}: ${row.change}` : why,
    ...scoresOf(row, row.main).slice(0, 3).map(({ name, value }) => `${name} ${value}`),
    row.seed && `seed ${row.seed}`,
    row.cost,
    row.line !== null && !row.made && `line ${row.line}${row.column ? `, column ${row.column}` : ""}`,
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
  for (const [name, text] of [["reason", row.reason], ["advice", row.advice], ["prompt", row.positive]]) {
    if (text) part(`.${name}`).textContent = text;
    else part(`.${name}`).remove();
  }
  part(".facts").append(...facts(row).flatMap((text, n) => (n ? ["\u00a0· ", foreign(text)] : [foreign(text)])));
  const more = part(".more");
  more.dataset.row = i;
  more.setAttribute("aria-label", `Details of ${row.name || `line ${row.line}`}`);
  const published = ownFile(row.published);
  if (published) part(".links").append(link(published, "Published image"));
  const earlier = ownFile(row.report);
  if (earlier) part(".links").append(link(`${earlier}#q=${encodeURIComponent(row.name)}`, "That night’s report"));
  return article;
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

function chip(name, text, count, isOn, toggle) {
  const button = make("button", "chip", text);
  button.type = "button";
  button.dataset.name = name;
  button.setAttribute("aria-pressed", isOn);
  if (!META.why.includes(name) && META.statuses[name]) button.dataset.tone = META.statuses[name].tone;
  button.append(" ", make("span", "", count.toLocaleString("en")));
  button.addEventListener("click", toggle);
  return button;
}

function chips(element, known, chosen, counts, all) {
  const hadFocus = element.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const toggled = (name) => () => {
    const names = new Set(chosen);
    if (!names.delete(name)) names.add(name);
    show({ ...view, [all ? "status" : "state"]: name ? names : new Set(), page: 1 }, true);
  };
  const some = Object.entries(known).filter(([name]) => counts[name] || chosen.has(name));
  const buttons = some.map(([name, words]) => chip(name, words, counts[name] || 0, chosen.has(name), toggled(name)));
  if (all) buttons.unshift(chip("", "All", ROWS.length, !chosen.size, toggled("")));
  element.replaceChildren(...buttons);
  element.hidden = !all && some.length < 2 && !chosen.size;
  if (hadFocus !== null) buttons.find((one) => one.dataset.name === hadFocus)?.focus();
}

const WHY = Object.fromEntries(META.why.map((name) => [name, META.states[name]]));
const LABELS = Object.fromEntries(Object.entries(META.statuses).map(([name, one]) => [name, one.label]));

function pages() {
  return Math.max(1, Math.ceil(found.length / PAGE));
}

function turn(by) {
  const page = Math.min(pages(), Math.max(1, view.page + by));
  if (page === view.page) return;
  show({ ...view, page }, true);
  // Below the tools, which stay in sight and have as many lines as there are chips.
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
    // Not disabled: the keyboard's focus would be lost on the last page.
    before.setAttribute("aria-disabled", view.page <= 1);
    next.setAttribute("aria-disabled", view.page >= pages());
  }
  const from = (view.page - 1) * PAGE;
  const to = Math.min(found.length, from + PAGE);
  const all = found.length === ROWS.length ? "" : ` (${ROWS.length.toLocaleString("en")} in all)`;
  const number = (value) => value.toLocaleString("en");
  $("count").textContent = found.length
    ? `${number(from + 1)} to ${number(to)} of ${number(found.length)} rows${all}`
    : `No row is like that${all}`;
}

let shown = ""; // what the cards on the page are

function show(wanted, isNew) {
  view = wanted;
  const result = matching(view);
  found = result.found;
  view.page = Math.min(view.page, pages());
  writeView(view, isNew);
  chips($("chips"), { [NEEDS]: "Needs you", ...LABELS }, view.status, result.counts.statuses, true);
  chips($("states"), WHY, view.state, result.counts.states, false);
  if (document.activeElement !== $("find")) $("find").value = view.q;
  $("order").value = view.sort;
  showPages();
  const page = found.slice((view.page - 1) * PAGE, view.page * PAGE);
  if (shown !== page.join()) {
    shown = page.join();
    cards.replaceChildren(...page.map(card));
  }
  showLook();
  fillWaiting();
}

// --- what people do ------------------------------------------------------------------------------

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
  event.preventDefault(); // the fragment is the view's
  cards.focus();
});
addEventListener("popstate", () => show(readView(), false));

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || $("look").open) return;
  if (event.target.closest("input, select, textarea")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) turn(by);
  else if (event.key === "/") $("find").focus();
  else return;
  event.preventDefault();
});
