// The gallery: shapes of one seed after the other, those in pieces left out, slowly turning; each is a link.
import { ask } from "./ask.js";
import { readGlb, turnableMesh } from "./glb.js";
import { Turnable } from "./viewer.js";

const part = (id) => document.getElementById(id);
const SHAPES = 12;
const MAX_TRIED = 3 * SHAPES;
const TRUNCATION = "0.75";
// A shape whose largest part has less of the surface is in pieces.
const MIN_LARGEST_PART = 0.9;

export class Gallery {
  // onChoose(link) opens a shape.
  constructor(run, checkpoint, onChoose) {
    Object.assign(this, { run, checkpoint, onChoose, next: 0, shown: 0, busy: false, waiting: [], views: [], number: 0 });
    part("more").addEventListener("click", () => this.load());
  }

  // Forgets all shapes, for another checkpoint.
  reset() {
    for (const { view } of this.views) view.remove();
    Object.assign(this, { next: 0, shown: 0, waiting: [], views: [], number: this.number + 1 });
  }

  setShown(visible) {
    this.visible = visible;
    if (visible && this.shown === 0) this.load();
    else if (visible) this.#paint();
  }

  async load() {
    if (this.busy) return;
    this.busy = true;
    const number = this.number;
    part("more").disabled = true;
    const wanted = this.shown + SHAPES, last = this.next + MAX_TRIED;
    try {
      while (this.shown < wanted && this.next < last && number === this.number) {
        part("gallery-note").textContent = `Shape ${Math.min(this.shown + 1, wanted)} of ${wanted}…`;
        await this.#add(this.next++, number);
      }
      part("gallery-note").textContent = "";
      part("no-gallery").hidden = this.shown > 0;
      part("no-gallery").textContent = "The shapes of this checkpoint are in pieces still; train it for longer.";
    } catch (error) {
      part("gallery-note").textContent = error.message;
    }
    part("more").disabled = false;
    this.busy = false;
    if (number !== this.number && this.visible) this.load();
    else this.#paint();
  }

  link(seed) {
    return `checkpoint=${this.checkpoint()}&shape=${seed}&texture=${seed}&truncation=${TRUNCATION}`;
  }

  async #add(seed, number) {
    const mesh = await this.#fetch("api/surface", `checkpoint=${this.checkpoint()}&shape=${seed}&truncation=${TRUNCATION}`);
    if (number !== this.number || mesh === null || mesh.extras.statistics.largest_part < MIN_LARGEST_PART) return;
    const entry = document.createElement("li"), anchor = document.createElement("a");
    const canvas = document.createElement("canvas"), words = document.createElement("span");
    anchor.href = `#${this.link(seed)}&azimuth=30&elevation=20`;
    anchor.setAttribute("aria-label", `${this.run.class}, seed ${seed}`);
    words.textContent = `seed ${seed}`;
    anchor.append(canvas, words);
    anchor.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.onChoose(anchor.getAttribute("href"));
    });
    entry.append(anchor);
    part("shapes").append(entry);
    const view = new Turnable(canvas, turnableMesh(mesh), { interactive: false, phase: 11 * this.shown });
    this.waiting.push({ seed, view, canvas });
    this.views.push({ view });
    this.shown += 1;
    document.documentElement.dataset.gallery = String(this.shown);
  }

  // Clay first; then, one after the other, in their textures, as long as the gallery is looked at.
  async #paint() {
    if (this.painting || this.busy) return;
    this.painting = true;
    while (this.waiting.length && this.visible && !this.busy && !document.hidden) {
      const { seed, view, canvas } = this.waiting.shift();
      try {
        const mesh = await this.#fetch("api/painted", this.link(seed));
        if (mesh !== null && view.uploaded) view.setMesh(turnableMesh(mesh));
        canvas.dataset.painted = "true";
      } catch (error) {
        part("gallery-note").textContent = error.message;
        break;
      }
    }
    this.painting = false;
  }

  async #fetch(path, link) {
    const response = await ask(`${path}?${link}`);
    return response.status === 204 ? null : readGlb(await response.arrayBuffer());
  }
}
