// The page: its run, and which of its parts is shown: gallery, one view, or the training.
import { ask } from "./ask.js";
import { Explore } from "./explore.js";
import { Gallery } from "./gallery.js";
import { Training } from "./training.js";

const part = (id) => document.getElementById(id);
const TABS = ["gallery", "explore", "training"];
const NEWER_EVERY_MS = 10_000;
const RETRY_MS = 3000;

function say(sentence) {
  part("notice").textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
  part("notice").hidden = !sentence;
}

class Studio {
  constructor() {
    this.training = new Training();
    this.#listen();
  }

  // Waits for the first checkpoint, which a training run writes only after a while.
  async open() {
    for (;;) {
      try {
        const run = this.run = await (await ask("api/run")).json();
        document.title = `${run.class} · studio`;
        part("title").textContent = run.class;
        if (run.checkpoints.length) return this.#begin(run);
        this.#wait(run);
      } catch (error) {
        say(error.message);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  choose(tab) {
    this.tab = tab;
    for (const name of TABS) {
      part(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
      part(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
      part(name).hidden = name !== tab;
    }
    this.training.setShown(tab === "training");
    this.gallery?.setShown(tab === "gallery");
    if (tab === "explore" && this.run?.checkpoints.length) {
      this.explore ??= this.#explore();
    }
    this.explore?.setShown(tab === "explore");
    document.documentElement.dataset.tab = tab;
  }

  #begin(run) {
    for (const id of ["no-model", "no-gallery"]) part(id).hidden = true;
    part("model").hidden = false;
    part("more").hidden = false;
    this.#describe(run);
    const newest = () => part("checkpoint").value;
    this.gallery = new Gallery(run, newest, (link) => {
      history.pushState(null, "", link);
      this.#arrive();
    });
    if (run.problems.length) say(run.problems.join(" "));
    if (location.hash.length > 1) this.choose("explore");
    else this.choose(this.chosen ? this.tab : "gallery");
  }

  #explore() {
    return new Explore(this.run, say, location.hash);
  }

  // The address has changed: by the browser's Back or Forward, by a link, or by hand.
  #arrive(serial) {
    if (!this.run?.checkpoints.length) return;
    if (location.hash.length <= 1) { this.choose("gallery"); return; }
    const known = this.explore;
    this.choose("explore");
    known?.arrive(location.hash, serial);
  }

  #wait(run) {
    this.#describe(run);
    const sentence = run.problems.length ? run.problems.join(" ")
      : "This run has no checkpoint yet. The page opens the first one as soon as training has written it.";
    part("model").hidden = true;
    part("more").hidden = true;
    for (const id of ["no-model", "no-gallery"]) {
      part(id).hidden = false;
      part(id).textContent = sentence;
    }
    if (!this.tab) this.choose("training");
  }

  #describe(run) {
    const { resolution, image_size: size } = run.model ?? {};
    part("lead").textContent = run.model ? `${resolution}³ voxels, ${size} × ${size} pixels, checkpoint ` : "";
    if (!run.checkpoints.length) return;
    const choice = document.createElement("select");
    choice.id = "checkpoint";
    choice.setAttribute("aria-label", "Checkpoint");
    this.#offer(choice, run.checkpoints, run.checkpoints.at(-1).name);
    choice.addEventListener("change", () => {
      if (this.tab === "explore") this.explore.change({ checkpoint: choice.value }, true);
      else this.#newGallery();
    });
    part("lead").append(choice);
    const look = () => this.#lookForNewer(choice);
    addEventListener("focus", look);
    setInterval(look, NEWER_EVERY_MS);
  }

  #newGallery() {
    part("shapes").replaceChildren();
    this.gallery.reset();
    this.gallery.setShown(this.tab === "gallery");
  }

  #offer(choice, checkpoints, chosen) {
    choice.replaceChildren(...checkpoints.map((each) => new Option(`${each.stage} ${each.step}`, each.name)).reverse());
    choice.value = chosen;
  }

  // Training may write further checkpoints while the model is explored.
  async #lookForNewer(choice) {
    if (document.hidden) return;
    const found = await ask("api/run").then((response) => response.json()).catch(() => null);
    if (!found || !found.checkpoints.length) return;
    const newest = found.checkpoints.at(-1), known = this.run.checkpoints.map((each) => each.name);
    const same = JSON.stringify(known) === JSON.stringify(found.checkpoints.map((each) => each.name));
    this.run.checkpoints = found.checkpoints;
    if (same) return;
    this.#offer(choice, found.checkpoints, choice.value);
    if (!known.includes(newest.name)) say(`There is a newer checkpoint, ${newest.stage} ${newest.step}; choose it above.`);
  }

  #listen() {
    addEventListener("popstate", (event) => this.#arrive(event.state?.serial));
    for (const [index, name] of TABS.entries()) {
      part(`tab-${name}`).addEventListener("click", () => { this.chosen = true; this.choose(name); });
      part(`tab-${name}`).addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        const other = TABS[(index + by + TABS.length) % TABS.length];
        this.chosen = true;
        this.choose(other);
        part(`tab-${other}`).focus();
      });
    }
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const setTheme = (name) => {
      document.documentElement.dataset.theme = name;
      part("theme").textContent = name === "dark" ? "Light" : "Dark";
      part("theme").setAttribute("aria-label", `Show the page ${name === "dark" ? "light" : "dark"}`);
    };
    setTheme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
    part("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  }
}

new Studio().open();
