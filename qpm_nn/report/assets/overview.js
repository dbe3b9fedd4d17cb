// The first page: what the model is, how good it is, how its assignment was found.

function overviewPage() {
  const { run, solution, metrics } = REPORT;
  const own = metrics.columns.length - 1;
  const row = (name) => metrics.rows.findIndex((one) => one.name === name);
  const metric = (name, format) => num(`metrics.rows.${row(name)}.values.${own}`, format);
  return [
    h("h1", {}, REPORT.title),
    h("p", {}, run.is_assignment
      ? "Every class is a set of a few features, which all classes share. What a class scores is the sum of its features"
      : "Every class is a weighted sum of a few features, which all classes share, and perhaps a bias",
      run.is_assignment && REPORT.classes.some((one) => one.features.some(([, weight]) => weight < 0)) ? ", less those that count against it" : "",
      ". A feature is a map of an image: it tells where, and its mean tells how much. So every answer of the model can be taken apart."),
    facts(
      row("accuracy") >= 0 ? ["of the test images recognised", metric("accuracy", "percent")] : null,
      ["classes", num("run.n_classes", "integer")],
      ["features in all", num("run.n_selected", "integer")],
      run.n_per_class !== null ? ["features of each class", num("run.n_per_class", "integer")] : null,
      solution && solution.relative_gap !== null ? ["gap of the assignment", num("solution.relative_gap", "percent3")] : null),
    solution && solution.relative_gap !== null ? note(solution.has_certificate
      ? "The gap: no assignment is better than this one by more. The bound has a certificate, which qpm verify checks."
      : "The gap is by a bound that cannot be checked: the word of the method or its solver.") : null,
    h("h2", {}, "Classes at a glance"),
    matrixCanvas(),
    h("h2", {}, "Metrics"),
    metricsTable(),
    solution ? solutionPart() : null,
    h("h2", {}, "Made with"),
    note(Object.entries(run.settings).map(([key, value]) => `${key} ${value}`).join(" · ")),
    note(Object.entries(REPORT.versions).map(([key, value]) => `${key} ${value}`).join(" · ")),
  ];
}

function metricsTable() {
  const { columns, rows, published } = REPORT.metrics;
  const sign = { higher: "↑", lower: "↓" };
  return h("figure", {},
    table(
      ["metric", ...columns, ...published.map((one) => `${one.model}, ${one.dataset}`)],
      rows.map(({ label, better, format, values }, r) => [
        `${label} ${sign[better] || ""}`,
        ...values.map((_, k) => num(`metrics.rows.${r}.values.${k}`, format)),
        ...published.map((_, k) => num(`metrics.published.${k}.values.${r}`, format))])),
    h("figcaption", {}, "↑ higher is better, ↓ lower is better. The last columns are from tables 2 to 4 of the QPM paper (ICLR 2025), ",
      "for ResNet-50; other data, so for orientation only, unless the data set is the same."));
}

function solutionPart() {
  const { solution } = REPORT;
  const parts = Object.keys(solution.objective_parts);
  return [
    h("h2", {}, "How the assignment was found"),
    h("p", {}, `Method ${solution.method}`, solution.solver ? `, solver ${solution.solver}` : "", `; it ended with ${solution.termination_condition}.`),
    table(["objective", "bound", "gap", ...parts, "time"],
      [[num("solution.objective", "fixed6"), num("solution.bound", "fixed6"), num("solution.relative_gap", "percent3"),
        ...parts.map((part) => num(`solution.objective_parts.${part}`, "fixed6")), num("solution.wall_time", "seconds")]]),
    solution.bound_kind ? note(`Bound: ${solution.bound_kind}${solution.has_certificate ? ", with a certificate" : ", without a certificate"}.`) : null,
    solution.demands ? note(`Under demands: ${JSON.stringify(solution.demands)}`) : null,
    h("figure", {}, traceChart(solution.trace), solution.trace.length ? h("figcaption", {}, "The best assignment found", solution.bound === null ? "" : ", and the bound", ". The axis begins where something is to be seen.") : null),
  ];
}

/** Classes by features, clustered; a click opens a class. */
function matrixCanvas() {
  const { classes: rows, features: columns } = REPORT.map;
  const cell = rows.length <= 60 ? 14 : rows.length <= 250 ? 5 : 3;
  const wide = Math.max(cell, Math.min(22, Math.floor(1000 / columns.length)));
  const ratio = 2;
  const canvas = h("canvas", { width: columns.length * wide * ratio, height: rows.length * cell * ratio, role: "img",
    "aria-label": `Matrix of ${rows.length} classes and ${columns.length} features; the classes are also listed under Classes`,
    style: { width: `${columns.length * wide}px`, height: `${rows.length * cell}px`, display: "block", cursor: "pointer", border: "1px solid var(--line)" } });
  const tip = h("div", { class: "tip", "aria-hidden": "true" }, "Rows are classes, columns features; similar ones stand side by side. Point at a cell.");
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  rows.forEach((c, y) => columns.forEach((j, x) => {
    const weight = weightOf(c, j);
    if (!weight) return;
    context.fillStyle = REPORT.features[j].colour;
    const gap = cell > 8 ? 1.5 : 0.5;
    if (weight > 0) context.fillRect(x * wide + gap, y * cell + gap, wide - 2 * gap, cell - 2 * gap);
    else {
      context.strokeStyle = REPORT.features[j].colour;
      context.lineWidth = Math.min(2, cell / 3);
      context.strokeRect(x * wide + gap + 1, y * cell + gap + 1, wide - 2 * gap - 2, cell - 2 * gap - 2);
    }
  }));
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const y = Math.min(rows.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / cell)));
    const x = Math.min(columns.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / wide)));
    return [rows[y], columns[x]];
  };
  canvas.addEventListener("mousemove", (event) => {
    const [c, j] = cellAt(event);
    const weight = weightOf(c, j);
    tip.textContent = `${REPORT.classes[c].name} ${weight > 0 ? "has" : weight < 0 ? "is spoken against by" : "does not have"} ${featureName(j)}`;
  });
  canvas.addEventListener("click", (event) => { location.hash = `#/class/${cellAt(event)[0]}`; });
  return h("figure", {}, h("div", { class: "scroll" }, canvas), tip);
}
