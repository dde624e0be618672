// The model by hand: what is chosen, what is seen, and the way back.
import { Channel } from "./ask.js";
import { CodeControls } from "./codes.js";
import { Photos } from "./photos.js";
import { Saved } from "./saved.js";
import { History, isSpelt, link, parse } from "./state.js";
import { readGlb, Surface } from "./surface.js";

const part = (id) => document.getElementById(id);
const SURFACE_NAMES = ["checkpoint", "shape", "shape-to", "shape-mix"];
const PAINTED_NAMES = [...SURFACE_NAMES, "texture", "texture-to", "texture-mix"];
const pick = (state, names) => link(Object.fromEntries(names.map((name) => [name, state[name]])));
const bareOf = (given) => pick(parse(given).state, SURFACE_NAMES);
// What is held still for so long is painted.
const SETTLED_MS = 350;

export class Explore {
  constructor(run, say) {
    this.run = run;
    this.say = say;
    this.controls = [...document.querySelectorAll(".code")].map(
      (fieldset) => new CodeControls(fieldset, (values, done) => this.change(values, done)),
    );
    for (const name of ["azimuth", "elevation"]) {
      part(name).addEventListener("input", () => this.change({ [name]: part(name).value }, false));
      part(name).addEventListener("change", () => this.change({ [name]: part(name).value }, true));
    }
    try {
      this.surface = new Surface(part("surface"), (azimuth, elevation, done) =>
        this.change({ azimuth: String(azimuth), elevation: String(elevation) }, done));
    } catch {
      part("surface-note").textContent = "needs WebGL, which this browser does not show";
    }
    this.views = new Channel("api/view", (blob, _, ms, link) => this.#drawViews(blob, ms, link), (error) => this.#refused(error));
    const drawn = (blob, status, _, link) => this.#drawSurface(blob, status, link);
    this.surfaces = new Channel("api/surface", drawn, (error) => this.#refused(error));
    this.painted = new Channel("api/painted", drawn, (error) => this.#refused(error));
    this.saved = new Saved(part("saved"), part("saved-none"), `von-studio:${run.class}:${run.run}`);
    this.photos = new Photos({
      checkpoint: () => this.state.checkpoint,
      limit: run.limits.photo_bytes,
      onFound: (values) => this.change(values, true),
    });
    this.#listen();
    const first = this.#read(location.hash);
    this.history = new History(link(first), () => this.#showHistory());
    this.#show(first);
    this.saved.show(link(first));
    this.#showHistory();
  }

  change(values, done) {
    this.#show({ ...this.state, ...values });
    clearTimeout(this.settling);
    const settle = () => this.history.note(link(this.state));
    if (done) settle();
    else this.settling = setTimeout(settle, 1500);
  }

  surprise() {
    const seed = () => String(Math.floor(Math.random() * 1e6));
    this.change({ shape: seed(), "shape-mix": "0", texture: seed(), "texture-mix": "0" }, true);
  }

  step(by) {
    const found = this.history.step(by);
    if (found !== null) this.#show(parse(found).state);
  }

  // With its picture: a view that is still being drawn is saved once it is.
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
    const named = (code) => isSpelt(code) ? "of a photo" : code;
    return `shape ${named(shape)}, texture ${named(texture)}`;
  }

  #read(hash) {
    const { state, complaints } = parse(hash);
    const names = this.run.checkpoints.map((each) => each.name);
    if (state.checkpoint && !names.includes(state.checkpoint)) {
      complaints.push(`The link is of checkpoint ${state.checkpoint}, which this run no longer has; this is ${names.at(-1)}.`);
      state.checkpoint = undefined;
    }
    state.checkpoint ??= names.at(-1);
    this.say(complaints.join(" "));
    return state;
  }

  #show(state) {
    this.state = state;
    const now = link(state);
    if (location.hash !== `#${now}`) history.replaceState(null, "", `#${now}`);
    for (const name of ["azimuth", "elevation"]) {
      part(name).value = state[name];
      part(`${name}-out`).textContent = `${state[name]}°`;
      part(name).setAttribute("aria-valuetext", `${state[name]} degrees`);
    }
    for (const controls of this.controls) controls.show(state);
    if (part("checkpoint")) part("checkpoint").value = state.checkpoint;
    this.surface?.look(Number(state.azimuth), Number(state.elevation));
    this.views.show(now);
    this.#showSurface();
    part("png").href = `api/image?${now}`;
    part("glb").href = `api/painted?${this.#partial(PAINTED_NAMES)}`;
    const name = `${this.run.class} ${this.words()}`.replace(/\W+/g, "-");
    part("png").download = `${name}.png`;
    part("glb").download = `${name}.glb`;
    this.saved.mark(now);
  }

  // The bare surface at once; in its texture, where that is wanted, when nothing has changed for a moment.
  #showSurface() {
    if (!this.surface) return;
    clearTimeout(this.painting);
    const bare = this.#partial(SURFACE_NAMES), painted = this.#partial(PAINTED_NAMES);
    const wanted = part("paint").checked;
    if (!wanted || this.onScreen === undefined || bareOf(this.onScreen) !== bare) this.surfaces.show(bare);
    if (!wanted) this.painted.forget();
    else if (painted !== this.onScreen) this.painting = setTimeout(() => this.painted.show(painted), SETTLED_MS);
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
    const size = strip.height;
    ["image", "silhouette", "depth"].forEach((id, index) => {
      const canvas = part(id);
      if (canvas.width !== size) canvas.width = canvas.height = size;
      canvas.getContext("2d").drawImage(strip, index * size, 0, size, size, 0, 0, size, size);
      canvas.classList.remove("stale");
    });
    strip.close();
    this.drawn = drawn;
    if (this.wantsSaving === drawn) this.save();
    const { stage } = this.run.checkpoints.find((each) => each.name === this.state.checkpoint) ?? {};
    part("image-note").textContent = stage === "shape" ? "textures are not trained yet" : `${Math.round(ms)} ms`;
    document.documentElement.dataset.views = String(Number(document.documentElement.dataset.views ?? 0) + 1);
  }

  async #drawSurface(blob, status, link) {
    const wanted = this.#partial(part("paint").checked ? PAINTED_NAMES : SURFACE_NAMES);
    if (this.onScreen === wanted || (link !== wanted && link !== this.#partial(SURFACE_NAMES))) return;
    this.surface.show(status === 204 ? null : readGlb(await blob.arrayBuffer()));
    this.onScreen = link;
    part("surface").dataset.painted = String(link !== bareOf(link));
    part("surface-note").textContent = status === 204 ? "is empty" : "";
    document.documentElement.dataset.surfaces = String(Number(document.documentElement.dataset.surfaces ?? 0) + 1);
  }

  #refused(error) {
    for (const id of ["image", "silhouette", "depth"]) part(id).classList.add("stale");
    this.say(error.message);
  }

  #listen() {
    part("undo").addEventListener("click", () => this.step(-1));
    part("redo").addEventListener("click", () => this.step(1));
    part("paint").addEventListener("change", () => {
      this.surfaces.forget();
      this.#showSurface();
    });
    part("surprise").addEventListener("click", () => this.surprise());
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
    addEventListener("hashchange", () => {
      const state = this.#read(location.hash);
      this.history.note(link(state));
      this.#show(state);
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
      }
    });
  }
}
