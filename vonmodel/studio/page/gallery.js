// The gallery: shapes of consecutive seeds that are in one piece, ranked by the shape critic, slowly turning; each is a link.
import { ask } from "./ask.js";
import { readGlb, turnableMesh } from "./glb.js";
import { Turnable } from "./viewer.js";

const part = (id) => document.getElementById(id);
const SHAPES = 12;
// The best of this many seeds are shown; if many are in pieces, more are tried.
const TRIED = 18;
const MAX_TRIED = 36;
// A shape whose largest part has a smaller share of the surface is in pieces.
const MIN_LARGEST_PART = 0.9;

export class Gallery {
  // onChoose(link) opens a shape.
  constructor(run, checkpoint, onChoose) {
    Object.assign(this, { run, checkpoint, onChoose, next: 0, shown: 0, busy: false, entries: [], number: 0 });
    part("more").addEventListener("click", () => this.load());
  }

  // Clears all shapes, for another checkpoint.
  reset() {
    for (const { view } of this.entries) view.remove();
    Object.assign(this, { next: 0, shown: 0, entries: [], number: this.number + 1 });
  }

  setShown(visible) {
    this.visible = visible;
    if (visible) this.onVisible?.();
    if (visible && this.shown === 0) this.load();
    else if (visible) this.#paint();
  }

  async load() {
    if (this.busy) return;
    this.busy = true;
    const number = this.number;
    part("more").disabled = true;
    const batch = [], first = this.next;
    try {
      while (number === this.number && this.next < first + (batch.length < SHAPES ? MAX_TRIED : TRIED)) {
        if (!this.visible) await new Promise((resolve) => { this.onVisible = resolve; });  // others compute meanwhile
        part("gallery-note").textContent = `Rating shapes, ${Math.round(100 * (this.next - first) / TRIED)} %…`;
        await this.#add(this.next++, number, batch);
      }
      for (const entry of batch.slice(SHAPES)) this.#remove(entry);
      part("gallery-note").textContent = "";
      part("no-gallery").hidden = this.shown > 0;
      part("no-gallery").textContent = "The shapes of this checkpoint are still in pieces; train longer.";
    } catch (error) {
      part("gallery-note").textContent = error.message;
    }
    part("more").disabled = false;
    this.busy = false;
    if (number !== this.number && this.visible) this.load();
    else this.#paint();
  }

  link(seed) {
    return `checkpoint=${this.checkpoint()}&shape=${seed}&texture=${seed}`;
  }

  async #add(seed, number, batch) {
    const mesh = await this.#fetch("api/surface", `checkpoint=${this.checkpoint()}&shape=${seed}`);
    if (number !== this.number || mesh === null || mesh.extras.statistics.largest_part < MIN_LARGEST_PART) return;
    const item = document.createElement("li"), anchor = document.createElement("a");
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
    item.append(anchor);
    const score = mesh.extras.score ?? -Infinity;
    const place = batch.findIndex((each) => each.score < score);
    part("shapes").insertBefore(item, place < 0 ? null : batch[place].item);
    const view = new Turnable(canvas, turnableMesh(mesh), { interactive: false, phase: 11 * this.shown });
    const entry = { seed, view, canvas, item, score };
    batch.splice(place < 0 ? batch.length : place, 0, entry);
    this.entries.push(entry);
    this.shown += 1;
    document.documentElement.dataset.gallery = String(this.shown);
  }

  #remove(entry) {
    entry.view.remove();
    entry.item.remove();
    this.entries = this.entries.filter((each) => each !== entry);
    this.shown -= 1;
  }

  // Clay first; then textured one after the other, while the gallery is visible.
  async #paint() {
    if (this.painting || this.busy) return;
    this.painting = true;
    for (;;) {
      const entry = this.entries.find(({ canvas }) => !canvas.dataset.painted);
      if (!entry || !this.visible || this.busy || document.hidden) break;
      const { seed, view, canvas } = entry;
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
