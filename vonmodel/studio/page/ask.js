// Requests to the studio. Of one kind only one is under way, and what is asked meanwhile waits as the newest question.
const CLIENT = [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(36)).join("");
let turn = 0;

export class Refused extends Error {
  constructor(sentence, status, kind) {
    super(sentence);
    this.status = status;
    this.kind = kind;
  }
}

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The studio does not answer. Is von serve still running?", 0, "Unreachable");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(said.error ?? `The studio answered ${response.status}.`, response.status, said.kind);
}

export class Channel {
  static all = [];

  constructor(path, onAnswer, onRefusal) {
    Object.assign(this, { path, onAnswer, onRefusal, busy: false, next: null, asked: null });
    Channel.all.push(this);
  }

  // Asks this link, unless it is what was asked last.
  show(link) {
    if (link === this.asked) return;
    this.asked = link;
    this.next = link;
    if (!this.busy) this.#run();
    Channel.tellAsking();
  }

  // What was asked last may be asked again.
  forget() { this.asked = null; }

  // How many channels wait for an answer, for who watches the page.
  static tellAsking() {
    document.documentElement.dataset.asking = String(Channel.all.filter((channel) => channel.busy).length);
  }

  async #run() {
    this.busy = true;
    while (this.next !== null) {
      const link = this.next;
      this.next = null;
      try {
        const started = performance.now();
        const response = await ask(`${this.path}?${link}&client=${CLIENT}&turn=${++turn}`);
        const content = await response.blob();
        await this.onAnswer(content, response.status, performance.now() - started, link);
      } catch (error) {
        if (error.kind === "SupersededError") continue;
        this.asked = null;
        if (this.next === null) this.onRefusal(error, link);
      }
    }
    this.busy = false;
    Channel.tellAsking();
  }
}
