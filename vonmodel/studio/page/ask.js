// Requests to the studio. A channel has one request in flight; of those made meanwhile only the newest is sent.
const CLIENT = [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(36)).join("");
const MAX_TRIES = 3;
let turn = 0;

export class Refused extends Error {
  constructor(sentence, status, kind, pieces) {
    super(sentence);
    this.status = status;
    this.kind = kind;
    this.pieces = pieces;
  }
}

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The studio does not answer. Is it still running?", 0, "Unreachable");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const again = Number(response.headers.get("Retry-After"));
  if (response.status === 503 && again > 0 && (options.tries ?? 0) < MAX_TRIES) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * again));
    return ask(path, { ...options, tries: (options.tries ?? 0) + 1 });
  }
  throw new Refused(said.error ?? `The studio answered ${response.status}.`, response.status, said.kind, said.pieces);
}

export class Channel {
  static all = [];

  // `name` separates channels of the same path, so that one does not replace the other's requests.
  constructor(path, onAnswer, onRefusal, name = "") {
    Object.assign(this, { path, onAnswer, onRefusal, client: CLIENT + name, busy: false, next: null, asked: null });
    Channel.all.push(this);
  }

  // Requests this link, unless it was the last one requested.
  show(link) {
    if (link === this.asked) return;
    this.asked = link;
    this.next = link;
    if (!this.busy) this.#run();
    Channel.tellAsking();
  }

  // Allows the last request to be repeated.
  forget() { this.asked = null; }

  // Publishes how many channels have a request in flight, for tests.
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
        const response = await ask(`${this.path}?${link}&client=${this.client}&turn=${++turn}`);
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
