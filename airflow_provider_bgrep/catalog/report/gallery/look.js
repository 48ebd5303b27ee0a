// SPDX-License-Identifier: Apache-2.0
// One row, large: a slider wipes between the source and an image; everything that is known of the row.

const look = $("look");
const wipe = $("wipe");
const [before, after] = wipe.querySelectorAll("img");
let which; // the image on the right
let shownRow = null;

function open(i, image) {
  which = image === undefined || image === "source" ? undefined : image === "mask" ? "mask" : Number(image);
  show({ ...view, look: i }, view.look === null);
}

function showLook() {
  if (view.look === null) {
    if (look.open) look.close();
    shownRow = null;
    return;
  }
  const isNew = shownRow !== view.look;
  if (isNew) tell(view.look);
  if (!look.open) look.showModal();
  // What had the keyboard's focus may be hidden for this row, and keys would go nowhere.
  const isElsewhere = !look.contains(document.activeElement) || ["at", "look-name"].includes(document.activeElement.id);
  if (isNew && isElsewhere) $(ROWS[view.look].made ? "at" : "look-name").focus();
}

look.addEventListener("close", () => {
  const i = view.look;
  if (i === null) return;
  shownRow = null;
  show({ ...view, look: null }, false);
  document.querySelector(`#row${i} button`)?.focus();
});
$("close").addEventListener("click", () => look.close());
look.addEventListener("click", (event) => {
  if (event.target === look) look.close(); // beside it
});

function move(by) {
  const i = found[found.indexOf(view.look) + by];
  if (i === undefined) return;
  which = undefined;
  const page = Math.floor(found.indexOf(i) / PAGE) + 1;
  show({ ...view, look: i, page }, false);
}
$("before").addEventListener("click", () => move(-1));
$("after").addEventListener("click", () => move(1));

look.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (by) {
    move(by);
    event.preventDefault(); // of the slider it would be a step
  } else if (/^[1-9]$/.test(event.key) && Number(event.key) <= ROWS[view.look].made) {
    choose(Number(event.key) - 1);
  }
});

$("at").addEventListener("input", () => wipe.style.setProperty("--at", `${$("at").value}%`));

// --- images ------------------------------------------------------------------------------------

let wanted = 0; // a full-size file that comes late must not replace another image

function put(image, src, alt) {
  image.alt = alt;
  if (src) image.src = src;
  else image.removeAttribute("src");
  image.classList.toggle("gone", !src);
}

function choose(image) {
  const row = ROWS[view.look];
  which = image;
  const stands = standing(row, which);
  $("tag").textContent = `${label(row, which)}${stands ? `, ${stands}` : ""}`;
  for (const button of $("film").children) {
    button.setAttribute("aria-pressed", button.dataset.which === String(which));
  }
  list($("look-text").querySelector(".flags"), flagsOf(row, Number.isInteger(which) ? which : row.main));
  put(before, thumb(view.look, "source"), `Source of ${row.name}`);
  put(after, thumb(view.look, which), `${$("tag").textContent} of ${row.name}`);
  $("stale").textContent = "";
  const file = Number.isInteger(which) ? ownFile(row.files[which]) : "";
  const mine = ++wanted;
  if (!file) return;
  const whole = new Image();
  whole.decoding = "async";
  whole.onload = () => {
    if (mine === wanted) put(after, file, after.alt);
  };
  whole.onerror = () => {
    if (mine !== wanted) return;
    const instead = thumb(view.look, image) ? "; this is the small image" : "";
    $("stale").textContent = `The full-size file cannot be reached from here${instead}.`;
  };
  whole.src = file;
}

after.addEventListener("load", () => {
  const { naturalWidth, naturalHeight } = after;
  if (naturalWidth && naturalHeight) wipe.style.setProperty("--ratio", naturalWidth / naturalHeight);
});

// Opened while the page was still being read, the small images may have come since.
document.addEventListener("DOMContentLoaded", () => look.open && choose(which));

// --- words ---------------------------------------------------------------------------------------

function copy(text) {
  const button = make("button", "copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Over plain http there is no clipboard: what is selected can be copied by hand.
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function url(text) {
  const target = webLink(text);
  const element = foreign(text, "url");
  if (!target) return [element];
  const anchor = link(target, "");
  anchor.append(element);
  return [anchor];
}

function id(text) {
  const element = make("span", "ids");
  element.append(foreign(text, "id"), copy(text));
  return [element];
}

function cell(name, scope, className, text) {
  const element = make(name, className, text);
  if (scope) element.scope = scope;
  return element;
}

function table(row) {
  const element = make("table");
  const head = element.createTHead().insertRow();
  const titles = row.scores.length > 1 ? row.scores.map((_, n) => String(n + 1)) : ["Image"];
  head.append(...["Score", ...titles].map((title) => cell("th", "col", "", title)));
  const body = element.createTBody();
  for (const [name] of META.measures) {
    const found = row.scores.map((_, n) => scoresOf(row, n).find((score) => score.name === name));
    const known = found.find(Boolean);
    if (!known) continue;
    const title = cell("th", "row", "", name);
    title.title = known.meaning;
    if (known.limit) title.append(" ", make("span", "needed", known.limit));
    const values = found.map((score) => {
      if (!score) return cell("td", "", "", "–");
      return cell("td", "", score.isMissed ? "missed" : "", `${score.isMissed ? "✗ " : ""}${score.value}`);
    });
    body.insertRow().append(title, ...values);
  }
  return element;
}

const KNOWN = [
  ["Prompt", (row) => row.positive && [foreign(row.positive, "long")]],
  ["Not wanted", (row) => row.negative && [foreign(row.negative, "long")]],
  ["Why in this run", (row) => [META.states[row.state], row.change && foreign(row.change)]],
  ["Seed", (row) => row.seed && [row.seed]],
  ["Settings", (row) => row.settings && [row.settings]],
  ["Cost", (row) => row.cost && [row.cost]],
  ["Catalog", (row) => row.line !== null && [`line ${row.line}`, row.column && foreign(`, ${row.column}`)]],
  ["Source", (row) => row.image && url(row.image)],
  ["Mask", (row) => row.mask && url(row.mask)],
  ["Published", (row) => ownFile(row.published) && [link(row.published, row.published.split("/").pop())]],
  ["Files", (row) => row.files.some(ownFile) && row.files.filter(ownFile).map((file, n) => link(file, `image ${n + 1}`))],
  ["Earlier night", (row) => ownFile(row.report) && [link(`${row.report}#q=${encodeURIComponent(row.name)}`, "its report")]],
  ["Job", (row) => row.result_key && id(row.result_key)],
  ["Request", (row) => row.request_id && id(row.request_id)],
  ["Gateway’s id", (row) => row.gateway_id && id(row.gateway_id)],
  ["Nonce", (row) => row.nonce && id(row.nonce)],
  ["Submitted", (row) => row.submitted && [row.submitted]],
  ["Bought by", (row) => row.bought_by && [foreign(row.bought_by)]],
];

function tell(i) {
  const row = ROWS[i];
  shownRow = i;
  heading($("look-name"), row);
  pill($("look-pill"), row);
  const text = $("look-text");
  text.replaceChildren();
  const flags = make("ul", status(row).needs ? "flags" : "flags calm");
  list(flags, row.flags);
  text.append(flags);
  for (const name of ["reason", "advice"]) {
    if (row[name]) text.append(Object.assign(make("p", name, row[name]), { dir: "auto" }));
  }
  if (row.scores.some((scores) => scores.some(Boolean))) text.append(table(row));
  const facts = make("dl");
  for (const [name, of] of KNOWN) {
    const parts = of(row);
    if (!parts) continue;
    const value = make("dd");
    value.append(...parts.filter(Boolean));
    facts.append(make("dt", "", name), value);
  }
  text.append(facts);
  const seen = images(row);
  const isSeen = seen.length > 0;
  wipe.hidden = !isSeen;
  look.classList.toggle("plain", !isSeen);
  $("film").replaceChildren();
  if (isSeen) {
    $("film").append(...seen.map((image) => tile(i, image, image === row.chosen ? "small chosen" : "small")));
    $("at").value = 50;
    wipe.style.setProperty("--at", "50%");
    choose(which === undefined || !seen.includes(which) ? (row.made ? row.main : "source") : which);
  } else {
    $("stale").textContent = "";
    wanted += 1;
  }
  const place = found.indexOf(i);
  $("place").textContent = place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${found.length.toLocaleString("en")}`;
  $("before").setAttribute("aria-disabled", place <= 0);
  $("after").setAttribute("aria-disabled", place < 0 || place >= found.length - 1);
  look.querySelector(".side").scrollTop = 0;
}

$("film").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-which]");
  if (button) choose(/^\d+$/.test(button.dataset.which) ? Number(button.dataset.which) : button.dataset.which);
});

// --- begin ---------------------------------------------------------------------------------------

for (const name of ["tools", "bar", "keys"]) $(name).hidden = false;
const bare = ROWS.filter((row) => row.made > row.held.slice(2).split("1").length - 1).length;
$("held").textContent = [
  META.listed > ROWS.length
    ? `This page holds ${ROWS.length.toLocaleString("en")} of the night’s ${META.listed.toLocaleString("en")} rows: first those that need you, then those that were worked on.`
    : "",
  bare
    ? `Of ${bare.toLocaleString("en")} rows it does not hold every small image, or it would be too large: it shows full-size files in their place, where they can be reached.`
    : "",
].join(" ");
show(view, false);
