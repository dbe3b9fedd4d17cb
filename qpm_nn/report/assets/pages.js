// Addresses, search, and colours of the page.

const PAGES = {
  "": ["Overview", overviewPage],
  classes: ["Classes", classesPage],
  features: ["Features", featuresPage],
  compare: ["Compare", comparePage],
  errors: ["Errors", errorsPage],
  map: ["Map", mapPage],
  sets: ["Sets", setsPage],
  regions: ["Regions", regionsPage],
};
const DETAILS = { class: classPage, feature: featurePage, image: imagePage, error: errorPage };
const BELONGS = { class: "classes", feature: "features", error: "errors" };

const flat = (parts) => [parts].flat(Infinity).filter((part) => part !== null && part !== undefined && part !== false);
const folded = (name) => name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

function missing(kind, which) {
  return [h("h1", {}, "Not in this report"), h("p", {}, `There is no ${kind} ${which}.`)];
}

function show() {
  const [, name = "", ...rest] = location.hash.split("/");
  const page = Object.hasOwn(DETAILS, name) ? DETAILS[name] : PAGES[Object.hasOwn(PAGES, name) ? name : ""][1];
  const main = document.querySelector("main");
  main.replaceChildren(...flat(page(...rest.map(Number))));
  const heading = main.querySelector("h1");
  document.title = heading.textContent === REPORT.title ? REPORT.title : `${heading.textContent} · ${REPORT.title}`;
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.getAttribute("href") === `#/${BELONGS[name] || name}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  return main;
}

function searchBox() {
  const results = h("ul", { hidden: true, "aria-label": "Results" });
  const input = h("input", { type: "search", placeholder: "Class or feature", "aria-label": "Search classes and features", autocomplete: "off", oninput: () => {
    const wanted = folded(input.value.trim());
    const hits = wanted ? [
      ...REPORT.classes.map((one, c) => [folded(one.name), one.name, `#/class/${c}`]),
      ...REPORT.features.map((one, j) => [`feature ${one.feature} ${folded(one.attributes.map((a) => a.name).join(" "))}`, `feature ${one.feature}`, `#/feature/${j}`]),
    ].filter(([key]) => key.includes(wanted)) : [];
    hits.sort((one, other) => one[0].indexOf(wanted) - other[0].indexOf(wanted) || one[0].length - other[0].length);
    results.replaceChildren(...hits.slice(0, 12).map(([, name, href]) => h("li", {}, h("a", { href }, name))),
      ...(wanted && !hits.length ? [h("li", { class: "note" }, "Nothing is called so.")] : []));
    results.hidden = !wanted;
  } });
  const box = h("div", { class: "search", role: "search",
    onkeydown: (event) => {
      const links = [...results.querySelectorAll("a")];
      const place = links.indexOf(document.activeElement);
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        const next = links[place + (event.key === "ArrowDown" ? 1 : -1)];
        (next || input).focus();
      } else if (event.key === "Enter" && place < 0 && links.length) {
        location.hash = links[0].getAttribute("href");
      } else if (event.key === "Escape") {
        results.hidden = true;
        input.focus();
      }
    } }, input, results);
  const close = () => { results.hidden = true; input.value = ""; };
  results.addEventListener("click", close);
  window.addEventListener("hashchange", close);
  document.addEventListener("click", (event) => { if (!box.contains(event.target)) results.hidden = true; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { event.preventDefault(); input.focus(); }
  });
  return box;
}

function themeButton() {
  const dark = () => document.documentElement.dataset.theme === "dark";
  const set = (theme) => { document.documentElement.dataset.theme = theme; button.textContent = dark() ? "Light" : "Dark"; };
  const button = h("button", { type: "button", "aria-label": "Switch between light and dark", onclick: () => set(dark() ? "light" : "dark") });
  set(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  return button;
}

const pages = Object.entries(PAGES).filter(([name]) => name !== "sets" || REPORT.sets);
document.querySelector("header > div").append(
  h("nav", { "aria-label": "Pages" }, pages.map(([name, [label]]) => h("a", { href: `#/${name}` }, label))), searchBox(), themeButton());
window.addEventListener("hashchange", () => show().focus());
show();
