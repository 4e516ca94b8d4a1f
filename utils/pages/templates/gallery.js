// A gallery of images with filters, for thousands of them.
//
//   const gallery = pages.gallery("mistakes", {
//     controls: (item, card) => element or null,       // what stands at the end of a card
//     extraFilters: [{ name, key, options: [[value, key of its text]], test: (item, value) => bool }],
//     titles: { truth: key, prediction: key },         // what the two classes are called
//     orders: ["first", "highest", "lowest", "name"],  // the first is chosen; "first": as in the data
//   });
//   gallery.filter({ truth: 2, prediction: 0 });       // and clear all other filters
//   gallery.refresh();                                 // after items have changed
//
// The data is what utils/pages/gallery.py makes. Filters run over the array; cards are made only
// for what is near the window. The element gets an event "found" when the filters have run.
"use strict";

pages.gallery = (id, options = {}) => {
  const CHUNK = 48; // cards that are added at a time
  const MANY_CLASSES = 12; // with more, a card's bars can be scrolled
  const { controls = () => null, extraFilters = [], orders = ["highest", "lowest", "name"] } = options;
  const titles = { truth: "script.gallery.truth", prediction: "script.gallery.prediction", ...options.titles };
  const { make, text, attribute, option } = pages;
  const { classes, groups, items } = pages.data(`${id}-data`);
  const root = document.getElementById(id);
  const [form, output, cards, more] = [".filters", "output", ".cards", ".more-cards"].map((part) =>
    root.querySelector(part),
  );
  const fields = {}; // by name of the filter
  let found = [];

  /** Return a text so that a search finds it in any case and in both forms of Hangul. */
  const comparable = (words) => words.normalize("NFC").toLowerCase();
  for (const item of items) item.key = comparable(item.file);

  /** Return 37 %, and with a decimal near the ends: 2.4 %, 99.7 %; but never a rounded 100 %. */
  function percent(fraction) {
    const value = 100 * fraction;
    if (value >= 98.5 && value < 100) return `${(Math.floor(10 * value) / 10).toFixed(1)} %`;
    return `${value.toFixed(value >= 0.05 && value < 9.95 ? 1 : 0)} %`;
  }

  const thousands = (number) => number.toLocaleString("en");

  // The filters

  function field(name, key, control, isWide = false) {
    control.id = `${id}-${name}`;
    const label = make("label", { for: control.id, class: "label" }, typeof key === "string" ? text(key) : key);
    form.append(make("div", { class: isWide ? "field wide" : "field" }, label, control));
    fields[name] = control;
    return control;
  }

  function counted(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return counts;
  }

  /** Return the key of the text, and its values, that name a class or a group: 20s is 20대. */
  function called(word) {
    const decade = /^(\d+)s$/.exec(word);
    return decade ? ["script.decade", { n: decade[1] }] : ["script.gallery.as_it_is", { word }];
  }

  function select(name, key, values, names) {
    const counts = counted(values);
    const choices = names.flatMap((word, i) => {
      if (!counts.has(i)) return [];
      const [key, values] = called(word);
      return [option(i, key, values, ` (${thousands(counts.get(i))})`)];
    });
    const all = option("", "script.gallery.all", { n: thousands(items.length) });
    return field(name, key, make("select", {}, all, ...choices));
  }

  function confidenceInputs() {
    const input = (name, value) => {
      const words = attribute("aria-label", `script.gallery.${name}`);
      return make("input", { type: "number", min: 0, max: 100, step: 1, value, id: `${id}-${name}`, ...words });
    };
    [fields.lowest, fields.highest] = [input("lowest", 0), input("highest", 100)];
    const inputs = make("div", { class: "range-inputs" }, fields.lowest, "–", fields.highest, "%");
    const legend = make("legend", {}, text("script.gallery.confidence"));
    form.append(make("fieldset", { class: "field" }, legend, inputs));
  }

  function buildFilters() {
    select("truth", titles.truth, items.map((item) => item.truth), classes);
    select("prediction", titles.prediction, items.map((item) => item.prediction), classes);
    confidenceInputs();
    for (const [number, group] of groups.entries()) {
      const values = items.map((item) => item.groups[number]);
      select(`group-${number}`, pages.textOr(`script.group.${group.name}`, group.name), values, group.values);
    }
    for (const { name, key, options } of extraFilters) {
      const choices = options.map(([value, words]) => option(value, words));
      field(name, key, make("select", {}, option("", "script.gallery.all", { n: thousands(items.length) }), ...choices));
    }
    field("name", "script.gallery.name", make("input", { type: "search", autocomplete: "off", spellcheck: "false" }), true);
    const choices = orders.map((order) => option(order, `script.gallery.by.${order}`));
    field("order", "script.gallery.order", make("select", {}, ...choices));
  }

  function isFound() {
    const number = (name) => (fields[name].value === "" ? null : Number(fields[name].value));
    const [truth, prediction] = [number("truth"), number("prediction")];
    const [lowest, highest] = [(number("lowest") ?? 0) / 100, (number("highest") ?? 100) / 100];
    const words = comparable(fields.name.value.trim());
    const chosen = groups.map((_, i) => number(`group-${i}`));
    const extra = extraFilters.filter(({ name }) => fields[name].value !== "");
    return (item) =>
      (truth === null || item.truth === truth) &&
      (prediction === null || item.prediction === prediction) &&
      item.confidence >= lowest - 1e-9 &&
      item.confidence <= highest + 1e-9 &&
      chosen.every((value, i) => value === null || item.groups[i] === value) &&
      extra.every(({ name, test }) => test(item, fields[name].value)) &&
      item.key.includes(words);
  }

  const ORDERS = {
    first: null, // as they are in the data
    highest: (a, b) => b.confidence - a.confidence,
    lowest: (a, b) => a.confidence - b.confidence,
    name: (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0),
  };

  // The cards

  function bars(item) {
    const list = make("dl", { class: classes.length > MANY_CLASSES ? "bars many" : "bars" });
    item.probs.forEach((probability, i) => {
      const role = i === item.truth ? " is-truth" : i === item.prediction ? " is-prediction" : "";
      const bar = make("i");
      bar.style.width = `${100 * probability}%`;
      const track = make("div", { class: `track${role}`, "aria-hidden": "true" }, bar);
      list.append(
        make("dt", { class: role.trim(), title: classes[i] }, classes[i]),
        make("dd", { class: "track-cell" }, track),
        make("dd", { class: role.trim() }, percent(probability)),
      );
    });
    return list;
  }

  function picture(item) {
    if (!item.image) return make("div", { class: "picture" }, text("script.gallery.missing"));
    return make("div", { class: "picture" }, make("img", { src: item.image, alt: "", decoding: "async" }));
  }

  function verdict(item) {
    const hidden = (key) => make("span", { class: "unseen" }, text(key), " ");
    return make(
      "h3",
      { class: "verdict" },
      make("span", { class: "truth" }, hidden(titles.truth), classes[item.truth]),
      make("span", { class: "arrow", "aria-hidden": "true" }, "→"),
      make("span", { class: "prediction" }, hidden(titles.prediction), classes[item.prediction]),
      make("span", { class: "confidence" }, percent(item.confidence)),
    );
  }

  function card(item) {
    const words = item.groups.map((value, i) => groups[i].values[value]).filter(Boolean);
    const name = item.href ? make("a", { href: item.href, target: "_blank", rel: "noopener" }, item.file) : item.file;
    const place = make("p", { class: "place" }, name);
    words.forEach((word, i) => place.append(i ? " · " : make("br"), text(...called(word))));
    const element = make("li", { class: "card" }, verdict(item), picture(item), bars(item), place);
    const added = controls(item, element);
    if (added) element.append(make("div", { class: "controls" }, added));
    return element;
  }

  function addCards() {
    const start = cards.childElementCount;
    const next = found.slice(start, start + CHUNK);
    cards.append(...next.map(card));
    more.hidden = start + next.length >= found.length;
  }

  /** Show what the filters find, from the start. */
  function refresh() {
    const test = isFound();
    const order = ORDERS[fields.order.value];
    found = items.filter(test);
    if (order) found.sort(order);
    cards.replaceChildren();
    addCards();
    const counts = { found: thousands(found.length), all: thousands(items.length) };
    output.replaceChildren(text("script.gallery.found", counts));
    root.dispatchEvent(new Event("found"));
  }

  /** Set some of the filters, by name, and all others to everything. */
  function filter(values) {
    form.reset();
    for (const [name, value] of Object.entries(values)) fields[name].value = value;
    refresh();
  }

  /** Return what is chosen in each filter, as text. */
  function values() {
    return Object.fromEntries(Object.entries(fields).map(([name, control]) => [name, control.value]));
  }

  buildFilters();
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  root.querySelector(".reset").addEventListener("click", () => filter({}));
  more.addEventListener("click", () => {
    const index = cards.childElementCount;
    addCards();
    const link = cards.children[index]?.querySelector("a, button"); // else the focus would be lost
    if (more.hidden) link?.focus();
  });
  const observer = new IntersectionObserver((entries) => {
    if (!entries.at(-1).isIntersecting) return;
    addCards();
    observer.unobserve(more); // otherwise it would be silent while the button stays near the window
    observer.observe(more);
  }, { rootMargin: "1200px" });
  observer.observe(more);
  refresh();
  return { items, classes, filter, refresh, values, get found() { return found; } };
};
