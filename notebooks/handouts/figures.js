// Draws the figures of the page, each from the JSON inside its element.
const CONFIG = { responsive: true, displaylogo: false };
const PAPER_WIDTH = 640; // pixels between the margins of a sheet of A4 or letter
const FIGURES = [...document.querySelectorAll(".figure")];

for (const element of FIGURES) {
  const figure = JSON.parse(element.querySelector("script").textContent);
  Plotly.newPlot(element, figure.data, figure.layout, CONFIG);
}

// A figure follows the width of a window by itself, but not that of paper.
addEventListener("beforeprint", () => FIGURES.forEach((element) => Plotly.relayout(element, { width: PAPER_WIDTH })));
addEventListener("afterprint", () => FIGURES.forEach((element) => Plotly.relayout(element, { width: null, autosize: true })));
