// What every page does: switch the language and the theme, and build elements for other scripts.
"use strict";

const pages = (() => {
  const root = document.documentElement;
  const ATTRIBUTES = ["aria-label", "placeholder", "title"];

  /** Return the value of a JSON element, or null if the page has no such element. */
  function data(id) {
    const element = document.getElementById(id);
    return element && JSON.parse(element.textContent);
  }

  const TEXTS = data("texts");

  function fill(words, values) {
    const filled = words.replace(/\{(\w+)\}/g, (place, name) => (name in values ? values[name] : place));
    return filled.replace(/([가-힣])\(으\)로/g, (_, syllable) => `${syllable}${particle(syllable)}`);
  }

  /** Return 로 or 으로: only after a final consonant other than ㄹ it is 으로. texts.py does the same. */
  function particle(syllable) {
    const final = (syllable.charCodeAt(0) - "가".charCodeAt(0)) % 28;
    return final === 0 || final === 8 ? "로" : "으로";
  }

  /** Return a text in the language that the page shows now, for a place without elements. */
  function plain(key, values = {}) {
    return fill(TEXTS[key][root.lang], values);
  }

  /** Return a text as two elements, of which the style sheet shows one. */
  function text(key, values = {}) {
    const both = document.createDocumentFragment();
    for (const lang of ["en", "ko"]) both.append(make("span", { lang }, fill(TEXTS[key][lang], values)));
    return both;
  }

  /** Return the text of a key, or `words` if there is no such text: a name that a user gave. */
  function textOr(key, words) {
    return key in TEXTS ? text(key) : document.createTextNode(words);
  }

  /** Return attributes for `make` with a text that follows the language: attribute("title", key). */
  function attribute(name, key, values = {}) {
    return {
      [name]: plain(key, values),
      [`data-${name}-en`]: fill(TEXTS[key].en, values),
      [`data-${name}-ko`]: fill(TEXTS[key].ko, values),
    };
  }

  /** Return an element with attributes and children: elements, or text that is never HTML. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** Return an <option> whose text follows the language, with an ending that does not. */
  function option(value, key, values = {}, ending = "") {
    const words = TEXTS[key];
    const both = { "data-en": fill(words.en, values) + ending, "data-ko": fill(words.ko, values) + ending };
    return make("option", { value, ...both }, both[`data-${root.lang}`]);
  }

  function showLanguage(language) {
    root.lang = language;
    for (const element of document.querySelectorAll("[data-en]")) {
      element.textContent = element.getAttribute(`data-${language}`);
    }
    for (const name of ATTRIBUTES) {
      for (const element of document.querySelectorAll(`[data-${name}-en]`)) {
        element.setAttribute(name, element.getAttribute(`data-${name}-${language}`));
      }
    }
    document.dispatchEvent(new CustomEvent("languagechange", { detail: language }));
  }

  const system = matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  }

  function showTheme() {
    document.getElementById("theme").setAttribute("aria-pressed", String(isDark()));
  }

  document.getElementById("language").addEventListener("click", () => {
    showLanguage(root.lang === "ko" ? "en" : "ko");
  });
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  /** Let the user save a text as a file. */
  function save(name, content) {
    const address = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
    const link = make("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  return { data, text, textOr, plain, attribute, make, option, save };
})();
