// Prediction sets: choose an image, move the coverage, watch the set and the tree.

let coverage = null;

function setsPage(given) {
  const { sets } = REPORT;
  if (!sets) return [h("h1", {}, "Prediction sets"), h("p", {}, "This model is not calibrated.")];
  const n = Math.max(0, sets.images.findIndex((one) => one.image === given));
  const { image } = sets.images[n];
  if (coverage === null) coverage = sets.initial;
  const output = h("output", { for: "coverage" });
  const part = h("div", { "aria-live": "polite" });
  const show = () => {
    output.replaceChildren(num(`sets.coverages.${coverage}.demanded`, "percent"));
    part.replaceChildren(...flat(setPart(n, coverage)));
  };
  const slider = h("input", { type: "range", id: "coverage", min: 0, max: sets.coverages.length - 1, step: 1, value: coverage,
    oninput: () => { coverage = Number(slider.value); slider.setAttribute("aria-valuetext", text(sets.coverages[coverage].demanded, "percent")); show(); } });
  slider.setAttribute("aria-valuetext", text(sets.coverages[coverage].demanded, "percent"));
  show();
  return [
    h("h1", {}, "Prediction sets"),
    h("p", {}, "A set holds the class of an image with the probability that is demanded, on average over images like those that calibrated it. ",
      "The more is demanded, the farther up the tree it reaches: to classes that share fewer of the strongest features with the prediction, or lack more of its evidence."),
    note(`Hierarchical sets${sets.method === "chiqpm" ? " of CHiQPM's score" : ""}, calibrated with part of the test images`,
      sets.by_class ? ", every class by itself," : "", " and measured on the others. ",
      sets.model_method === sets.method ? "" : `The model itself has sets of another method, ${sets.model_method.toUpperCase()}. `),
    h("div", { class: "head" }, h("a", { href: `#/image/${image}` }, picture(image)), h("div", {},
      h("h2", { style: { "margin-top": 0 } }, describe(image)),
      h("div", { class: "slider" }, h("label", { for: "coverage" }, "Coverage demanded: "), output, slider),
      h("div", { class: "maps" }, REPORT.images[image].contributions.map(([j]) => heat(image, j, REPORT.images[image].predicted))))),
    part,
    h("h2", {}, "Other images"),
    h("ul", { class: "tiles" }, sets.images.map((one) => h("li", {}, h("a", { href: `#/sets/${one.image}`, "aria-current": one.image === image ? "true" : false },
      picture(one.image), h("span", { class: "name" }, describe(one.image)))))),
  ];
}

function setPart(n, k) {
  const path = `sets.images.${n}`;
  const { image, sets: members, local } = at(path);
  const { predicted } = REPORT.images[image];
  // The last entry that begins at or before this coverage.
  const entry = members.reduce((last, [start], m) => (start <= k ? m : last), 0);
  const inside = members[entry][1];
  const inTree = new Set();
  const collect = ([, ends, children]) => { ends.forEach((c) => inTree.add(c)); children.forEach(collect); };
  collect(local);
  const scope = inside.every((c) => inTree.has(c)) ? "local" : "global";
  return [
    facts(["classes in the set", num(`${path}.sets.${entry}.2`, "integer")],
      ["mean size, of images that did not calibrate", num(`sets.coverages.${k}.mean_size`, "fixed2")],
      ["of them covered", num(`sets.coverages.${k}.covered`, "percent")],
      ...limits(k)),
    h("ul", { class: "members" }, inside.slice(0, 40).map((c) => h("li", { class: c === predicted ? "top" : "" }, classLink(c))),
      inside.length > 40 ? h("li", {}, `and ${inside.length - 40} more`) : null),
    h("figure", {}, treeDrawing(`${path}.${scope}`, predicted, inside),
      h("figcaption", {}, scope === "local" ? "Classes that share the strongest feature with the prediction. " : "All classes: the set reaches beyond those that share the strongest feature. ",
        "A node has a feature and its activation; green leads to classes of the set, bold is the prediction.")),
  ];
}

/** What the classes of a set have in common, unless every class has rules of its own. */
function limits(k) {
  const { by_class: byClass, method, coverages } = REPORT.sets;
  if (byClass) return [];
  const shared = ["leading features that classes must share", num(`sets.coverages.${k}.level`, "integer")];
  if (method === "chiqpm") return [shared];
  const { threshold } = coverages[k];
  return [shared, ["evidence that they may lack", threshold === null ? "any" : num(`sets.coverages.${k}.threshold`, "fixed2")]];
}
