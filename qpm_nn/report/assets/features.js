// Features: the list, and a page for each.

function featuresPage() {
  const list = h("ul", { class: "tiles" }, REPORT.features.map((one, j) =>
    h("li", { "data-name": folded(`${one.feature} ${one.attributes.map((a) => a.name).join(" ")}`) }, h("a", { href: `#/feature/${j}` },
      one.top.length ? heatCanvasTile(one.top[0], j) : h("span", { class: "picture" }),
      h("span", { class: "name" }, `feature ${one.feature}`), " ",
      h("span", { class: "note" }, num(`features.${j}.n_classes`, "integer"), " classes")))));
  return [h("h1", {}, "Features"), note("Each with the test image in which it is the strongest."), filterBox("Filter features", list), list];
}

function heatCanvasTile(i, j) {
  const canvas = heatCanvas(i, j);
  canvas.classList.add("picture");
  return canvas;
}

function featurePage(j) {
  const one = REPORT.features[j];
  if (!one) return missing("feature", j);
  const side = (sign) => one.classes.filter(([, weight]) => Math.sign(weight) === sign).map(([c]) => c);
  const [own, against] = [side(1), side(-1)];
  const list = (cs) => cs.map((c, n) => [n ? ", " : "", classLink(c)]);
  return [
    h("h1", {}, h("span", { class: "chip", style: { "--feature": one.colour } }, h("i")), `Feature ${one.feature}`),
    facts(["classes have it", num(`features.${j}.n_classes`, "integer")], ["contrastiveness", num(`features.${j}.contrastiveness`, "fixed3")],
      ["mean where active", num(`features.${j}.active_mean`, "fixed2")],
      ["of the training images activate it", num(`features.${j}.share_active`, "percent")]),
    h("p", {}, own.length ? ["Classes: ", list(own)] : "No class has it."),
    against.length ? h("p", {}, "It counts against: ", list(against)) : null,
    h("h2", {}, "Where it is the strongest"),
    one.top.length ? h("div", { class: "maps" }, one.top.map((i) => h("div", { class: "heat", style: { "--feature": one.colour } },
      h("a", { href: `#/image/${i}` }, heatCanvas(i, j)), num(`images.${i}.features.${j}`, "signed2"), " ", classLink(REPORT.images[i].label)))) : note("There is no test image."),
    h("h2", {}, "How it is distributed"),
    one.modes.length ? h("figure", {}, histogramChart(one),
      h("figcaption", {}, "Training images; the lines are the two normals that fit best. The less they overlap, the more contrastive the feature."))
      : note("The feature is the same in all training images."),
    h("h2", {}, "Features most like it"),
    table(["feature", "cosine similarity"], one.nearest.map((near, n) => [chip(near.feature), num(`features.${j}.nearest.${n}.similarity`, "fixed3")])),
    one.attributes.length ? [h("h2", {}, "Attributes"),
      table(["attribute", "alignment"], one.attributes.map(({ name }, n) => [name, num(`features.${j}.attributes.${n}.alignment`, "fixed3")]))] : null,
  ];
}
