// Regions: what an image shares with the most training images of its class.

/** Colour of heat maps that are of no single feature. */
const HEAT = "#d55e00";

function regionsPage(given) {
  const { images, n_explained: found } = REPORT.regions;
  if (!images.length) {
    return [h("h1", {}, "Regions"),
      h("p", {}, "There are none yet: ", h("code", {}, "qpm explain RUN --representative --image I"), " finds what a test image shares with the most training images of its class, and ",
        h("code", {}, "qpm report RUN"), " shows it here.")];
  }
  const n = Math.max(0, images.findIndex((one) => one.image === given));
  const path = `regions.images.${n}`;
  const one = images[n];
  return [
    h("h1", {}, "Regions"),
    h("p", {}, "Of boundaries that the network draws around an image, those are chosen that leave as many training images as possible of its predicted class, and as few others as any choice can, on the side of the image. ",
      "That is a region of images that the network treats alike."),
    note("Representative interpretations (Lam et al., ICCV 2021)."),
    h("div", { class: "head" }, h("a", { href: `#/image/${one.image}` }, picture(one.image)), h("div", {},
      h("h2", { style: { "margin-top": 0 } }, describe(one.image)),
      facts(["training images taken for the class that are covered", [num(`${path}.n_covered_same`, "integer"), " of ", num(`${path}.n_same`, "integer")]],
        ["others covered", num(`${path}.n_covered_other`, "integer")],
        ["boundaries used", [num(`${path}.n_boundaries`, "integer"), " of ", num(`${path}.n_sampled`, "integer")]],
        one.is_proved ? ["the most that is possible", "proved"] : one.relative_gap === null ? null : ["gap", ["no choice covers over ", num(`${path}.relative_gap`, "percent"), " more"]]),
      regionChoice(path, one))),
    h("h2", {}, "The most similar covered images"),
    h("div", { class: "maps" },
      regionColumn(one, { source: MEDIA.thumbnails[one.image], name: `Test image ${REPORT.images[one.image].index}`, path, heat: one.heat, own: true, label: REPORT.images[one.image].label }),
      one.similar.map((image, k) => regionColumn(one, { source: MEDIA.training[image.training], name: `Training image ${image.index}`,
        path: `${path}.similar.${k}`, heat: image.heat, own: false, label: image.label }))),
    one.similar.length ? null : note("No training image is in the region."),
    note("Below each image: its heat map, for which all have the channel weights of the framed one; its class; the probability of ", classLink(one.class),
      one.similar.length ? "; and its semantic distance to the framed image, by which they are in order. Numbers are those of training images." : "."),
    images.length > 1 ? [h("h2", {}, "Other images"),
      h("ul", { class: "tiles" }, images.map((other) => h("li", {}, h("a", { href: `#/regions/${other.image}`, "aria-current": other === one ? "true" : false },
        picture(other.image), h("span", { class: "name" }, describe(other.image))))))] : null,
    found > images.length ? note(num("regions.n_explained", "integer"), " images have been explained; the first of them are in the report.") : null,
  ];
}

/** How good the choice of boundaries is, and how good the greedy one would have been. */
function regionChoice(path, { method, between, is_proved: proved, has_fewest: fewest, layer, class: c }) {
  const greedy = method === "greedy";
  const names = [...new Set(between.flat().filter((d) => d !== c))];
  return [
    h("p", {}, greedy ? "The boundaries were chosen greedily, as in the paper. " : "",
      proved ? "No other choice of them covers more" : ["No choice of them covers more than ", num(`${path}.bound`, "integer")],
      fewest ? ", and none that covers as many has fewer boundaries." : "."),
    greedy ? null : table(["choice", "of the class covered", "boundaries"], [
      [proved ? "exact" : "best found", num(`${path}.n_covered_same`, "integer"), num(`${path}.n_boundaries`, "integer")],
      ["greedy, as in the paper", num(`${path}.greedy.n_covered_same`, "integer"), num(`${path}.greedy.n_boundaries`, "integer")]]),
    names.length ? h("p", {}, "The boundaries are with: ", names.map((d, n) => [n ? ", " : "", classLink(d)]), ".") : null,
    note(`They lie among the maps behind layer ${layer}.`),
  ];
}

/** An image over its heat map, with the probability of the class and the distance. */
function regionColumn({ class: c }, { source, name, path, heat: place, own, label }) {
  const [height, width] = REPORT.regions.heat_shape;
  const values = decoded(MEDIA.heat[place], 0, height * width);
  return h("div", { class: "heat" + (own ? " own" : ""), style: { "--feature": "var(--accent)" } },
    thumbnail(source, `${name}, ${REPORT.classes[label].name}`),
    mapCanvas(source, values, [height, width], HEAT, `Where ${name.toLowerCase()} is like others taken for ${REPORT.classes[c].name}`),
    h("div", {}, classLink(label)),
    h("div", {}, own ? "this image" : ["image ", num(`${path}.index`, "integer")]),
    h("div", {}, num(`${path}.probability`, "percent")),
    own ? null : h("div", {}, "distance ", num(`${path}.distance`, "fixed3")));
}
