// One view of the model: its controls, its pictures, its history, and a second view beside it.
import { ask, Channel } from "./ask.js";
import { CodeControls } from "./codes.js";
import { readGlb } from "./glb.js";
import { Photos } from "./photos.js";
import { Saved } from "./saved.js";
import { History, isEncoded, link, parse } from "./state.js";
import { geometryOf, Surface } from "./surface.js";

const part = (id) => document.getElementById(id);
const SURFACE_NAMES = ["checkpoint", "shape", "shape-to", "shape-mix", "truncation"];
const PAINTED_NAMES = [...SURFACE_NAMES, "texture", "texture-to", "texture-mix"];
const pick = (state, names) => link(Object.fromEntries(names.map((name) => [name, state[name]])));
const bareOf = (given) => pick(parse(given).state, SURFACE_NAMES);
const SLIDERS = { azimuth: "°", elevation: "°", truncation: "" };
const MESHES = ["glb", "obj", "ply", "stl", "usdz"];
const STATISTICS = {
  faces: "Faces", vertices: "Vertices", parts: "Parts", largest_part: "Largest part's share of the surface",
  area: "Surface (edge of the cube = 2)", volume: "Volume",
};
// A view unchanged for this long gets a textured surface.
const SETTLED_MS = 350;
// "Surprise me" draws seeds within the range of the sliders.
const SEEDS = 1000;

// A message over the picture that it is about.
function message(id, sentence) {
  part(id).textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
  part(id).hidden = !sentence;
}

function drawStrip(strip, ids) {
  const size = strip.height;
  ids.forEach((id, index) => {
    const canvas = part(id);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, size, size);  // the image is transparent around the object
    context.drawImage(strip, index * size, 0, size, size, 0, 0, size, size);
    canvas.classList.remove("stale");
  });
}

export class Explore {
  constructor(run, say, hash) {
    this.run = run;
    this.say = say;
    this.controls = [...document.querySelectorAll(".code")].map(
      (fieldset) => new CodeControls(fieldset, (values, done) => this.change(values, done)),
    );
    for (const name of Object.keys(SLIDERS)) {
      part(name).addEventListener("input", () => this.change({ [name]: part(name).value }, false));
      part(name).addEventListener("change", () => this.change({ [name]: part(name).value }, true));
    }
    this.surface = this.#viewer("surface");
    if (!this.surface) message("surface-message", "The 3D view needs WebGL, which this browser does not offer.");
    const refused = (error) => this.#refused(error, "image-message");
    const noSurface = (error) => message("surface-message", error.message);
    this.views = new Channel("api/view", (blob, _, ms, link) => this.#drawViews(blob, ms, link), refused);
    const drawn = (blob, status, _, link) => this.#drawSurface(blob, status, link);
    this.surfaces = new Channel("api/surface", drawn, noSurface);
    this.painted = new Channel("api/painted", drawn, noSurface);
    this.secondViews = new Channel("api/view", (blob) => this.#drawSecondView(blob), refused, "-second");
    this.secondSurfaces = new Channel("api/painted", (blob, status) => this.#drawSecondSurface(blob, status), noSurface, "-second");
    this.saved = new Saved(part("saved"), part("saved-none"), `von-studio:${run.class}:${run.run}`);
    this.photos = new Photos({
      checkpoint: () => this.state.checkpoint,
      className: run.class,
      limit: run.limits.photo_bytes,
      onFound: (values) => this.change(values, true),
    });
    this.#listen();
    const first = this.#read(hash);
    this.history = new History(link(first), () => this.#showHistory());
    history.replaceState({ serial: this.history.serial }, "", `#${link(first)}`);
    this.#show(first);
    this.saved.show(link(first));
    this.#showHistory();
  }

  change(values, done) {
    this.#show({ ...this.state, ...values });
    clearTimeout(this.settling);
    if (done) this.#settle();
    else this.settling = setTimeout(() => this.#settle(), 1500);
  }

  // Shows the view of the address: one that the browser's Back or Forward leads to, or a link that was opened.
  arrive(hash, serial) {
    if (this.stepping > 0) { this.stepping -= 1; return; }
    clearTimeout(this.settling);
    const known = serial === undefined ? null : this.history.go(serial);
    const state = known === null ? this.#read(hash) : parse(known).state;
    if (known === null) {
      this.history.note(link(state));
      history.replaceState({ serial: this.history.serial }, "", `#${link(state)}`);
    }
    if (link(state) !== link(this.state)) this.#show(state);
  }

  surprise() {
    const seed = () => String(Math.floor(Math.random() * SEEDS));
    this.change({ shape: seed(), "shape-mix": "0", texture: seed(), "texture-mix": "0" }, true);
  }

  step(by) {
    this.#settle();
    const found = this.history.step(by);
    if (found === null) return;
    this.#show(parse(found).state);
    this.stepping = (this.stepping ?? 0) + 1;
    history.go(by);
  }

  // Saves the view with its picture; a view that is still being drawn is saved afterwards.
  save() {
    const now = link(this.state);
    this.wantsSaving = now === this.drawn ? undefined : now;
    if (this.wantsSaving) return;
    const picture = document.createElement("canvas");
    picture.width = picture.height = 128;
    picture.getContext("2d").drawImage(part("image"), 0, 0, 128, 128);
    this.saved.add(now, this.words(), picture.toDataURL());
    this.saved.show(now);
  }

  words() {
    const { shape, texture } = this.state;
    const named = (code) => isEncoded(code) ? "from a photo" : code;
    return `shape ${named(shape)}, texture ${named(texture)}`;
  }

  setShown(shown) {
    if (!shown) this.#setTurning(false);
    else this.surface?.draw();
  }

  #viewer(id) {
    try {
      return new Surface(part(id), (azimuth, elevation, done) => {
        this.#markTurning();
        this.change({ azimuth: String(azimuth), elevation: String(elevation) }, done);
      });
    } catch {
      return undefined;
    }
  }

  #settle() {
    clearTimeout(this.settling);
    const now = link(this.state), before = this.history.serial;
    this.history.note(now);
    if (this.history.serial !== before) history.pushState({ serial: this.history.serial }, "", `#${now}`);
  }

  #read(hash) {
    const { state, complaints } = parse(hash);
    const names = this.run.checkpoints.map((each) => each.name);
    if (state.checkpoint && !names.includes(state.checkpoint)) {
      complaints.push(`The link is of checkpoint ${state.checkpoint}, which this run no longer has; this is ${names.at(-1)}.`);
      state.checkpoint = undefined;
    }
    state.checkpoint ??= names.at(-1);
    if (hash.length < 2) state.shape = String(this.run.first_seed ?? state.shape);  // no link: a shape worth a look
    this.say(complaints.join(" "));
    return state;
  }

  #show(state) {
    this.state = state;
    const now = link(state);
    for (const [name, unit] of Object.entries(SLIDERS)) {
      const value = state[name];
      part(name).value = value;
      part(`${name}-out`).textContent = `${value}${unit}`;
      part(name).setAttribute("aria-valuetext", unit ? `${value} degrees` : value);
    }
    for (const controls of this.controls) controls.show(state);
    if (part("checkpoint")) part("checkpoint").value = state.checkpoint;
    const viewpoint = [Number(state.azimuth), Number(state.elevation)];
    this.surface?.look(...viewpoint);
    this.views.show(now);
    this.#showSurface();
    this.#showSecond();
    const painted = this.#partial(PAINTED_NAMES);
    const name = `${this.run.class} ${this.words()}`.replace(/\W+/g, "-");
    part("png").href = `api/image?${now}`;
    part("png").download = `${name}.png`;
    for (const format of MESHES) {
      part(format).href = `api/mesh.${format}?${painted}`;
      part(format).download = `${name}.${format}`;
    }
    this.saved.mark(now);
  }

  // Shows the plain surface at once and, if wanted, the textured one when the view has not changed for a moment.
  #showSurface() {
    if (!this.surface) return;
    clearTimeout(this.painting);
    const bare = this.#partial(SURFACE_NAMES), painted = this.#partial(PAINTED_NAMES);
    const wanted = part("look").value === "painted";
    if (!wanted || this.onScreen === undefined || bareOf(this.onScreen) !== bare) this.surfaces.show(bare);
    if (!wanted) this.painted.forget();
    else if (painted !== this.onScreen) this.painting = setTimeout(() => this.painted.show(painted), SETTLED_MS);
  }

  #showSecond() {
    if (!this.kept) return;
    const state = { ...this.kept, azimuth: this.state.azimuth, elevation: this.state.elevation };
    this.second?.look(Number(state.azimuth), Number(state.elevation));
    this.secondViews.show(link(state));
    this.secondSurfaces.show(pick(this.kept, PAINTED_NAMES));
  }

  #keep(state) {
    this.kept = state;
    part("second").hidden = !state;
    part("stage").classList.toggle("with-second", Boolean(state));
    part("compare").textContent = state ? "Keep this one" : "Compare";
    if (!state) return;
    const named = (code) => isEncoded(code) ? "from a photo" : code;
    part("second-note").textContent = `shape ${named(state.shape)}, texture ${named(state.texture)}`;
    this.second ??= this.#viewer("second-surface");
    this.#showSecond();
  }

  #partial(names) {
    return pick(this.state, names);
  }

  #showHistory() {
    part("undo").disabled = !this.history.canUndo;
    part("redo").disabled = !this.history.canRedo;
  }

  async #drawViews(blob, ms, drawn) {
    const strip = await createImageBitmap(blob);
    drawStrip(strip, ["image", "silhouette", "depth"]);
    strip.close();
    message("image-message", "");
    this.drawn = drawn;
    if (this.wantsSaving === drawn) this.save();
    const { stage } = this.run.checkpoints.find((each) => each.name === this.state.checkpoint) ?? {};
    part("image-note").textContent = stage === "shape" ? "textures are not trained yet" : `${Math.round(ms)} ms`;
    document.documentElement.dataset.views = String(Number(document.documentElement.dataset.views ?? 0) + 1);
  }

  async #drawSurface(blob, status, link) {
    const mesh = status === 204 ? null : readGlb(await blob.arrayBuffer());
    const look = part("look").value;  // what is wanted now: it may have changed while the mesh was read
    const wanted = this.#partial(look === "painted" ? PAINTED_NAMES : SURFACE_NAMES);
    if (this.onScreen === wanted || (link !== wanted && link !== this.#partial(SURFACE_NAMES))) return;
    this.surface.show(mesh && geometryOf(mesh), look);
    this.onScreen = link;
    part("surface").dataset.painted = String(link !== bareOf(link));
    message("surface-message", mesh ? "" : "This shape is empty.");
    this.#showStatistics(mesh?.extras.statistics ?? {});
    document.documentElement.dataset.surfaces = String(Number(document.documentElement.dataset.surfaces ?? 0) + 1);
  }

  async #drawSecondView(blob) {
    const strip = await createImageBitmap(blob);
    drawStrip(strip, ["second-image"]);
    strip.close();
  }

  async #drawSecondSurface(blob, status) {
    this.second?.show(status === 204 ? null : geometryOf(readGlb(await blob.arrayBuffer())), "painted");
    document.documentElement.dataset.second = String(Number(document.documentElement.dataset.second ?? 0) + 1);
  }

  #showStatistics(statistics) {
    const shown = (name, value) => name === "largest_part" ? `${(100 * value).toFixed(1)} %` : value.toLocaleString("en", { maximumFractionDigits: 3 });
    part("statistics").replaceChildren(...Object.entries(STATISTICS).filter(([name]) => name in statistics).flatMap(([name, words]) => {
      const term = document.createElement("dt"), value = document.createElement("dd");
      term.textContent = words;
      value.textContent = shown(name, statistics[name]);
      return [term, value];
    }));
    part("surface-note").textContent = statistics.faces ? `${statistics.faces.toLocaleString("en")} faces` : "";
  }

  #refused(error, id) {
    for (const each of ["image", "silhouette", "depth"]) part(each).classList.add("stale");
    message(id, error.message);
  }

  #setTurning(turning) {
    this.surface?.setTurning(turning);
    this.#markTurning();
  }

  #markTurning() {
    part("turntable").setAttribute("aria-pressed", String(Boolean(this.surface?.turning)));
  }

  async film() {
    if (part("film").disabled) return;
    part("film").disabled = true;
    message("film-note", "Rendering the film; this takes a while…");
    try {
      const response = await ask(`api/film?${link(this.state)}`);
      const anchor = document.createElement("a");
      anchor.href = URL.createObjectURL(await response.blob());
      anchor.download = part("png").download.replace(/png$/, "webp");
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
      message("film-note", "");
    } catch (error) {
      message("film-note", error.message);
    }
    part("film").disabled = false;
  }

  #listen() {
    part("undo").addEventListener("click", () => this.step(-1));
    part("redo").addEventListener("click", () => this.step(1));
    part("look").addEventListener("change", () => {
      const look = part("look").value;
      if (look === "painted" || (this.onScreen && this.onScreen !== bareOf(this.onScreen))) this.surfaces.forget();
      this.surface?.showAs(look);
      this.#showSurface();
    });
    part("surprise").addEventListener("click", () => this.surprise());
    part("turntable").addEventListener("click", () => this.#setTurning(!this.surface?.turning));
    part("compare").addEventListener("click", () => this.#keep({ ...this.state }));
    part("close-second").addEventListener("click", () => { this.#keep(null); part("compare").focus(); });
    part("swap").addEventListener("click", () => {
      const { azimuth, elevation, ...kept } = this.kept;
      this.#keep({ ...this.state });
      this.change({ ...kept }, true);
    });
    part("film").addEventListener("click", () => this.film());
    part("save").addEventListener("click", () => this.save());
    part("copy").addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        part("copy").textContent = "Copied";
      } catch {
        part("copy").textContent = "It is the page's address";
      }
      setTimeout(() => { part("copy").textContent = "Copy link"; }, 1500);
    });
    addEventListener("keydown", (event) => {
      if (event.target.closest?.("input[type=text], select, textarea") || part("explore").hidden) return;
      const key = event.key.toLowerCase();
      if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
        event.preventDefault();
        this.step(key === "y" || event.shiftKey ? 1 : -1);
      } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
        if (key === "r") this.surprise();
        if (key === "s") this.save();
        if (key === "t") this.#setTurning(!this.surface?.turning);
        if (key === "c") this.#keep({ ...this.state });
      }
    });
  }
}
