// Elements and lines: how things are shown. Text only ever goes in as text, so what
// clients wrote cannot become part of the page.

export const $ = (id) => document.getElementById(id);

export function put(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** An element with its class, if any, and what is in it. */
export function el(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** A small button that does something. */
export function button(text, className, act) {
  const element = el("button", `small ${className}`, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// --- Elements ---

/** Sets how much of a bar is full. */
export function fullness(bar, part) {
  bar.style.width = `${Math.round(100 * Math.min(1, part || 0))}%`;
}

/** A bar on its own. */
export function meter(part) {
  const bar = el("i");
  fullness(bar, part);
  return el("div", "meter", bar);
}

/** Fills the body of a table with rows of texts; rows that stay keep their elements. */
export function fill(id, rows) {
  const body = $(id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ cells, bar, dull, bad }, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const count = cells.length + (bar == null ? 0 : 1);
    while (row.cells.length > count) row.deleteCell(-1);
    while (row.cells.length < count) row.insertCell();
    row.className = dull ? "zero" : "";
    cells.forEach((text, column) => {
      const cell = row.cells[column];
      if (cell.textContent !== text) cell.textContent = text;
      cell.className = bad && column === cells.length - 1 ? "bad" : "";
    });
    if (bar != null) {
      const cell = row.cells[count - 1];
      cell.className = "bar";
      if (!cell.querySelector("i")) cell.replaceChildren(el("i"));
      fullness(cell.firstChild, bar);
    }
  });
}

let hiding;

/** Says for a moment that something was done, or why not. */
export function announce(text, bad = false) {
  put("done", text);
  $("done").className = bad ? "shown bad" : "shown";
  clearTimeout(hiding);
  hiding = setTimeout(() => { $("done").className = ""; }, bad ? 8000 : 4000);
}

// --- Lines ---

const SVG = "http://www.w3.org/2000/svg";

function paths(svg, all) {
  svg.replaceChildren(...all.map(([className, d]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", className);
    path.setAttribute("d", d);
    return path;
  }));
}

/** Draws lines of points, each a part of the width and a value, the first with its area; the highest value that is shown. */
export function plot(id, series) {
  const highest = series.flatMap(({ points }) => points).reduce((most, [, value]) => Math.max(most, value), 0);
  const y = (value) => (98 - 94 * value / (Math.max(1, highest) * 1.08)).toFixed(1);
  const all = [25, 50, 75].map((at) => ["line", `M0 ${at}H300`]);
  for (const { points, kind } of series) {
    if (points.length < 2) continue;
    const line = points.map(([x, value]) => `${(300 * x).toFixed(1)} ${y(value)}`);
    const [first, last] = [line[0], line.at(-1)].map((point) => point.split(" ")[0]);
    if (!kind) all.push(["area", `M${line.join("L")}L${last} 100L${first} 100Z`]);
    all.push([kind ?? "", `M${line.join("L")}`]);
  }
  paths($(id), all);
  return highest;
}

/** A line so small that it stands beside a number. */
export function spark(values, length) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 84 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const highest = Math.max(1, ...values);
  const x = (index) => (84 * (length - values.length + index) / (length - 1)).toFixed(1);
  const line = values.map((value, index) => `${x(index)} ${(18.5 - 17 * value / highest).toFixed(1)}`);
  if (line.length > 1) paths(svg, [["", `M${line.join("L")}`]]);
  return svg;
}
