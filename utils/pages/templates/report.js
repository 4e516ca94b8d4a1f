// report.html: a cell of the confusion matrix, or a row of the most frequent mistakes, shows just
// these in the gallery.
"use strict";

(() => {
  const gallery = pages.gallery("mistakes");
  const cells = [...document.querySelectorAll(".matrix button, .ranking button")];
  const section = document.getElementById("mistakes-section");

  for (const cell of cells) {
    cell.addEventListener("click", () => {
      const isShown = cell.getAttribute("aria-pressed") === "true";
      gallery.filter(isShown ? {} : { truth: cell.dataset.truth, prediction: cell.dataset.prediction });
      if (!isShown) section.scrollIntoView();
    });
  }

  function markCell() {
    const { truth, prediction } = gallery.values();
    for (const cell of cells) {
      const isShown = cell.dataset.truth === truth && cell.dataset.prediction === prediction;
      cell.setAttribute("aria-pressed", String(isShown));
    }
  }

  document.getElementById("mistakes").addEventListener("found", markCell);
})();
