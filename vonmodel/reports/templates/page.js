// A page of results: the theme switch, meshes that turn, and pictures that open large.
const theme = document.querySelector("#theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  theme.textContent = name === "dark" ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Show the page ${name === "dark" ? "light" : "dark"}`);
}
theme.hidden = false;
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
theme.addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

document.querySelectorAll("canvas[data-mesh]").forEach((canvas, index) => {
  new Turnable(canvas, decodeMesh(canvas.dataset.mesh), { phase: 9 * index });
  canvas.removeAttribute("data-mesh");
});

// Arrow keys show the next or previous picture, Escape closes.
const dialog = document.querySelector("dialog");
const links = [...document.querySelectorAll(".views a")];
let shown = 0;

function show(index) {
  shown = (index + links.length) % links.length;
  const small = links[shown].querySelector("img");
  dialog.querySelector("img").src = small.src;
  dialog.querySelector("img").alt = small.alt;
  dialog.querySelector(".caption").textContent = small.alt;
  if (!dialog.open) dialog.showModal();
}

links.forEach((link, index) => link.addEventListener("click", (event) => {
  event.preventDefault();
  show(index);
}));
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
