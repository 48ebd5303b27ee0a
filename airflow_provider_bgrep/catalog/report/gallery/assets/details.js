// SPDX-License-Identifier: Apache-2.0
// One row in a dialog: a slider wipes between the source and an image, beside all that is known of the row.

const dialog = $("details");
const wipe = $("wipe");
const [before, after] = wipe.querySelectorAll("img");
let which; // the image on the right of the slider
let shownRow = null;

function open(i, image) {
  which = image === undefined || image === "source" ? undefined : image === "mask" ? "mask" : Number(image);
  show({ ...view, row: i }, view.row === null);
}

function showDetails() {
  if (view.row === null) {
    if (dialog.open) dialog.close();
    shownRow = null;
    return;
  }
  const isNew = shownRow !== view.row;
  if (isNew) describe(view.row);
  if (!dialog.open) dialog.showModal();
  // The element with the keyboard's focus may be hidden for this row.
  const isElsewhere = !dialog.contains(document.activeElement) || ["at", "details-name"].includes(document.activeElement.id);
  if (isNew && isElsewhere) $(ROWS[view.row].images ? "at" : "details-name").focus();
}

dialog.addEventListener("close", () => {
  const i = view.row;
  if (i === null) return;
  shownRow = null;
  show({ ...view, row: null }, false);
  document.querySelector(`#row${i} button`)?.focus();
});
$("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // a click beside the dialog
});

function move(by) {
  const i = found[found.indexOf(view.row) + by];
  if (i === undefined) return;
  which = undefined;
  const page = Math.floor(found.indexOf(i) / PAGE) + 1;
  show({ ...view, row: i, page }, false);
}
$("previous").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));

dialog.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (by) {
    move(by);
    event.preventDefault(); // the slider would move
  } else if (/^[1-9]$/.test(event.key) && Number(event.key) <= ROWS[view.row].images) {
    choose(Number(event.key) - 1);
  }
});

$("at").addEventListener("input", () => wipe.style.setProperty("--at", `${$("at").value}%`));

// --- images ------------------------------------------------------------------------------------

let requested = 0; // a full-size file that loads late must not replace another image

function put(image, src, alt) {
  image.alt = alt;
  if (src) image.src = src;
  else image.removeAttribute("src");
  image.classList.toggle("gone", !src);
}

function choose(image) {
  const row = ROWS[view.row];
  which = image;
  wipe.classList.toggle("single", which === "source");
  $("tag").textContent = `${label(row, which)}${suffix(distinction(row, which))}`;
  for (const button of $("film").children) {
    button.setAttribute("aria-pressed", button.dataset.which === String(which));
  }
  list($("details-text").querySelector(".flags"), flagsOf(row, Number.isInteger(which) ? which : row.lead));
  put(before, thumb(view.row, "source"), `Source of ${row.name}`);
  put(after, thumb(view.row, which), `${$("tag").textContent} of ${row.name}`);
  $("stale").textContent = "";
  const file = Number.isInteger(which) ? ownFile(row.files[which]) : "";
  const mine = ++requested;
  if (!file) return;
  const full = new Image();
  full.decoding = "async";
  full.onload = () => {
    if (mine === requested) put(after, file, after.alt);
  };
  full.onerror = () => {
    if (mine !== requested) return;
    const instead = thumb(view.row, image) ? "; this is the thumbnail" : "";
    $("stale").textContent = `The full-size file cannot be loaded from here${instead}.`;
  };
  full.src = file;
}

after.addEventListener("load", () => {
  const { naturalWidth, naturalHeight } = after;
  if (naturalWidth && naturalHeight) wipe.style.setProperty("--ratio", naturalWidth / naturalHeight);
});

// If it was opened while the page was loading, its thumbnails may have arrived since.
document.addEventListener("DOMContentLoaded", () => dialog.open && choose(which));

// --- text ----------------------------------------------------------------------------------------

function copy(text) {
  const button = make("button", "copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without https there is no clipboard: select the text, so that it can be copied by hand.
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function url(text) {
  const target = webLink(text);
  const element = isolated(text, "url");
  if (!target) return [element];
  const anchor = link(target, "");
  anchor.append(element);
  return [anchor];
}

function id(text) {
  const element = make("span", "ids");
  element.append(isolated(text, "id"), copy(text));
  return [element];
}

function cell(name, scope, className, text) {
  const element = make(name, className, text);
  if (scope) element.scope = scope;
  return element;
}

function table(row) {
  const element = make("table");
  const names = Object.keys(META.scores).filter((name) => row.scores.some((scores) => scores[name]));
  const head = element.createTHead().insertRow();
  const titles = row.scores.length > 1 ? row.scores.map((_, n) => String(n + 1)) : ["Image"];
  head.append(...["Score", ...titles].map((title) => cell("th", "col", "", title)));
  const body = element.createTBody();
  for (const name of names) {
    const title = cell("th", "row", "", META.scores[name].label);
    title.title = META.scores[name].meaning;
    if (row.thresholds[name]) title.append(" ", make("span", "needed", row.thresholds[name]));
    const values = row.scores.map((scores, n) => {
      const isMissed = row.missed[n]?.includes(name);
      return cell("td", "", isMissed ? "missed" : "", `${isMissed ? "✗ " : ""}${scores[name] ?? "–"}`);
    });
    body.insertRow().append(title, ...values);
  }
  return element;
}

const FACTS = [
  ["Prompt", (row) => row.positive_prompt && [isolated(row.positive_prompt, "long")]],
  ["Negative prompt", (row) => row.negative_prompt && [isolated(row.negative_prompt, "long")]],
  ["State in the plan", (row) => META.states[row.state] && [META.states[row.state], row.change && isolated(row.change)]],
  ["Seed", (row) => row.seed && [row.seed]],
  ["Settings", (row) => row.settings && [row.settings]],
  ["Cost", (row) => row.cost && [row.cost]],
  ["Catalog", (row) => row.line !== null && [`line ${row.line}`, row.column && isolated(`, ${row.column}`)]],
  ["Source", (row) => row.image && url(row.image)],
  ["Mask", (row) => row.mask && url(row.mask)],
  ["Published", (row) => ownFile(row.published) && [link(row.published, row.published.split("/").pop())]],
  ["Files", (row) => row.files.some(ownFile) && row.files.filter(ownFile).map((file, n) => link(file, `image ${n + 1}`))],
  ["Submitted by an earlier run", (row) => row.report && reportLink(row) && [reportLink(row)]],
  ["Result key", (row) => row.result_key && id(row.result_key)],
  ["Request id", (row) => row.request_id && id(row.request_id)],
  ["Gateway request id", (row) => row.gateway_request_id && id(row.gateway_request_id)],
  ["Nonce", (row) => row.nonce && id(row.nonce)],
  ["Submitted at", (row) => row.submitted_at && [row.submitted_at]],
  ["Submitted by", (row) => row.submitted_by && [isolated(row.submitted_by)]],
];

function describe(i) {
  const row = ROWS[i];
  shownRow = i;
  heading($("details-name"), row);
  pill($("details-status"), row);
  const text = $("details-text");
  text.replaceChildren();
  const flags = make("ul", status(row).attention ? "flags" : "flags calm");
  list(flags, row.flags);
  text.append(flags);
  for (const name of ["reason", "advice"]) {
    if (row[name]) text.append(Object.assign(make("p", name, row[name]), { dir: "auto" }));
  }
  if (row.scores.some((scores) => Object.keys(scores).length)) text.append(table(row));
  const facts = make("dl");
  for (const [name, of] of FACTS) {
    const parts = of(row);
    if (!parts) continue;
    const value = make("dd");
    value.append(...parts.filter(Boolean));
    facts.append(make("dt", "", name), value);
  }
  text.append(facts);
  const images = imagesOf(row);
  const hasImages = images.length > 0;
  wipe.hidden = !hasImages;
  dialog.classList.toggle("plain", !hasImages);
  $("film").replaceChildren();
  if (hasImages) {
    $("film").append(...images.map((image) => tile(i, image, image === row.chosen ? "small chosen" : "small")));
    $("at").value = 50;
    wipe.style.setProperty("--at", "50%");
    choose(which === undefined || !images.includes(which) ? (row.images ? row.lead : "source") : which);
  } else {
    $("stale").textContent = "";
    requested += 1;
  }
  const place = found.indexOf(i);
  $("place").textContent = place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${found.length.toLocaleString("en")}`;
  $("previous").setAttribute("aria-disabled", place <= 0);
  $("next").setAttribute("aria-disabled", place < 0 || place >= found.length - 1);
  dialog.querySelector(".side").scrollTop = 0;
}

$("film").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-which]");
  if (button) choose(/^\d+$/.test(button.dataset.which) ? Number(button.dataset.which) : button.dataset.which);
});

// --- start ---------------------------------------------------------------------------------------

$("bar").hidden = false;
for (const name of ["tools", "keys"]) $(name).hidden = !ROWS.length;
const incomplete = ROWS.filter((row) => row.images > row.thumbs.slice(2).split("1").length - 1).length;
$("omitted").textContent = [
  META.listed > ROWS.length
    ? `This page shows ${ROWS.length.toLocaleString("en")} of the run’s ${META.listed.toLocaleString("en")} rows: those that need attention first, then those that were submitted.`
    : "",
  incomplete
    ? `To limit the size of this page, ${incomplete.toLocaleString("en")} ${incomplete === 1 ? "row lacks" : "rows lack"} some thumbnails; full-size files take their place where they can be loaded.`
    : "",
].join(" ");
show(view, false);
