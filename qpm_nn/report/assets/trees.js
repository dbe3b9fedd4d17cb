// The classes as a tree, as an image sorts them, from left to right.

const ROW = 30;
const LEVEL = 118;

/** A tree of report.json, with the classes of a set marked. */
function treeDrawing(path, predicted, members) {
  const set = new Set(members);
  const leaves = [];
  const nodes = [];
  // A node is [feature or -1, classes that end here, children, activation].
  const place = (node, depth, where) => {
    const [, ends, children] = node;
    const own = { node, depth, where, below: [], leaf: null };
    if (ends.length) {
      own.leaf = { classes: ends, y: leaves.length };
      leaves.push(own.leaf);
    }
    own.below = children.map((child, n) => place(child, depth + 1, `${where}.2.${n}`));
    const ys = [...own.below.map((child) => child.y), ...(own.leaf ? [own.leaf.y] : [])];
    own.y = ys.length ? (ys[0] + ys[ys.length - 1]) / 2 : 0;
    own.classes = [...ends, ...own.below.flatMap((child) => child.classes)];
    nodes.push(own);
    return own;
  };
  const root = place(at(path), 0, path);
  const depth = Math.max(...nodes.map((one) => one.depth));
  const names = 30 + depth * LEVEL + 24;
  const width = names + 330;
  const height = leaves.length * ROW + 16;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "wide", role: "img",
    "aria-label": `Tree of ${root.classes.length} classes` });
  const x = (one) => 22 + one * LEVEL;
  const y = (one) => 16 + one * ROW;
  const marked = (classes) => classes.some((c) => set.has(c));
  const edge = (x1, y1, x2, y2, on) => s("path", {
    d: `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`, fill: "none",
    stroke: on ? "var(--good)" : "var(--line)", "stroke-width": on ? 3 : 1.5 });
  for (const one of nodes) {
    for (const child of one.below) svg.append(edge(x(one.depth), y(one.y), x(child.depth), y(child.y), marked(child.classes)));
    if (one.leaf) svg.append(edge(x(one.depth), y(one.y), names - 6, y(one.leaf.y), marked(one.leaf.classes)));
  }
  for (const one of nodes) {
    const [j, , , activation] = one.node;
    if (j < 0) {
      svg.append(s("circle", { cx: x(0), cy: y(one.y), r: 4, fill: "var(--muted)" }));
      continue;
    }
    const { feature, colour } = REPORT.features[j];
    svg.append(s("a", { href: `#/feature/${j}` },
      s("title", {}, `feature ${feature}`),
      s("circle", { cx: x(one.depth), cy: y(one.y), r: 7, fill: colour, stroke: "var(--paper)", "stroke-width": 1.5 }),
      s("text", { x: x(one.depth), y: y(one.y) - 9, "text-anchor": "middle", class: "halo" }, `${feature} · `,
        s("tspan", { "data-at": `${one.where}.3`, "data-format": "fixed2" }, text(activation, "fixed2")))));
  }
  for (const { classes, y: row } of leaves) {
    const shown = classes.includes(predicted) ? predicted : classes.find((c) => set.has(c)) ?? classes[0];
    const rest = classes.length > 1 ? `, +${classes.length - 1}` : "";
    const name = REPORT.classes[shown].name;
    svg.append(s("a", { href: `#/class/${shown}` },
      s("title", {}, classes.map((c) => REPORT.classes[c].name).join(", ")),
      s("text", { x: names, y: y(row) + 4,
        style: { "font-weight": shown === predicted ? 700 : 400, fill: marked(classes) ? "var(--good)" : "var(--ink)" } },
      (name.length > 40 ? `${name.slice(0, 24)}…${name.slice(-14)}` : name) + rest)));
  }
  return h("div", { class: "scroll" }, svg);
}
