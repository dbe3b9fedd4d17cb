// Elements of the page, and numbers that say where in report.json they stand.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes named on... are listeners, children may be nested lists. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** What stands at a path such as "classes.3.accuracy". */
function at(path) {
  return path.split(".").reduce((value, key) => (value === null || value === undefined ? value : value[key]), REPORT);
}

const FORMATS = {
  percent: (x) => (100 * x).toFixed(1) + " %",
  percent3: (x) => (100 * x).toFixed(3) + " %",
  integer: (x) => x.toFixed(0),
  fixed2: (x) => x.toFixed(2),
  fixed3: (x) => x.toFixed(3),
  fixed6: (x) => x.toFixed(6),
  signed2: (x) => (x < 0 ? "" : "+") + x.toFixed(2),
  signed3: (x) => (x < 0 ? "" : "+") + x.toFixed(3),
  seconds: (x) => x.toFixed(1) + " s",
};

/** Text of a number: "-0.00" is "0.00", what is missing a dash. */
function text(value, format) {
  if (value === null || value === undefined) return "-";
  const shown = FORMATS[format](value);
  return /^[-+]?[0.]+( %| s)?$/.test(shown) ? shown.replace(/^-/, format.startsWith("signed") ? "+" : "") : shown;
}

/** A number of report.json; its place and format can be checked from outside. */
function num(path, format) {
  return h("span", { "data-at": path, "data-format": format }, text(at(path), format));
}

function note(...children) {
  return h("p", { class: "note" }, children);
}

function table(head, rows, attributes = {}) {
  const cells = (row, tag) =>
    row.map((cell, i) => h(tag, tag === "th" ? { scope: "col" } : {}, cell));
  return h("div", { class: "scroll" },
    h("table", attributes,
      h("thead", {}, h("tr", {}, cells(head, "th"))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row, "td"))))));
}

function facts(...pairs) {
  return h("div", { class: "facts" },
    pairs.filter(Boolean).map(([label, value]) => h("div", {}, h("b", {}, value), h("span", { class: "label" }, label))));
}

const classLink = (c) => h("a", { href: `#/class/${c}` }, REPORT.classes[c].name);
const featureName = (j) => `feature ${REPORT.features[j].feature}`;

/** A feature in its colour; hatched where it counts against a class. */
function chip(j, against = false) {
  return h("span", { class: "chip" + (against ? " against" : ""), style: { "--feature": REPORT.features[j].colour } },
    h("i"), h("a", { href: `#/feature/${j}` }, (against ? "not " : "") + featureName(j)));
}

const chips = (js) => (js.length ? js.map((j) => chip(j)) : "none");

/** Contributions of features, as bars on one scale from a middle or left line. */
function bars(path, largest) {
  const rows = at(path);
  const most = largest || Math.max(1e-9, ...rows.map((row) => Math.abs(row[1])));
  const below = rows.some((row) => row[1] < 0);
  return rows.map(([j, value], i) => {
    const size = (Math.abs(value) / most) * (below ? 50 : 100);
    const zero = below ? 50 : 0;
    return h("div", { class: "bar" }, chip(j),
      h("span", { class: "track" },
        h("i", { style: { "--feature": REPORT.features[j].colour, left: `${value < 0 ? zero - size : zero}%`, width: `${size}%` } }),
        below ? h("b", { style: { left: "50%" } }) : null),
      h("span", { class: "value" }, num(`${path}.${i}.1`, "signed2")));
  });
}
