// Classes: the list, a page for each, and comparisons.

function classesPage() {
  const list = h("ul", { class: "tiles" }, REPORT.classes.map((one, c) =>
    h("li", { "data-name": folded(one.name) }, h("a", { href: `#/class/${c}` }, picture(one.example),
      h("span", { class: "name" }, one.name), " ", h("span", { class: "note" }, one.accuracy === null ? "no test image" : num(`classes.${c}.accuracy`, "percent"))))));
  return [h("h1", {}, "Classes"), filterBox("Filter classes", list), list];
}

function filterBox(label, list) {
  const input = h("input", { type: "search", placeholder: label, "aria-label": label,
    oninput: () => {
      for (const item of list.children) item.hidden = !item.dataset.name.includes(folded(input.value));
    } });
  return h("p", {}, input);
}

function classPage(c) {
  const one = REPORT.classes[c];
  if (!one) return missing("class", c);
  const [own, against] = [1, -1].map((sign) => one.features.filter(([, weight]) => Math.sign(weight) === sign).map(([j]) => j));
  const hasWeights = one.features.some(([, weight]) => Math.abs(weight) !== 1);
  return [
    h("h1", {}, one.name),
    one.parents.length ? note(one.parents.join(" › ")) : null,
    h("div", { class: "head" }, one.example === null ? null : h("a", { href: `#/image/${one.example}` }, picture(one.example)),
      h("div", {},
        h("p", {}, "Features: ", chips(own)),
        against.length ? h("p", {}, "Against it: ", against.map((j) => chip(j, true))) : null,
        hasWeights ? [h("h3", {}, "Weights"), bars(`classes.${c}.features`)] : null,
        facts(["test images", num(`classes.${c}.n_images`, "integer")], ["of them recognised", num(`classes.${c}.n_correct`, "integer")]))),
    one.example === null ? null : [
      h("h2", {}, "Where the features look"),
      h("div", { class: "maps" }, featuresOf(c).map((j) => heat(one.example, j, c))),
      note(exampleNote(one.example, c))],
    h("h2", {}, "Classes most like it"),
    table(["class", "shared features", "only here", "only there", ""],
      one.nearest.map(({ class: other, only_here, only_there }, n) => [
        classLink(other), num(`classes.${c}.nearest.${n}.n_shared`, "integer"), chips(only_here), chips(only_there),
        h("a", { href: `#/compare/${c}/${other}` }, "compare")])),
    one.confused_with.length ? [h("h2", {}, "Taken for others"),
      table(["taken for", "images", ""], one.confused_with.map((e) => [classLink(REPORT.errors[e].predicted), num(`errors.${e}.count`, "integer"), h("a", { href: `#/error/${e}` }, "why")]))] : null,
    h("h2", {}, "Images"),
    imageTiles(one.images, verdict),
  ];
}

function exampleNote(i, c) {
  const right = REPORT.images[i].predicted === c;
  return (right ? "A recognised image whose features of this class are strong and apart. " : "The model recognises no image of this class; this one is misclassified. ")
    + "A map is as intense as the feature is certain: fully at its mean over images in which it is active. Numbers are standard deviations from the mean of all images.";
}

function comparePage(...given) {
  const chosen = [...new Set(given.filter((c) => REPORT.classes[c]))];
  if (!chosen.length) chosen.push(...REPORT.map.closest);
  const signed = (c, j) => Math.sign(weightOf(c, j));
  const union = [...new Set(chosen.flatMap(featuresOf))];
  // Who has a feature, and with what sign, decides its group.
  const owners = (j) => chosen.filter((c) => weightOf(c, j));
  const shared = union.filter((j) => owners(j).length === chosen.length && new Set(chosen.map((c) => signed(c, j))).size === 1);
  const groups = chosen.map((c) => [`only ${REPORT.classes[c].name}`, union.filter((j) => owners(j).length === 1 && weightOf(c, j))]);
  groups.splice(1, 0, ["shared by all", shared]);
  const rest = union.filter((j) => !shared.includes(j) && owners(j).length > 1);
  groups.splice(2, 0, [chosen.length > 2 ? "shared by some" : "with opposite signs", rest]);
  const columns = chosen.length > 1 ? groups.filter(([, js]) => js.length) : [["features", union]];
  const remove = (c) => (chosen.length > 2 ? h("div", {}, h("a", { href: `#/compare/${chosen.filter((d) => d !== c).join("/")}`, "aria-label": `without ${REPORT.classes[c].name}` }, "remove")) : null);
  const names = h("datalist", { id: "names" }, REPORT.classes.map((one) => h("option", { value: one.name })));
  const input = h("input", { list: "names", placeholder: "Add a class", "aria-label": "Add a class to the comparison",
    onchange: () => {
      const c = REPORT.classes.findIndex((one) => one.name === input.value);
      if (c >= 0 && !chosen.includes(c)) location.hash = `#/compare/${[...chosen, c].join("/")}`;
    } });
  return [
    h("h1", {}, chosen.map((c) => REPORT.classes[c].name).join(", ")),
    h("p", {}, input, names),
    h("div", { class: "scroll" }, h("table", { class: "compare" },
      h("thead", {}, h("tr", {}, h("th", {}, ""), columns.map(([name, js]) => h("th", { class: "group", colspan: js.length, scope: "colgroup" }, name)))),
      h("tbody", {}, chosen.map((c) => {
        const example = REPORT.classes[c].example;
        return h("tr", {},
          h("td", { class: "class" }, example === null ? null : h("a", { href: `#/image/${example}` }, picture(example)), classLink(c), remove(c)),
          columns.map(([, js]) => js.map((j) => h("td", {}, example === null ? chip(j) : heat(example, j, c)))));
      })))),
    note("A frame marks the features of the class in whose row the image stands; a dashed one those that count against it. Every map has the colour of its feature, in all pages of this report."),
  ];
}
