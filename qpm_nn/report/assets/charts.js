// Line, bar and scatter charts.

function ticks(low, high, n = 5) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9 * span; value += step) found.push(value);
  return found.map((value) => [value, String(+value.toPrecision(6))]);
}

/** Axes with a scale each; returns the drawing and the two scales. */
function axes({ width = 640, height = 260, x, y, xLabel, yLabel, title }) {
  const [left, right, top, bottom] = [62, 14, 10, 44];
  const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const X = scale(x, left, width - right);
  const Y = scale(y, height - bottom, top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, class: "chart", role: "img", "aria-label": title },
    ticks(...y).map(([value, label]) => [
      s("line", { class: "grid", x1: left, x2: width - right, y1: Y(value), y2: Y(value) }),
      s("text", { x: left - 6, y: Y(value) + 4, "text-anchor": "end" }, label)]),
    ticks(...x).map(([value, label]) => s("text", { x: X(value), y: height - bottom + 17, "text-anchor": "middle" }, label)),
    s("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    s("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    s("text", { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return { svg, X, Y };
}

/** Incumbent and bound over time. */
function traceChart(trace) {
  const points = (k) => trace.filter((row) => row[k] !== null);
  const [incumbents, bounds] = [points(1), points(2)];
  const values = [...incumbents.map((row) => row[1]), ...bounds.map((row) => row[2])];
  if (!values.length) return note("The solver reported no progress.");
  const end = Math.max(...trace.map((row) => row[0]), 1e-3);
  // What is far above the last bound is from the first moments; it would flatten all the rest.
  const best = Math.max(...incumbents.map((row) => row[1]));
  const worst = Math.min(...incumbents.map((row) => row[1]), best);
  const final = bounds.length ? bounds[bounds.length - 1][2] : best;
  const room = Math.max(final - best, 0.02 * Math.abs(best), 1e-9);
  const y = [Math.max(Math.min(worst, final), best - 4 * room) - 0.2 * room, Math.min(Math.max(...values), final + 4 * room) + 0.2 * room];
  const { svg, X, Y } = axes({ x: [0, end], y, xLabel: "seconds", yLabel: "objective", title: "Incumbent and bound over time" });
  const clip = (value) => Math.min(Math.max(value, y[0]), y[1]);
  const draw = (rows, k, colour, name) => {
    if (!rows.length) return;
    let path = `M${X(rows[0][0])} ${Y(clip(rows[0][k]))}`;
    rows.slice(1).forEach((row) => { path += `H${X(row[0])}V${Y(clip(row[k]))}`; });
    path += `H${X(end)}`;
    svg.append(s("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2.5 }));
    const last = Y(clip(rows[rows.length - 1][k]));
    svg.append(s("text", { x: X(end) - 4, y: last + (k === 1 ? 16 : -7), "text-anchor": "end", style: { fill: colour, "font-weight": 600 } }, name));
  };
  draw(bounds, 2, "var(--bad)", "bound");
  draw(incumbents, 1, "var(--accent)", "incumbent");
  return h("div", { class: "scroll" }, svg);
}

/** Histogram of a feature with the two normals that were fitted to it. */
function histogramChart({ edges, counts, modes, colour }) {
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const density = counts.map((n, k) => n / total / (edges[k + 1] - edges[k] || 1));
  const curve = (value) => modes.map(({ mean, std, weight }) =>
    std > 0 ? (weight / std / Math.sqrt(2 * Math.PI)) * Math.exp(-0.5 * ((value - mean) / std) ** 2) : 0);
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const grid = Array.from({ length: 161 }, (_, n) => low + ((high - low) * n) / 160);
  // Bars decide the scale, for a narrow mode may be far higher than its bar; and not the bar of the
  // zeros, beside which no other would be seen.
  const [highest, next] = [...density].sort((a, b) => b - a);
  const cut = next > 0 && highest > 3 * next;
  const top = cut ? 1.6 * next : 1.15 * highest;
  const { svg, X, Y } = axes({ x: [low, high], y: [0, top], xLabel: "activation (standard deviations from the mean)", yLabel: "density", title: "Histogram of activations" });
  density.forEach((value, k) => svg.append(s("rect", { x: X(edges[k]), width: Math.max(0.5, X(edges[k + 1]) - X(edges[k]) - 0.5), y: Y(Math.min(top, value)), height: Y(0) - Y(Math.min(top, value)), fill: colour, opacity: 0.75 })));
  if (cut) svg.append(s("text", { x: X(edges[density.indexOf(highest) + 1]) + 6, y: Y(top) + 12 }, `← goes on to ${highest.toFixed(1)}`));
  modes.forEach((_, m) => {
    const path = grid.map((value, n) => `${n ? "L" : "M"}${X(value).toFixed(1)} ${Y(Math.min(top, curve(value)[m])).toFixed(1)}`).join("");
    svg.append(s("path", { d: path, fill: "none", stroke: "var(--ink)", "stroke-width": 1.8, "stroke-dasharray": m ? "6 4" : "none" }));
  });
  return h("div", { class: "scroll" }, svg);
}

/** Points of pairs of classes; each leads to the comparison of the two. */
function pairScatter({ points, xLabel, yLabel, title }) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  const pad = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = 0.05 * (high - low || 1);
    return [low - room, high + room];
  };
  const { svg, X, Y } = axes({ width: 640, height: 420, x: pad(xs), y: pad(ys), xLabel, yLabel, title });
  points.forEach(([x, y, c, other]) => svg.append(
    s("a", { href: `#/compare/${c}/${other}` },
      s("title", {}, `${REPORT.classes[c].name} and ${REPORT.classes[other].name}`),
      s("circle", { cx: X(x), cy: Y(y), r: 3.2, fill: "var(--accent)", opacity: 0.55 }))));
  return h("div", { class: "scroll" }, svg);
}
