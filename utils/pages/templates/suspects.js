// suspects.html: decide about labels with mouse or keyboard, and save the decisions as relabel.tsv.
//
// The browser keeps the decisions where it can, by the folder of the images.
"use strict";

(() => {
  const { make, text, attribute, option, data, save } = pages;
  const facts = data("suspect-facts");
  const COLUMNS = ["set", "class", "file", "decision", "new class"];
  const KEY = `relabel ${facts.key}`; // in the browser's storage
  const [progress, counts, saveButton, loadButton, fileInput, message] = [
    "progress", "progress-text", "save", "load", "file", "message",
  ].map((id) => document.getElementById(id));
  const cards = new Map(); // item → its card on the page
  const nameOf = (item) => item.file.slice(item.file.indexOf("/") + 1);

  // Decisions: item.decision is "keep", "move" or "drop", and item.to the class of "move".

  function set(item, decision, to = null) {
    item.decision = decision === "move" && to === item.truth ? "keep" : decision;
    item.to = item.decision === "move" ? to : null;
  }

  function decide(item, decision, to) {
    set(item, decision, to);
    show(item);
    showProgress();
    store();
  }

  const undo = (item) => decide(item, undefined);

  // The page

  function choices(item, card) {
    const button = (name, content, to) => {
      const element = make("button", { type: "button", class: `quiet ${name}`, tabindex: -1 }, content);
      element.addEventListener("click", () => {
        if (element.getAttribute("aria-pressed") === "true") undo(item);
        else decide(item, name, to);
      });
      return element;
    };
    const words = (key, index) => text(key, { name: gallery.classes[index] });
    const select = make(
      "select",
      { class: "other", tabindex: -1, ...attribute("aria-label", "script.suspect.other") },
      option("", "script.suspect.other"),
      ...gallery.classes.flatMap((name, i) => (i === item.truth ? [] : [make("option", { value: i }, name)])),
    );
    select.addEventListener("change", () => {
      if (select.value === "") undo(item);
      else decide(item, "move", Number(select.value));
      card.focus();
    });
    cards.set(item, card);
    card.tabIndex = 0;
    card.item = item;
    const parts = make(
      "div",
      { class: "choices" },
      button("keep", words("script.suspect.keep", item.truth)),
      button("move", words("script.suspect.move", item.prediction), item.prediction),
      select,
      button("drop", text("script.suspect.drop")),
    );
    mark(item, card, parts);
    return parts;
  }

  /** Show the decision about an item on its card. */
  function mark(item, card, parts) {
    const isOther = item.decision === "move" && item.to !== item.prediction;
    const pressed = { keep: item.decision === "keep", drop: item.decision === "drop" };
    pressed.move = item.decision === "move" && !isOther;
    for (const [name, isPressed] of Object.entries(pressed)) {
      parts.querySelector(`.${name}`).setAttribute("aria-pressed", String(isPressed));
    }
    parts.querySelector(".other").value = isOther ? String(item.to) : "";
    if (item.decision) card.dataset.decision = item.decision;
    else delete card.dataset.decision;
  }

  function show(item) {
    const card = cards.get(item);
    if (card?.isConnected) mark(item, card, card.querySelector(".choices"));
  }

  function showProgress() {
    const count = (decision) => gallery.items.filter((item) => item.decision === decision).length;
    const values = { all: gallery.items.length, kept: count("keep"), moved: count("move"), dropped: count("drop") };
    values.done = values.kept + values.moved + values.dropped;
    progress.value = values.done;
    saveButton.disabled = values.done === 0;
    counts.replaceChildren(text("script.suspect.progress", values));
  }

  function say(key, values) {
    message.hidden = false;
    message.replaceChildren(text(key, values));
  }

  // What the browser keeps

  function store() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      for (const item of gallery.items) {
        delete kept[item.file];
        if (item.decision) kept[item.file] = [item.decision, item.to === null ? "" : gallery.classes[item.to]];
      }
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      say("script.suspect.not_kept");
    }
  }

  function restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      for (const item of gallery.items) take(item, ...(kept[item.file] ?? []));
    } catch {
      // Nothing is kept here: the first decision says so.
    }
  }

  /** Take a decision over, unless it is none. Return whether it is one. */
  function take(item, decision, name = "") {
    const to = gallery.classes.indexOf(name.normalize("NFC"));
    if (!["keep", "move", "drop"].includes(decision) || (decision === "move" && to < 0)) return false;
    set(item, decision, to);
    return true;
  }

  // relabel.tsv

  const quote = (cell) => (/["\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

  function toTable() {
    const rows = gallery.items
      .filter((item) => item.decision)
      .map((item) => [
        facts.set, gallery.classes[item.truth], nameOf(item), item.decision,
        item.decision === "move" ? gallery.classes[item.to] : "",
      ]);
    return [COLUMNS, ...rows].map((row) => `${row.map(quote).join("\t")}\n`).join("");
  }

  /** Return the text of a file as UTF-8, UTF-16 or what Excel writes in Korea. */
  function decode(bytes) {
    const [first, second] = new Uint8Array(bytes);
    if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      return new TextDecoder("euc-kr").decode(bytes);
    }
  }

  /** Return the rows of cells of a table with tabs, commas or semicolons. */
  function parse(content) {
    const header = content.slice(0, content.search(/[\r\n]|$/));
    const [delimiter] = ["\t", ",", ";"].sort((a, b) => header.split(b).length - header.split(a).length);
    const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${delimiter}\\r\\n]*))(${delimiter}|\\r?\\n|$)`, "gy");
    const rows = [[]];
    while (cell.lastIndex < content.length) {
      const found = cell.exec(content);
      if (!found) break;
      rows.at(-1).push((found[1]?.replaceAll('""', '"') ?? found[2]).normalize("NFC"));
      if (found[3] !== delimiter) rows.push([]);
    }
    return rows.filter((row) => row.some(Boolean));
  }

  function readTable(content) {
    const [header = [], ...rows] = parse(content);
    const names = header.map((name) => name.trim().toLowerCase().replace("_", " "));
    const places = COLUMNS.slice(1).map((name) => names.indexOf(name));
    if (places.includes(-1)) return say("script.suspect.no_table");
    const known = new Map(gallery.items.map((item) => [`${gallery.classes[item.truth]}\t${nameOf(item)}`, item]));
    let taken = 0;
    for (const row of rows) {
      const [label, file, decision, name] = places.map((place) => row[place] ?? "");
      const item = known.get(`${label.trim()}\t${file}`);
      if (item && take(item, decision.trim().toLowerCase(), name.trim())) taken += 1;
    }
    for (const item of gallery.items) show(item);
    showProgress();
    store();
    say("script.suspect.loaded", { taken, others: rows.length - taken });
  }

  saveButton.addEventListener("click", () => save("relabel.tsv", toTable()));
  loadButton.addEventListener("click", () => fileInput.click());
  fileInput.addEventListener("change", async () => {
    const [file] = fileInput.files;
    if (file) readTable(decode(await file.arrayBuffer()));
    fileInput.value = ""; // so that the same file can be loaded again
  });

  // The keyboard

  const list = () => [...document.querySelectorAll("#suspects .card")];

  /** Return the card above or below another one. */
  function inNextRow(card, all, step) {
    const place = card.getBoundingClientRect();
    const rows = all.filter((other) => step * (other.getBoundingClientRect().top - place.top) > 1);
    const top = step > 0 ? rows[0] : rows.at(-1);
    const isInRow = (other) => Math.abs(other.getBoundingClientRect().top - top.getBoundingClientRect().top) <= 1;
    const distance = (other) => Math.abs(other.getBoundingClientRect().left - place.left);
    return top && rows.filter(isInRow).sort((a, b) => distance(a) - distance(b))[0];
  }

  function walk(card, key) {
    const all = list();
    const index = all.indexOf(card);
    if (key === "ArrowRight") return all[index + 1];
    if (key === "ArrowLeft") return all[index - 1];
    return inNextRow(card, all, key === "ArrowDown" ? 1 : -1);
  }

  /** Return what a key decides about an item, as a function, or null. */
  function actionOf(event, item) {
    // In a Korean layout the key is a Hangul letter: then its place on the keyboard tells.
    const letter = event.code.startsWith("Key") ? event.code.slice(3).toLowerCase() : event.key.toLowerCase();
    if (letter === "k") return () => decide(item, "keep");
    if (letter === "m" || event.key === "Enter") return () => decide(item, "move", item.prediction);
    if (letter === "u") return () => undo(item);
    if (letter === "d" || event.key === "Delete") return () => decide(item, "drop");
    const number = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
    if (number >= 0 && number < gallery.classes.length) return () => decide(item, "move", number);
    return null;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { target, key } = event;
    const inCard = target.closest(".card");
    if (target.closest("select, input, textarea") || (target !== document.body && !inCard)) return;
    if (key === "Enter" && target !== inCard) return; // a button, a link, or the page
    const card = inCard ?? list().find((element) => !element.item.decision) ?? list()[0];
    if (!card) return;
    if (key.startsWith("Arrow")) {
      if (!inCard) return; // it scrolls the page
      walk(card, key)?.focus();
    } else {
      const action = actionOf(event, card.item);
      if (!action) return;
      action();
      const next = card.item.decision ? walk(card, "ArrowRight") : card; // not after taking back
      (next ?? card).focus();
    }
    event.preventDefault();
  });

  let gallery = null;
  gallery = pages.gallery("suspects", {
    controls: (item, card) => gallery && choices(item, card),
    titles: { truth: "script.suspect.label", prediction: "script.suspect.suggestion" },
    orders: ["first", "highest", "name"],
    extraFilters: [
      {
        name: "decision",
        key: "script.suspect.decision",
        options: ["open", "keep", "move", "drop"].map((name) => [name, `script.suspect.is.${name}`]),
        test: (item, value) => (item.decision ?? "open") === value,
      },
    ],
  });
  restore();
  gallery.refresh();
  showProgress();
})();
