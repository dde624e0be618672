// The page: what run it is of, and which of its two sides is shown.
import { ask } from "./ask.js";
import { Explore } from "./explore.js";
import { Training } from "./training.js";

const part = (id) => document.getElementById(id);
const TABS = ["explore", "training"];
const NEWER_EVERY_MS = 10_000;

function say(sentence) {
  part("notice").textContent = sentence && sentence[0].toUpperCase() + sentence.slice(1);
  part("notice").hidden = !sentence;
}

function choose(tab, training) {
  for (const name of TABS) {
    part(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    part(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
    part(name).hidden = name !== tab;
  }
  training.setShown(tab === "training");
}

function describe(run, explore) {
  const { resolution, image_size: size } = run.model ?? {};
  part("lead").textContent = run.model ? `${resolution}³ voxels, ${size} × ${size} pixels, checkpoint ` : "";
  if (!explore) return;
  const choice = document.createElement("select");
  choice.id = "checkpoint";
  choice.setAttribute("aria-label", "Checkpoint");
  offer(choice, run.checkpoints, explore);
  choice.addEventListener("change", () => explore.change({ checkpoint: choice.value }, true));
  part("lead").append(choice);
  const look = () => lookForNewer(choice, run, explore);
  addEventListener("focus", look);
  setInterval(look, NEWER_EVERY_MS);
}

function offer(choice, checkpoints, explore) {
  choice.replaceChildren(...checkpoints.map((each) => new Option(`${each.stage} ${each.step}`, each.name)).reverse());
  choice.value = explore.state.checkpoint;
}

// A training goes on writing checkpoints while its model is explored.
async function lookForNewer(choice, run, explore) {
  if (document.hidden) return;
  const found = await ask("api/run").then((response) => response.json()).catch(() => null);
  if (!found || !found.checkpoints.length) return;
  const newest = found.checkpoints.at(-1), known = run.checkpoints.map((each) => each.name);
  const same = JSON.stringify(known) === JSON.stringify(found.checkpoints.map((each) => each.name));
  run.checkpoints = found.checkpoints;
  if (same) return;
  offer(choice, found.checkpoints, explore);
  if (!known.includes(newest.name)) say(`There is a newer checkpoint, ${newest.stage} ${newest.step}; choose it above.`);
}

// Asks until there is something to see: a training writes its first checkpoint only after a while.
async function open(training) {
  const run = await (await ask("api/run")).json();
  document.title = `${run.class} · studio`;
  part("title").textContent = run.class;
  if (run.checkpoints.length) {
    part("no-model").hidden = true;
    part("model").hidden = false;
    describe(run, new Explore(run, say));
    if (run.problems.length) say(run.problems.join(" "));
    return true;
  }
  describe(run, null);
  part("model").hidden = true;
  part("no-model").hidden = false;
  part("no-model").textContent = run.problems.length ? run.problems.join(" ")
    : "This run has no checkpoint yet. The training writes the first one after a while; the page opens it by itself.";
  if (!training.chosen) choose("training", training);
  training.chosen = true;
  return false;
}

async function start() {
  const training = new Training();
  for (const [index, name] of TABS.entries()) {
    part(`tab-${name}`).addEventListener("click", () => choose(name, training));
    part(`tab-${name}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
      const other = TABS[1 - index];
      choose(other, training);
      part(`tab-${other}`).focus();
    });
  }
  for (;;) {
    try {
      if (await open(training)) return;
    } catch (error) {
      say(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

start();
