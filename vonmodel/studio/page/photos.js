// Photos: brought by dropping, choosing or pasting; their texture is used, or they are reconstructed.
import { ask } from "./ask.js";

const LOOK_EVERY_MS = 300;
const part = (id) => document.getElementById(id);

export class Photos {
  // onFound(values) gets what a photo changes of the state.
  constructor({ checkpoint, limit, onFound }) {
    Object.assign(this, { checkpoint, limit, onFound, found: null });
    const drop = part("drop");
    part("photo").addEventListener("change", (event) => {
      this.bring(event.target.files[0]);
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
  }

  async bring(file) {
    if (!file) return;
    const number = this.number = (this.number ?? 0) + 1;
    if (file.size > this.limit) {
      this.say(`A photo may have ${Math.floor(this.limit / 2 ** 20)} MB; ${file.name} has ${Math.ceil(file.size / 2 ** 20)}.`);
      return;
    }
    this.say("Looking for the object…");
    try {
      const response = await ask(`api/photos?checkpoint=${this.checkpoint()}`, { method: "POST", body: file });
      const found = await response.json();
      if (number !== this.number) return;
      this.found = found;
    } catch (error) {
      if (number === this.number) this.say(error.message);
      return;
    }
    part("cutout").src = this.found.picture;
    part("brought").hidden = false;
    this.say("");
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
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        task = await (await ask(`api/tasks/${task.id}`, { method: this.cancelled ? "DELETE" : "GET" })).json();
      }
      if (task.state === "failed") this.say(task.error);
      if (task.state === "cancelled") this.say("Cancelled.");
      if (task.state === "done") {
        const { overlap, ...values } = task.result;
        this.say(`Reconstructed; the silhouettes overlap by ${Math.round(100 * overlap)} %.`);
        this.onFound({ ...values, "shape-mix": "0", "texture-mix": "0" });
      }
    } catch (error) {
      this.say(error.message);
    } finally {
      this.working = false;
      part("working").hidden = true;
      part("reconstruct").disabled = false;
    }
  }

  say(sentence) {
    part("photo-note").textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
  }
}
