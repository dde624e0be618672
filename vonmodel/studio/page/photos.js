// Photos: dropped, chosen or pasted; with a box or a mask where the object is not found; their texture or a reconstruction.
import { ask } from "./ask.js";

const POLL_EVERY_MS = 300;
const MIN_BOX = 0.03;
const LOW_OVERLAP = 0.6;
const part = (id) => document.getElementById(id);

export class Photos {
  // onFound(values) receives the values of the state that a photo changes.
  constructor({ checkpoint, className, limit, onFound }) {
    Object.assign(this, { checkpoint, className, limit, onFound, found: null });
    const drop = part("drop");
    part("photo").addEventListener("change", (event) => {
      this.bring(event.target.files[0]);
      event.target.value = "";
    });
    part("mask").addEventListener("change", (event) => {
      if (event.target.files[0] && this.file) this.bring(this.file, { mask: event.target.files[0] });
      event.target.value = "";
    });
    addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
    addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.bring(event.dataTransfer.files[0]);
    });
    addEventListener("paste", (event) => { if (event.clipboardData.files.length) this.bring(event.clipboardData.files[0]); });
    part("reconstruct").addEventListener("click", () => this.reconstruct());
    part("cancel").addEventListener("click", () => { this.cancelled = true; });
    part("use-texture").addEventListener("click", () => this.onFound({ texture: this.found.texture, "texture-mix": "0" }));
    part("other-mask").addEventListener("click", () => this.#showGiven(true));
    part("given-photo").addEventListener("error", () => this.#showGiven(false));
    this.#listenForBox();
  }

  // Uploads a photo; `mask` is a file, `box` left, top, right, bottom in fractions of the photo.
  async bring(file, { mask, box } = {}) {
    if (!file) return;
    const number = this.number = (this.number ?? 0) + 1;
    const name = file.name || "the pasted photo";
    if (file !== this.file) {
      URL.revokeObjectURL(part("given-photo").src);
      part("given-photo").src = URL.createObjectURL(file);
      part("box").hidden = true;
    }
    this.file = file;
    this.#showGiven(false);
    this.#showPieces();
    part("brought").hidden = true;
    if (file.size + (mask?.size ?? 0) > this.limit) {
      this.say(`${name} has ${Math.ceil(file.size / 2 ** 20)} MB; a photo may have ${Math.floor(this.limit / 2 ** 20)} MB.`);
      return;
    }
    this.say(`${name}: looking for the object…`);
    try {
      const values = new URLSearchParams({ checkpoint: this.checkpoint() });
      if (mask) values.set("mask_bytes", mask.size);
      if (box) values.set("box", box.map((edge) => edge.toFixed(4)).join(","));
      const body = mask ? new Blob([file, mask]) : file;
      const found = await (await ask(`api/photos?${values}`, { method: "POST", body })).json();
      if (number !== this.number) return;
      this.found = found;
    } catch (error) {
      if (number !== this.number) return;
      this.say(`${name}: ${error.message}`, true);
      this.#showPieces(error.pieces);
      this.#showGiven(error.status === 422);
      return;
    }
    part("cutout").src = this.found.picture;
    part("brought").hidden = false;
    this.say(this.found.warning ? `${name}: ${this.found.warning}` : name, Boolean(this.found.warning));
    this.onFound({ texture: this.found.texture, "texture-mix": "0" });
  }

  // Reconstructs the photo while the page stays usable; leaving or cancelling it stops the work.
  async reconstruct() {
    if (this.working) return;
    this.working = true;
    this.cancelled = false;
    part("working").hidden = false;
    part("reconstruct").disabled = true;
    try {
      const link = `photo=${this.found.photo}&checkpoint=${this.checkpoint()}`;
      let task = await (await ask(`api/reconstructions?${link}`, { method: "POST" })).json();
      while (task.state === "waiting" || task.state === "working") {
        part("progress").value = task.share;
        this.say(`${task.doing}…`);
        await new Promise((resolve) => setTimeout(resolve, POLL_EVERY_MS));
        task = await (await ask(`api/tasks/${task.id}`, { method: this.cancelled ? "DELETE" : "GET" })).json();
      }
      if (task.state === "failed") this.say(task.error, true);
      if (task.state === "cancelled") this.say("Cancelled.");
      if (task.state === "done") {
        const { overlap, ...values } = task.result;
        const low = overlap < LOW_OVERLAP ? ` This is low: does it show a whole ${this.className}?` : "";
        this.say(`Reconstructed; the silhouettes overlap by ${Math.round(100 * overlap)} %.${low}`, low !== "");
        this.onFound({ ...values, "shape-mix": "0", "texture-mix": "0" });
      }
    } catch (error) {
      this.say(error.message, true);
    } finally {
      this.working = false;
      part("working").hidden = true;
      part("reconstruct").disabled = false;
    }
  }

  say(sentence, warns = false) {
    part("photo-note").textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
    part("photo-note").classList.toggle("warns", warns);
  }

  #showGiven(shown) {
    part("given").hidden = !shown;
  }

  // Overlays the pieces that were found and refused on the photo: a picture of the same proportions, or none.
  #showPieces(picture = "") {
    for (const id of ["given-pieces", "pieces-note"]) part(id).hidden = !picture;
    if (picture) part("given-pieces").src = picture;
  }

  #listenForBox() {
    const photo = part("given-photo"), box = part("box");
    let from = null;
    const place = (event) => {
      const { left, top, width, height } = photo.getBoundingClientRect();
      const clamp = (value) => Math.min(1, Math.max(0, value));
      return [clamp((event.clientX - left) / width), clamp((event.clientY - top) / height)];
    };
    const edges = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    photo.draggable = false;
    photo.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = place(event);
      photo.setPointerCapture(event.pointerId);
    });
    photo.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [left, top, right, bottom] = edges(place(event));
      box.hidden = false;
      Object.assign(box.style, {
        left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
      });
    });
    photo.addEventListener("pointerup", (event) => {
      if (!from) return;
      const found = edges(place(event));
      from = null;
      if (found[2] - found[0] > MIN_BOX && found[3] - found[1] > MIN_BOX) this.bring(this.file, { box: found });
      else box.hidden = true;
    });
    photo.addEventListener("pointercancel", () => { from = null; box.hidden = true; });
  }
}
