// The page of a prepared dataset: everything it shows is in data.js, beside this file.
"use strict";

const BATCH = 80; // tiles added at a time while scrolling
const AHEAD_PX = 1200; // filled below the visible part
const dataset = window.VON_DATASET;
const $ = (id) => document.getElementById(id);
const TILE_PX = { shapes: 240, images: 150 };
const number = new Intl.NumberFormat("en");
const view = { part: null, rows: [], shown: 0, open: -1 };
// Columns that mark prepared shapes to check.
const FLAGS = ["leak", "outlier"];
const filters = { q: "", status: "", reason: "", split: "", order: "id", range: null };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function show(value, column) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value !== "number") return String(value);
  const text = Number.isInteger(value) ? number.format(value) : String(Number(value.toPrecision(3)));
  if (!column || !column.unit) return text;
  return column.unit === "degrees" ? `${text}°` : `${text} ${column.unit}`;
}

// Rows arrive as lists in the order of the part's columns.
for (const part of dataset.parts) {
  part.key = `${part.class}/${part.kind}`;
  part.items = part.rows.map((values) => {
    const item = Object.fromEntries(part.columns.map((column, position) => [column.name, values[position]]));
    item.haystack = [item.id, item.source, item.reason, item.detail].filter(Boolean).join("\n").toLowerCase();
    return item;
  });
}

/* ---- what is shown: state, filters, address ---- */

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const part = dataset.parts.find((each) => each.key === given.get("part")) || dataset.parts[0];
  for (const name of ["q", "status", "reason", "split"]) filters[name] = given.get(name) || "";
  filters.order = given.get("order") || "id";
  const range = (given.get("range") || "").split("~");
  filters.range = range.length === 3 ? { column: range[0], from: Number(range[1]), to: Number(range[2]) } : null;
  choosePart(part);
}

function writeAddress() {
  const state = new URLSearchParams({ part: view.part.key });
  for (const name of ["q", "status", "reason", "split"]) if (filters[name]) state.set(name, filters[name]);
  if (filters.order !== "id") state.set("order", filters.order);
  if (filters.range) state.set("range", [filters.range.column, filters.range.from, filters.range.to].join("~"));
  history.replaceState(null, "", `#${state}`);
}

function choosePart(part) {
  view.part = part;
  document.body.className = part.kind;
  $("size").value = TILE_PX[part.kind];
  resizeTiles();
  for (const button of $("parts").children) button.setAttribute("aria-current", button.dataset.key === part.key);
  fillSelects(part);
  update();
}

function matching() {
  const words = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
  const { range } = filters;
  const chosen = view.part.items.filter(
    (item) =>
      (!filters.status || item.status === filters.status) &&
      (!filters.reason || item.reason === filters.reason) &&
      (!filters.split || item.split === filters.split) &&
      (!range || (item[range.column] != null && item[range.column] >= range.from && item[range.column] <= range.to)) &&
      words.every((word) => item.haystack.includes(word)),
  );
  const column = filters.order.replace(/^-/, "");
  const sign = filters.order.startsWith("-") ? -1 : 1;
  return chosen.sort((a, b) => {
    if (a[column] == null || b[column] == null) return (a[column] == null) - (b[column] == null);
    return a[column] < b[column] ? -sign : a[column] > b[column] ? sign : 0;
  });
}

function label(column) {
  return column.replace(/_(deg|px|s)$/, "").replaceAll("_", " ");
}

function update() {
  view.rows = matching();
  view.shown = 0;
  $("tiles").replaceChildren();
  fillScreen();
  const { part } = view;
  const unlisted = part.total > part.items.length ? ` (${number.format(part.total)} in the manifest)` : "";
  $("count").textContent = `${number.format(view.rows.length)} of ${number.format(part.items.length)}${unlisted}`;
  $("nothing").hidden = view.rows.length > 0;
  drawOverview();
  drawChips();
  writeAddress();
}

/* ---- counts and distributions ---- */

function drawOverview() {
  const { part } = view;
  const rejected = part.total - part.prepared;
  const cards = [
    card("Items", [
      element("div", { class: "big" }, number.format(part.prepared), element("small", {}, ` of ${number.format(part.total)} prepared`)),
      element(
        "div",
        { class: "stack", role: "img", "aria-label": `${part.prepared} prepared, ${rejected} rejected` },
        element("i", { style: `flex:${part.prepared}` }),
        element("i", { class: "rejected", style: `flex:${rejected}` }),
      ),
      element("div", { class: "splits" }, ...Object.entries(part.splits).map(([name, count]) => element("span", {}, `${name} `, element("b", {}, number.format(count))))),
    ]),
  ];
  if (rejected) cards.push(reasonCard(part, rejected));
  if (part.viewpoints) cards.push(viewpointCard(part.viewpoints));
  for (const histogram of part.histograms) cards.push(histogramCard(histogram));
  $("overview").replaceChildren(...cards);
}

function card(title, children, note = "") {
  return element("div", { class: "card" }, element("h2", {}, title, element("small", {}, note)), ...children);
}

function reasonCard(part, rejected) {
  const most = Math.max(...Object.values(part.reasons));
  const bars = Object.entries(part.reasons).map(([reason, count]) =>
    element(
      "button",
      {
        type: "button",
        title: dataset.reasons[reason],
        "aria-pressed": String(filters.reason === reason),
        onclick: () => setFilter("reason", filters.reason === reason ? "" : reason),
      },
      element("span", {}, reason.replaceAll("_", " ")),
      element("span", {}, number.format(count)),
      element("i", { style: `width:${(100 * count) / most}%` }),
    ),
  );
  return card(`${number.format(rejected)} rejected`, [element("div", { class: "reasons" }, ...bars)]);
}

function histogramCard({ column, unit, edges, counts }) {
  const most = Math.max(...counts, 1);
  const chosen = filters.range && filters.range.column === column ? filters.range : null;
  const bars = counts.map((count, position) => {
    const [from, to] = [edges[position], edges[position + 1]];
    const pressed = Boolean(chosen && chosen.from === from && chosen.to === to);
    return element(
      "button",
      {
        type: "button",
        title: `${show(from)} to ${show(to)} ${unit}: ${number.format(count)}`,
        "aria-label": `${column} ${show(from)} to ${show(to)}: ${count}`,
        "aria-pressed": String(pressed),
        onclick: () => setFilter("range", pressed ? null : { column, from, to }),
      },
      element("i", { style: `height:${count ? Math.max(2, (100 * count) / most) : 0}%` }),
    );
  });
  const axis = element("div", { class: "axis" }, element("span", {}, show(edges[0])), element("span", {}, show(edges.at(-1))));
  return card(label(column), [element("div", { class: "bars", "data-chosen": Boolean(chosen) }, ...bars), axis], unit && column !== "seconds" ? ` ${unit}` : "");
}

function viewpointCard({ azimuth_edges: azimuth, elevation_edges: elevation, counts }) {
  const most = Math.max(...counts.flat(), 1);
  const cells = [];
  for (let row = elevation.length - 2; row >= 0; row--) {
    for (let column = 0; column < azimuth.length - 1; column++) {
      const count = counts[column][row];
      const place = `azimuth ${azimuth[column]} to ${azimuth[column + 1]}°, elevation ${elevation[row]} to ${elevation[row + 1]}°`;
      cells.push(element("i", { title: `${place}: ${count}`, style: `opacity:${count ? 0.2 + (0.8 * count) / most : 0.06}` }));
    }
  }
  const heat = element("div", { class: "heat", style: `grid-template-columns:repeat(${azimuth.length - 1},1fr)` }, ...cells);
  const axis = element("div", { class: "axis" }, element("span", {}, `${azimuth[0]}°`), element("span", {}, "front"), element("span", {}, `${azimuth.at(-1)}°`));
  return card("Viewpoints", [heat, axis], ` elevation ${elevation[0]} to ${elevation.at(-1)}°`);
}

/* ---- filters ---- */

function setFilter(name, value) {
  filters[name] = value;
  if (name === "reason" && value) filters.status = "";
  syncControls();
  update();
}

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  select.hidden = entries.length < 2;
}

function fillSelects(part) {
  options($("status"), [["", "All"], ["prepared", "Prepared"], ["rejected", "Rejected"]]);
  options($("reason"), [["", "Any reason"], ...Object.keys(part.reasons).map((reason) => [reason, reason.replaceAll("_", " ")])]);
  options($("split"), [["", "Any split"], ...Object.keys(part.splits).map((split) => [split, split])]);
  const orders = [["id", "By id"]];
  for (const column of part.columns) {
    const filled = ["int", "float"].includes(column.dtype) && part.items.some((item) => item[column.name] != null);
    const name = label(column.name);
    if (filled) orders.push([column.name, `${name}, rising`], [`-${column.name}`, `${name}, falling`]);
    if (column.dtype === "bool" && part.items.some((item) => item[column.name])) orders.push([`-${column.name}`, `${name} first`]);
  }
  options($("order"), orders);
  for (const [name, allowed] of [["reason", part.reasons], ["split", part.splits]]) {
    if (!(filters[name] in allowed)) filters[name] = "";
  }
  if (!orders.some(([value]) => value === filters.order)) filters.order = "id";
  if (filters.range && !part.columns.some((column) => column.name === filters.range.column)) filters.range = null;
  syncControls();
}

function syncControls() {
  $("search").value = filters.q;
  for (const name of ["status", "reason", "split", "order"]) $(name).value = filters[name];
}

function drawChips() {
  const { range } = filters;
  const chip = range && element("button", { type: "button", onclick: () => setFilter("range", null) }, `${label(range.column)} ${show(range.from)} to ${show(range.to)} ✕`);
  $("chips").replaceChildren(...(chip ? [chip] : []));
}

/* ---- tiles ---- */

function picture(item, eager = false) {
  const frame = element("div", { class: `frame ${item.status}` });
  const words = element("span", {}, item.reason ? item.reason.replaceAll("_", " ") : "no picture");
  if (!item.picture) {
    frame.append(words);
    return frame;
  }
  const path = item.picture.split("/").map(encodeURIComponent).join("/");
  frame.append(element("img", { src: path, alt: item.id, loading: eager ? "eager" : "lazy", decoding: "async", onerror: (event) => event.target.replaceWith(words) }));
  return frame;
}

function facts(item) {
  if (item.status === "rejected") return element("small", { class: "reason", title: item.detail }, item.reason.replaceAll("_", " "));
  const known = view.part.summary.filter((column) => item[column.name] != null);
  const flags = FLAGS.filter((name) => item[name]);
  if (item.duplicate_of) flags.push(`same as ${item.duplicate_of}`);
  const words = [...flags, ...known.map((column) => `${column.label} ${show(item[column.name], column)}`)];
  return element("small", {}, words.join(" · ") || item.split);
}

function addTiles() {
  const next = view.rows.slice(view.shown, view.shown + BATCH);
  const tiles = next.map((item, offset) => {
    const position = view.shown + offset;
    return element(
      "button",
      { type: "button", class: "tile", onclick: () => openDetail(position) },
      picture(item),
      element("div", { class: "caption" }, element("b", { title: item.id }, item.id), facts(item)),
    );
  });
  $("tiles").append(...tiles);
  view.shown += next.length;
}

function resizeTiles() {
  document.documentElement.style.setProperty("--tile", `${$("size").value}px`);
  fillScreen();
}

function fillScreen() {
  if (view.shown >= view.rows.length || $("end").getBoundingClientRect().top > innerHeight + AHEAD_PX) return;
  addTiles();
  requestAnimationFrame(fillScreen);
}

/* ---- one item ---- */

function openDetail(position) {
  const item = view.rows[position];
  if (!item) return;
  view.open = position;
  const { part } = view;
  $("detail").className = part.kind;
  $("detail-title").textContent = item.id;
  $("detail-picture").replaceWith(Object.assign(picture(item, true), { id: "detail-picture" }));
  const rows = [];
  for (const column of part.columns) {
    const value = item[column.name];
    if (value == null || value === "" || ["id", "picture"].includes(column.name)) continue;
    rows.push(element("dt", { title: column.meaning }, label(column.name)));
    rows.push(element("dd", { class: column.name === "reason" ? "reason" : false }, column.name === "reason" ? `${value.replaceAll("_", " ")}. ${dataset.reasons[value]}` : show(value, column)));
  }
  $("detail-facts").replaceChildren(...rows);
  $("previous").disabled = position === 0;
  $("next").disabled = position === view.rows.length - 1;
  if (!$("detail").open) $("detail").showModal();
}

/* ---- start ---- */

function start() {
  $("folder").textContent = `${dataset.folder}, written ${dataset.written}`;
  document.title = `VON dataset ${dataset.folder}`;
  $("parts").replaceChildren(
    ...dataset.parts.map((part) =>
      element(
        "button",
        { type: "button", "data-key": part.key, onclick: () => { filters.range = null; choosePart(part); } },
        `${part.class} ${part.kind === "images" ? "photos" : "shapes"}`,
        element("small", {}, number.format(part.total)),
      ),
    ),
  );
  for (const name of ["status", "reason", "split", "order"]) $(name).addEventListener("change", (event) => setFilter(name, event.target.value));
  let typing;
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => setFilter("q", $("search").value), 120);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => {
    Object.assign(filters, { q: "", status: "", reason: "", split: "", range: null });
    syncControls();
    update();
  });
  $("size").addEventListener("input", () => {
    TILE_PX[view.part.kind] = $("size").value;
    resizeTiles();
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  $("previous").addEventListener("click", () => openDetail(view.open - 1));
  $("next").addEventListener("click", () => openDetail(view.open + 1));
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
  $("detail").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") openDetail(view.open - 1);
    if (event.key === "ArrowRight") openDetail(view.open + 1);
  });
  new IntersectionObserver(fillScreen, { rootMargin: `${AHEAD_PX}px` }).observe($("end"));
  addEventListener("hashchange", readAddress);
  readAddress();
}

start();
