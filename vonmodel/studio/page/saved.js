// Saved views, kept in this browser; each is a link.
export class Saved {
  constructor(list, none, key) {
    Object.assign(this, { list, none, key });
    this.items = this.#read();
  }

  add(link, words, picture) {
    this.items = [{ link, words, picture }, ...this.items.filter((item) => item.link !== link)].slice(0, 60);
    this.#write();
  }

  show(current) {
    this.current = current;
    this.none.hidden = this.items.length > 0;
    this.list.replaceChildren(...this.items.map((item) => this.#entry(item)));
  }

  mark(current) {
    this.current = current;
    for (const anchor of this.list.querySelectorAll("a")) {
      anchor.setAttribute("aria-current", String(anchor.dataset.link === current));
    }
  }

  #entry(item) {
    const entry = document.createElement("li");
    const anchor = document.createElement("a");
    anchor.href = `#${item.link}`;
    anchor.dataset.link = item.link;
    anchor.setAttribute("aria-current", String(item.link === this.current));
    const picture = document.createElement("img");
    picture.src = item.picture.startsWith("data:image/png;base64,") ? item.picture : "";
    picture.alt = "";
    anchor.append(picture, item.words);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${item.words}`);
    remove.addEventListener("click", () => {
      this.items = this.items.filter((each) => each !== item);
      this.#write();
      this.show(this.current);
    });
    entry.append(anchor, remove);
    return entry;
  }

  #read() {
    try {
      const items = JSON.parse(localStorage.getItem(this.key) ?? "[]");
      return items.filter((item) => ["link", "words", "picture"].every((name) => typeof item[name] === "string"));
    } catch {
      return [];
    }
  }

  #write() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.items));
    } catch {
      // Without storage, the browser shows them until it is closed.
    }
  }
}
