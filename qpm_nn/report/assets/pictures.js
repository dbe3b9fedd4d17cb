// Photographs, and feature maps over them.

const loaded = new Map();

/** A thumbnail, decoded once. */
function photograph(source) {
  if (!loaded.has(source)) {
    const image = new Image();
    image.src = source;
    loaded.set(source, image.decode().then(() => image));
  }
  return loaded.get(source);
}

const verdict = (i) => {
  const { label, predicted } = REPORT.images[i];
  return label === predicted ? "recognised" : `taken for ${REPORT.classes[predicted].name}`;
};

function describe(i) {
  const { label } = REPORT.images[i];
  return `${REPORT.classes[label].name}, ${verdict(i)}`;
}

function picture(i) {
  if (i === null || i === undefined) return h("span", { class: "picture", role: "img", "aria-label": "no image" });
  return thumbnail(MEDIA.thumbnails[i], describe(i));
}

function thumbnail(source, alt) {
  const tiny = REPORT.run.thumbnail < 64;
  return h("img", { class: "picture" + (tiny ? " tiny" : ""), src: source, alt, loading: "lazy" });
}

/** Intensities 0 to 1 of a feature in an image, or null where the report has none. */
function intensities(i, j) {
  const place = REPORT.images[i].maps.indexOf(j);
  if (place < 0) return null;
  const [height, width] = REPORT.run.map_shape;
  return decoded(MEDIA.maps[i], place * height * width, height * width);
}

/** Some of the coded bytes, as 0 to 1. */
function decoded(code, start, n) {
  const bytes = atob(code);
  return Array.from({ length: n }, (_, k) => bytes.charCodeAt(start + k) / 255);
}

const PIXELS = 160;

function rgb(colour) {
  return [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
}

/** The map of a feature over the faded grey photograph, in the colour of the feature. */
function heatCanvas(i, j) {
  return mapCanvas(MEDIA.thumbnails[i], intensities(i, j), REPORT.run.map_shape, REPORT.features[j].colour,
    `${featureName(j)} in an image of ${describe(i)}`);
}

/** A map over a faded grey photograph; without values the photograph alone. */
function mapCanvas(source, values, [height, width], colour, label) {
  const canvas = h("canvas", { width: PIXELS, height: PIXELS, role: "img", "aria-label": label });
  photograph(source).then((image) => {
    const context = canvas.getContext("2d");
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, PIXELS, PIXELS);
    context.imageSmoothingEnabled = image.width >= 64;
    context.filter = "grayscale(1)";
    context.globalAlpha = 0.5;
    context.drawImage(image, 0, 0, PIXELS, PIXELS);
    context.filter = "none";
    context.globalAlpha = 1;
    if (!values) return;
    const [red, green, blue] = rgb(colour);
    const grid = new OffscreenCanvas(width, height);
    const data = new ImageData(width, height);
    values.forEach((value, n) => data.data.set([red, green, blue, Math.round(240 * value)], 4 * n));
    grid.getContext("2d").putImageData(data, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(grid, 0, 0, PIXELS, PIXELS);
  });
  return canvas;
}

/** A heat map with the feature's value below; framed if the feature belongs to a class. */
function heat(i, j, c = null) {
  const weight = c === null ? 0 : weightOf(c, j);
  return h("div", { class: "heat" + (weight ? " own" : "") + (weight < 0 ? " against" : ""), style: { "--feature": REPORT.features[j].colour } },
    heatCanvas(i, j), chip(j), h("div", {}, num(`images.${i}.features.${j}`, "signed2")));
}

/** Features of a class by their places. */
const featuresOf = (c) => REPORT.classes[c].features.map(([j]) => j);

function weightOf(c, j) {
  const found = REPORT.classes[c].features.find(([one]) => one === j);
  return found ? found[1] : 0;
}

/** Tiles that lead to images. */
function imageTiles(images, label = describe) {
  if (!images.length) return note("No image of this kind is in the report.");
  return h("ul", { class: "tiles" }, images.map((i) =>
    h("li", {}, h("a", { href: `#/image/${i}` }, picture(i), h("span", { class: "name" }, label(i))))));
}
