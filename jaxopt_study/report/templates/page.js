"use strict";
// Tables: a click on a column's name sorts; Copy and CSV take the rows in the order shown.
const UNITS = {ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, "%": 0.01, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30};

function size(cell) {
  const found = cell.textContent.trim().match(/^(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([^\s\d[,(]*)/i);
  return found ? Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) : NaN;
}

function sort(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const up = header.getAttribute("aria-sort") !== "ascending";
  const rows = [...body.rows].map(row => ({row, words: row.cells[column].textContent, size: size(row.cells[column])}));
  rows.sort((a, b) => {
    if (isNaN(a.size) !== isNaN(b.size)) return isNaN(a.size) ? 1 : -1;  // what is no number comes last
    const order = isNaN(a.size) ? a.words.localeCompare(b.words) : a.size - b.size;
    return up ? order : -order;
  });
  body.append(...rows.map(found => found.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
}

function cells(table) {
  return [...table.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()));
}

function csv(table) {
  const quoted = words => {
    const text = /^[=+@]/.test(words) ? "'" + words : words;  // a spreadsheet would take it for a formula
    return /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return cells(table).map(row => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function download(table, title) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", csv(table)], {type: "text/csv"}));
  link.download = title.toLowerCase().replace(/[^\p{L}\d]+/gu, "_").slice(0, 60) + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

async function copy(table, button) {
  try {
    await navigator.clipboard.writeText(cells(table).map(row => row.join("\t")).join("\n"));
    button.textContent = "Copied";
  } catch {  // not allowed here: the reader copies what is selected
    getSelection().selectAllChildren(table);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("sort" in button.dataset) return sort(button.closest("th"));
  const section = button.closest("section"), table = section.querySelector("table");
  if ("copy" in button.dataset) copy(table, button);
  if ("csv" in button.dataset) download(table, section.querySelector("h2, h3").textContent);
});

// Charts: as wide as their place, and in the colours of the page. `figures.fitted` does the same for files.
const dark = matchMedia("(prefers-color-scheme: dark)");
const PANEL = 160, MARGIN = 84;
const LIGHTER = {"#0072B2": "#3d9be0", "#D55E00": "#f07b2c"};  // on a dark page

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [text, soft, line] = ["--text", "--soft", "--line"].map(name => style.getPropertyValue(name).trim());
  return {
    background: null, text: {color: text}, title: {color: text},
    axis: {
      labelColor: text, titleColor: text, gridColor: line, domainColor: soft, tickColor: soft,
      labelFontSize: 11, titleFontSize: 12,
    },
    legend: {labelColor: text, titleColor: text, labelFontSize: 12},
    header: {labelColor: text, titleColor: text, labelFontSize: 12},
  };
}

function fitted(spec, width) {
  const found = structuredClone(spec);
  for (const [part, ours] of Object.entries(colours())) {
    found.config[part] = ours ? {...found.config[part], ...ours} : ours;
  }
  if (!found.spec) return Object.assign(found, {width, autosize: {type: "fit-x", contains: "padding"}});
  const panels = found.usermeta.panels, most = Math.max(1, Math.floor((width - MARGIN) / PANEL));
  const columns = Math.ceil(panels / Math.ceil(panels / most));
  found.columns = columns;
  found.spec.width = found.config.header.labelLimit = Math.floor((width - MARGIN) / columns) - 14;
  found.spec.height = Math.min(180, Math.max(found.spec.height, Math.round(0.55 * found.spec.width)));
  return found;
}

async function draw(place) {
  let words = document.getElementById(place.dataset.spec).textContent;
  if (dark.matches) for (const [colour, lighter] of Object.entries(LIGHTER)) words = words.replaceAll(colour, lighter);
  const spec = JSON.parse(words), options = {renderer: "svg", actions: false, tooltip: {theme: dark.matches ? "dark" : "light"}};
  await vegaEmbed(place, fitted(spec, place.clientWidth), options);
}

let drawnWidth = 0;
function drawAll() {
  drawnWidth = document.documentElement.clientWidth;
  return Promise.all([...document.querySelectorAll(".chart")].map(draw));
}

let waiting;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnWidth) return;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 150);
});
dark.addEventListener("change", drawAll);
drawAll();
