// The training in progress: its state, samples, losses, scores.
const part = (id) => document.getElementById(id);
const EVERY_MS = 2000;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const number = (value) => value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString();
const words = (name) => name.replaceAll("_", " ");

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function figure(value, unit, label, note, share) {
  const box = element("div", { class: "figure" });
  box.append(element("div", { class: "value" }, value, " ", element("small", {}, unit)));
  if (share !== null && share !== undefined) {
    const bar = element("i");
    bar.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    box.append(element("div", { class: "bar" }, bar));
  }
  box.append(element("p", {}, label), element("p", { class: "note" }, note));
  return box;
}

// One curve as SVG, with gaps where values are missing.
export function curve(name, steps, values) {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known), first = steps[0], last = steps.at(-1);
  const x = (step) => last > first ? 100 * (step - first) / (last - first) : 50;
  const y = (value) => high > low ? 40 - 40 * (value - low) / (high - low) : 20;
  let pen = "M", path = "";
  values.forEach((value, index) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x(steps[index]).toFixed(2)} ${y(value).toFixed(2)}`;
    pen = "L";
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${words(name)}: from ${number(known[0])} to ${number(known.at(-1))}`);
  const shape = (kind, attributes) => {
    const made = document.createElementNS(svg.namespaceURI, kind);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    svg.append(made);
  };
  if (low < 0 && high > 0) shape("line", { x1: 0, x2: 100, y1: y(0), y2: y(0) });
  shape("path", { d: path });
  const title = element("header", {}, element("span", {}, words(name)), element("b", {}, number(known.at(-1))));
  const range = element("footer", {}, element("span", {}, `${number(low)} – ${number(high)}`), element("span", {}, `step ${last}`));
  return element("article", { class: "curve" }, title, svg, range);
}

export class Training {
  constructor(run) {
    this.run = run;
    this.shown = false;
    this.sheets = [];
    this.etag = null;
    part("sheet-choice").addEventListener("input", () => this.#showSheet(Number(part("sheet-choice").value)));
    document.addEventListener("visibilitychange", () => this.#tick());
    setInterval(() => this.#tick(), EVERY_MS);
  }

  setShown(shown) {
    this.shown = shown;
    this.#tick();
  }

  async #tick() {
    if (!this.shown || document.hidden || this.busy) return;
    this.busy = true;
    try {
      const response = await fetch("api/training", { headers: this.etag ? { "If-None-Match": this.etag } : {}, cache: "no-store" });
      if (response.status === 200) {
        this.etag = response.headers.get("ETag");
        this.story = await response.json();
        this.#show();
      }
      this.#showNow();
    } catch {
      // The studio does not answer at the moment; the next tick tries again.
    } finally {
      this.busy = false;
    }
  }

  #show() {
    const { stages, sheets, scores } = this.story;
    part("no-training").hidden = Object.keys(stages).length + sheets.length + scores.length > 0;
    this.#showSheets(sheets);
    part("scores").replaceChildren(...scores.map(({ checkpoint, figures }) => element("div", {},
      element("h2", {}, "Scores", element("small", {}, checkpoint)),
      element("div", { class: "figures" }, ...figures.map((each) => figure(each.value, each.unit, each.label, each.note, each.share))),
    )));
    part("losses").replaceChildren(...Object.entries(stages).reverse().map(([stage, { steps, losses }]) => element("div", {},
      element("h2", {}, `Losses of the ${stage} stage`),
      element("div", { class: "curves" }, ...Object.entries(losses)
        .filter(([, values]) => values.some((value) => value !== null))
        .map(([term, values]) => curve(term.split("/").at(-1), steps, values))),
    )));
  }

  #showNow() {
    const { latest, reported, nonfinite } = this.story ?? {};
    if (!latest) return;
    const ago = Math.max(0, Date.now() / 1000 - reported);
    const done = latest.step >= latest.steps;
    part("now").replaceChildren(
      figure(`${latest.step}`, `of ${latest.steps} steps`, `${latest.stage} stage`, done ? "This stage is done." : `${duration(latest.seconds_left)} left at this speed.`, latest.step / latest.steps),
      figure(latest.images_per_s.toFixed(1), "items per second", "speed", `Reported ${duration(ago)} ago.`),
      ...(nonfinite ? [figure("stopped", "", "a loss was not finite", "See nonfinite.json in the run.")] : []),
    );
  }

  #showSheets(sheets) {
    const choice = part("sheet-choice");
    const atEnd = Number(choice.value) >= this.sheets.length - 1;
    this.sheets = sheets;
    part("samples").hidden = sheets.length === 0;
    choice.max = Math.max(0, sheets.length - 1);
    choice.disabled = sheets.length < 2;
    if (sheets.length) this.#showSheet(atEnd ? sheets.length - 1 : Number(choice.value));
  }

  #showSheet(index) {
    const name = this.sheets[index];
    const [, stage, step] = /^(.*)-(\d+)\.png$/.exec(name);
    const said = `${stage} stage, step ${Number(step)}`;
    part("sheet-choice").value = index;
    part("sheet-choice").setAttribute("aria-valuetext", said);
    part("sheet-out").textContent = `${index + 1} of ${this.sheets.length}`;
    part("sheet-name").textContent = said;
    if (!part("sheet").src.endsWith(`/${name}`)) part("sheet").src = `api/sheets/${name}`;
    part("sheet").alt = `Samples: ${said}`;
  }
}
