// A page for an image, the errors, and the global map.

function imagePage(i) {
  const one = REPORT.images[i];
  if (!one) return missing("image", i);
  const path = `images.${i}`;
  const { label, predicted, second } = one;
  const right = label === predicted;
  return [
    h("h1", {}, REPORT.classes[label].name, ", ", h("span", { class: right ? "good" : "bad" }, verdict(i))),
    h("div", { class: "head" }, picture(i),
      h("div", {},
        h("p", {}, "Test image ", num(`${path}.index`, "integer"), ". Class: ", classLink(label), ". Prediction: ", classLink(predicted), "."),
        h("h2", {}, "Why ", REPORT.classes[predicted].name),
        bars(`${path}.contributions`),
        one.bias ? note("and ", num(`${path}.bias`, "signed2"), ", the bias of the class") : null,
        h("p", {}, "Together they are the logit, ", num(`${path}.logit`, "signed2"), "."))),
    h("div", { class: "maps" }, one.contributions.map(([j]) => heat(i, j, predicted))),
    second === null ? null : [
      h("h2", {}, "Why not ", REPORT.classes[second].name),
      h("p", {}, "The class with the second largest logit, ", num(`${path}.second_logit`, "signed2"), ". These features decide between the two:"),
      bars(`${path}.deciding`),
      one.bias_difference ? note("and ", num(`${path}.bias_difference`, "signed2"), ", the difference of the biases") : null,
      h("p", {}, "Together they are the difference of the logits, ", num(`${path}.difference`, "signed2"), ". ",
        h("a", { href: `#/compare/${predicted}/${second}` }, "Compare the classes")),
      h("div", { class: "maps" }, one.deciding.filter(([j]) => !weightOf(predicted, j)).map(([j]) => heat(i, j, predicted)))],
    right || label === second ? null : [
      h("h2", {}, "What speaks against ", REPORT.classes[label].name),
      bars(`${path}.against_label`),
      one.label_bias_difference ? note("and ", num(`${path}.label_bias_difference`, "signed2"), ", the difference of the biases") : null,
      h("p", {}, "Together they are the difference of the logits, ", num(`${path}.label_difference`, "signed2"), ".")],
    one.counterfactual ? counterfactualPart(`${path}.counterfactual`) : null,
    one.group ? groupPart(`${path}.group`, predicted) : null,
    REPORT.sets && REPORT.sets.images.some((x) => x.image === i) ? h("p", {}, h("a", { href: `#/sets/${i}` }, "Its prediction sets and tree")) : null,
    REPORT.regions.images.some((x) => x.image === i) ? h("p", {}, h("a", { href: `#/regions/${i}` }, "Its region, and the training images most like it")) : null,
  ];
}

function counterfactualPart(path) {
  const { class: c, changes, reachable, fewest } = at(path);
  const name = REPORT.classes[c].name;
  return [
    h("h2", {}, "What would make it ", name),
    reachable
      ? [h("p", {}, fewest ? "The fewest features that would have to change for it to be ahead by 0.001, within what training images show: " : "So many changes of features suffice, within what training images show: ", num(`${path}.n_changes`, "integer"), ". For example:"),
        table(["feature", "is", "would be"], changes.map(([j], n) => [chip(j), num(`${path}.changes.${n}.1`, "signed3"), num(`${path}.changes.${n}.2`, "signed3")]))]
      : h("p", {}, reachable === false ? "No change of features within what training images show makes it one." : "It took too long to find out."),
  ];
}

function groupPart(path, c) {
  const { active, inactive, rivals, rivals_proved: fewest } = at(path);
  return [
    h("h2", {}, "What it shares with others"),
    h("p", {}, num(`${path}.n_same`, "integer"), " of ", num(`${path}.n_class`, "integer"), " training images that are taken for ", classLink(c),
      ", and ", num(`${path}.n_other`, "integer"), " others, agree with it in these features; no other choice of features leaves out as many others and has more than ",
      num(`${path}.bound`, "integer"), " of them."),
    h("p", {}, "Active: ", chips(active)),
    h("p", {}, "Not active: ", chips(inactive)),
    h("p", {}, "Whoever is ahead of ", num(`${path}.n_rivals`, "integer"), " rivals is taken for ", classLink(c), " among the training images",
      fewest ? " (they are the fewest possible): " : [" (at least ", num(`${path}.rivals_bound`, "integer"), " are needed): "],
      rivals.map((other, n) => [n ? ", " : "", classLink(other)]), "."),
  ];
}

function errorsPage() {
  const { errors } = REPORT;
  return [
    h("h1", {}, "Errors"),
    facts(["test images", num("run.n_test", "integer")], ["misclassified", num("run.n_errors", "integer")],
      REPORT.run.n_errors ? ["of them between classes that one feature separates", num("run.errors_one_feature", "percent")] : null,
      REPORT.run.n_errors && REPORT.run.pairs_one_feature !== null ? ["of all pairs of classes are such", num("run.pairs_one_feature", "percent")] : null),
    errors.length ? null : h("p", {}, "There are none."),
    errors.length ? table(["class", "taken for", "images", "above all because of", ""], errors.map((one, e) => [
      classLink(one.label), classLink(one.predicted), num(`errors.${e}.count`, "integer"),
      chips(one.features.slice(0, 2).map(([j]) => j)),
      h("a", { href: `#/error/${e}` }, "look")])) : null,
  ];
}

function errorPage(e) {
  const one = REPORT.errors[e];
  if (!one) return missing("error", e);
  const c = one.predicted;
  return [
    h("h1", {}, REPORT.classes[one.label].name, " taken for ", REPORT.classes[c].name),
    h("p", {}, num(`errors.${e}.count`, "integer"), " test images. ", h("a", { href: `#/compare/${one.label}/${c}` }, "Compare the classes")),
    h("h2", {}, "Features that explain it"),
    note("Means over these images of what each feature adds to the logit of the wrong class rather than of the right one. ",
      one.pushes[0] === null || one.pushes[0] === undefined ? "" : "The first is the one that differs the most, towards the mistake, from recognised images of the class."),
    bars(`errors.${e}.features`),
    one.bias ? note("and ", num(`errors.${e}.bias`, "signed2"), ", the difference of the biases") : null,
    h("p", {}, "Together they are the mean difference of the logits, ", num(`errors.${e}.difference`, "signed2"), "."),
    h("h2", {}, "Images"),
    one.images.map((i) => h("div", { class: "maps" },
      h("div", { class: "heat" }, h("a", { href: `#/image/${i}` }, picture(i))),
      one.features.map(([j]) => heat(i, j, c)))),
  ];
}

function mapPage() {
  const { graph, grounding } = REPORT.map;
  return [
    h("h1", {}, "Global map"),
    h("h2", {}, "All classes and features"),
    matrixCanvas(),
    h("h2", {}, "Classes that differ in one feature"),
    graph.edges.length ? graphDrawing(graph) : note("No two classes differ in one feature alone."),
    grounding ? [h("h2", {}, "Similar classes have similar features"),
      h("figure", {}, pairScatter({ points: grounding.points, xLabel: grounding.given, yLabel: "similarity of their features", title: "Structural grounding" }),
        h("figcaption", {}, `Pairs of classes, if they are many a sample: how alike they are by ${grounding.given}, and in their features. Rank correlation of all `,
          num("map.grounding.n_pairs", "integer"), " pairs: ", num("map.grounding.rank_correlation", "fixed3"), ". Structural grounding: ", num("map.grounding.structural_grounding", "percent"), "."))] : null,
  ];
}

function graphDrawing({ width, height, nodes, edges }) {
  const unit = 112;
  const places = new Map(nodes.map(([c, x, y]) => [c, [70 + unit * x, 30 + unit * (height - y)]]));
  const [X, Y] = [0, 1].map((k) => (c) => places.get(c)[k]);
  const inside = nodes.map(([c]) => c);
  const size = [unit * width + 140, unit * height + 50];
  const svg = s("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], class: "wide", role: "img", "aria-label": "Graph of classes that differ in one feature" },
    edges.map(([c, d]) => s("a", { href: `#/compare/${c}/${d}` }, s("title", {}, `${REPORT.classes[c].name} and ${REPORT.classes[d].name}`),
      s("line", { x1: X(c), y1: Y(c), x2: X(d), y2: Y(d), stroke: "var(--muted)", "stroke-width": 2, opacity: 0.6 }))),
    inside.map((c) => {
      const name = REPORT.classes[c].name;
      return s("a", { href: `#/class/${c}` }, s("title", {}, name),
        s("circle", { cx: X(c), cy: Y(c), r: 5, fill: "var(--accent)" }),
        s("text", { x: X(c), y: Y(c) - 8, "text-anchor": "middle", style: { "font-size": "10px" } }, name.length > 15 ? `${name.slice(0, 5)}…${name.slice(-8)}` : name));
    }));
  return h("figure", {}, h("div", { class: "scroll" }, svg), h("figcaption", {}, "Classes without such a neighbour are left out. A line leads to the comparison of two classes."));
}
