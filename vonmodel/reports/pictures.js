// Pictures open large; the arrow keys go on to the next one, Escape closes.
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
