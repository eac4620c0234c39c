"use strict";
// Draws the charts, sorts the tables, moves the sliders and saves files. Colours are CSS variables inside the
// drawings, so light, dark and print need no drawing again.

const ink = "var(--ink)", soft = "var(--soft)", line = "var(--line)";
const config = {
  background: null,
  font: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif',
  view: { stroke: null },
  axis: {
    labelColor: soft, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
    labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelOverlap: "greedy", labelFlush: false,
  },
  legend: {
    labelColor: ink, titleColor: soft, orient: "top", labelFontSize: 11, titleFontSize: 11,
    titleFontWeight: "normal", offset: 4, labelLimit: 260,
  },
  text: { color: ink, fontSize: 11 },
  rule: { color: ink },
};

async function draw(place) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const options = { actions: false, renderer: "svg", config, ast: true, tooltip: { theme: "custom" } };
  await vegaEmbed(place, spec, options);
  const save = document.createElement("button");
  save.textContent = "SVG";
  save.title = "save this chart";
  save.className = "save";
  save.addEventListener("click", () => download("chart.svg", "image/svg+xml", drawing(place)));
  place.append(save);
}

// A drawing as a file of its own: each variable replaced by the colour that it has now.
function drawing(place) {
  const style = getComputedStyle(document.documentElement);
  const svg = place.querySelector("svg").cloneNode(true);
  svg.setAttribute("style", `background: ${style.getPropertyValue("--page")}; font-family: sans-serif`);
  const text = new XMLSerializer().serializeToString(svg);
  return text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function sortBy(table, place, button) {
  const head = button.closest("th"), isNumber = !head.classList.contains("text");
  const first = isNumber ? "descending" : "ascending";  // of a click on a title that does not sort yet
  const descending = (head.getAttribute("aria-sort") === first) !== isNumber;
  const value = (row) => row.cells[place].dataset.value;
  const number = (row) => {  // of an interval the lower end; cells without a number are below all others
    const found = Number.parseFloat(value(row));
    return Number.isNaN(found) ? -1e308 : found;
  };
  const order = (a, b) => (isNumber ? number(a) - number(b) : value(a).localeCompare(value(b)));
  const rows = [...table.tBodies[0].rows].sort((a, b) => (descending ? order(b, a) : order(a, b)));
  table.tBodies[0].append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function turn(dials) {
  const rows = JSON.parse(dials.querySelector("script").textContent);
  const inputs = [...dials.querySelectorAll("input")], values = [...dials.querySelectorAll("dd")];
  const show = () => {
    let place = 0;
    for (const input of inputs) {
      const labels = JSON.parse(input.dataset.labels);
      place = place * labels.length + Number(input.value);
      input.parentElement.querySelector("output").textContent = labels[input.value];
      input.setAttribute("aria-valuetext", labels[input.value]);
    }
    Object.values(rows).forEach((row, number) => { values[number].textContent = row[place]; });
  };
  for (const input of inputs) input.addEventListener("input", show);
  show();
}

for (const dials of document.querySelectorAll(".dials")) turn(dials);
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th button").forEach((button, place) => {
    button.addEventListener("click", () => sortBy(table, place, button));
  });
}
document.getElementById("save-numbers").addEventListener("click", () => {
  download("report.json", "application/json", document.getElementById("numbers").textContent);
});
Promise.allSettled([...document.querySelectorAll(".chart")].map(draw)).then((found) => {
  for (const each of found) if (each.status === "rejected") console.error(each.reason);
  document.documentElement.dataset.drawn = "yes";
});
