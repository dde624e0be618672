// The controls of a code: its seed, and a mix with another seed.
import { isCode, isEncoded } from "./state.js";

export class CodeControls {
  // onChange(values, done) receives the changed values of the state by name; done is false while a slider is held.
  constructor(fieldset, onChange) {
    this.name = fieldset.dataset.code;
    fieldset.append(document.querySelector("#code-controls").content.cloneNode(true));
    const part = (role) => fieldset.querySelector(`[data-role="${role}"]`);
    this.parts = Object.fromEntries(
      ["seed-slider", "seed", "chip", "chip-words", "chip-off", "mix", "mix-out", "to"].map((role) => [role, part(role)]),
    );
    this.seedRow = fieldset.querySelector(".seed");
    const { name, parts } = this;
    const tell = (values, done) => onChange(values, done);
    const slider = (done) => () => tell({ [name]: parts["seed-slider"].value }, done);
    parts["seed-slider"].addEventListener("input", slider(false));
    parts["seed-slider"].addEventListener("change", slider(true));
    const mix = (done) => () => {
      const values = { [`${name}-mix`]: parts.mix.value };
      if (!parts.to.value) values[`${name}-to`] = String((Number.parseInt(parts.seed.value, 10) || 0) + 1);
      tell(values, done);
    };
    parts.mix.addEventListener("input", mix(false));
    parts.mix.addEventListener("change", mix(true));
    const typed = (input, key) => () => {
      const code = input.value.trim();
      const good = isCode(code) || (code === "" && key.endsWith("-to"));
      input.setCustomValidity(good ? "" : "A seed is a whole number up to 4294967295.");
      if (good) tell({ [key]: code }, true);
      else input.reportValidity();
    };
    parts.seed.addEventListener("change", typed(parts.seed, name));
    parts.to.addEventListener("change", typed(parts.to, `${name}-to`));
    parts["chip-off"].addEventListener("click", () => tell({ [name]: "0", [`${name}-mix`]: "0" }, true));
  }

  show(state) {
    const { name, parts } = this;
    const code = state[name], to = state[`${name}-to`] ?? "", mix = Number(state[`${name}-mix`] ?? 0);
    const encoded = isEncoded(code);
    this.seedRow.hidden = encoded;
    parts.chip.hidden = !encoded;
    parts["chip-words"].textContent = "From a photo";
    if (!encoded) {
      if (document.activeElement !== parts.seed) parts.seed.value = code;
      parts["seed-slider"].value = Number.parseInt(code, 10);
      parts["seed-slider"].setAttribute("aria-valuetext", `seed ${code}`);
      parts.seed.setCustomValidity("");
    }
    if (document.activeElement !== parts.to) parts.to.value = isEncoded(to) ? "" : to;
    parts.to.placeholder = isEncoded(to) ? "photo" : "seed";
    parts.mix.value = mix;
    parts["mix-out"].textContent = to && mix > 0 ? `${Math.round(100 * mix)} %` : "";
    parts.mix.setAttribute("aria-valuetext", `${Math.round(100 * mix)} percent`);
  }
}
