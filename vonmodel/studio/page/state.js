// The state of a view, as written after # in the address, and the history of states.
export const NAMES = [
  "checkpoint", "shape", "shape-to", "shape-mix", "texture", "texture-to", "texture-mix", "azimuth", "elevation", "truncation",
];
export const INITIAL = { shape: "0", texture: "0", azimuth: "30", elevation: "20", truncation: "0.7" };
const RANGES = { truncation: [0.1, 1], azimuth: [-180, 180], elevation: [-90, 90], "shape-mix": [0, 1], "texture-mix": [0, 1] };
const LARGEST_SEED = 2 ** 32 - 1;

// An encoded code, or a stored shape carved to a photo; neither has a seed.
export const isEncoded = (code) => code.startsWith("~") || isStored(code);
const isStored = (code) => /^@[0-9a-f]{24}$/.test(code);

export function isCode(text) {
  const seed = /^(\d{1,12})(?::(\d{1,5}))?$/.exec(text);
  if (!seed) return /^~[A-Za-z0-9_-]+$/.test(text);
  return Number(seed[1]) <= LARGEST_SEED && Number(seed[2] ?? 1) >= 1 && Number(seed[2] ?? 1) <= 10000;
}

// The state of a link, and a message for each invalid argument that was left out.
export function parse(link) {
  const state = { ...INITIAL };
  const complaints = [];
  for (const [name, value] of new URLSearchParams(link.replace(/^#/, ""))) {
    if (value === "") continue;
    const range = RANGES[name];
    const known = range ? value.trim() !== "" && Number(value) >= range[0] && Number(value) <= range[1]
      : name === "checkpoint" ? /^[a-z]+-\d{1,12}$/.test(value)
      : NAMES.includes(name) && (isCode(value) || (name === "shape" && isStored(value)));
    if (known) state[name] = value;
    else complaints.push(`The link has ${name}=${value.slice(0, 40)}, which is invalid and ignored.`);
  }
  return { state, complaints };
}

export function link(state) {
  const given = new URLSearchParams();
  for (const name of NAMES) {
    const value = state[name];
    if (value === undefined || value === "") continue;
    if (name.endsWith("-mix") && (Number(value) === 0 || !state[name.replace("mix", "to")])) continue;
    if (name === "truncation" && Number(value) === Number(INITIAL.truncation)) continue;
    given.set(name, value);
  }
  return given.toString().replaceAll("%7E", "~").replaceAll("%3A", ":").replaceAll("%40", "@");
}

// States in order; each has a serial number, under which the browser's history knows it.
export class History {
  constructor(first, onChange) {
    this.states = [first];
    this.place = 0;
    this.dropped = 0;
    this.onChange = onChange;
  }

  note(state) {
    if (state === this.states[this.place]) return;
    this.states.splice(this.place + 1, Infinity, state);
    this.dropped += this.states.splice(0, Math.max(0, this.states.length - 200)).length;
    this.place = this.states.length - 1;
    this.onChange();
  }

  step(by) {
    const place = this.place + by;
    if (place < 0 || place >= this.states.length) return null;
    this.place = place;
    this.onChange();
    return this.states[place];
  }

  get serial() { return this.dropped + this.place; }

  // The state of a serial number, null if it is not known.
  go(serial) { return this.step(serial - this.serial); }

  get canUndo() { return this.place > 0; }
  get canRedo() { return this.place < this.states.length - 1; }
}
