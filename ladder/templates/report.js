"use strict";
(() => {
  // Sorting: a click on a column's name sorts by it, another turns the order round.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text.replace(/[,%\u00d7]/g, ""));
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const button of document.querySelectorAll("th button")) {
    button.title = "sort by this column";
    button.addEventListener("click", () => {
      const head = button.parentElement, column = head.cellIndex;
      const down = head.ariaSort === "ascending";
      for (const other of head.parentElement.cells) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) =>
        a === null || b === null ? (a === null) - (b === null) : down ? compare(b, a) : compare(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  }

  // Light and dark: the system's wish, until the button says otherwise.
  const root = document.documentElement, theme = document.getElementById("theme");
  const wish = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wish.matches);
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  wish.addEventListener("change", label);
  label();

  // Values of marks: the nearest to the pointer, or one after the other by the arrow keys.
  const tip = document.getElementById("tip"), REACH = 14;
  let shown = null;
  const middle = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2, box];
  };
  const hide = () => { shown?.classList.remove("on"); shown = null; tip.hidden = true; };
  const show = (mark) => {
    if (mark === shown) return;
    hide();
    shown = mark;
    mark.classList.add("on");
    tip.textContent = mark.dataset.text;
    tip.hidden = false;
    const [x, y] = middle(mark);
    const left = Math.min(Math.max(8, x + 12), innerWidth - tip.offsetWidth - 8);
    const above = y - tip.offsetHeight - 12;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : y + 14}px`;
  };
  for (const svg of document.querySelectorAll("svg.figure")) {
    const marks = [...svg.querySelectorAll(".mark")];
    for (const mark of marks) {
      // The browser's own, slower tip would come on top of ours.
      const title = mark.querySelector("title");
      mark.dataset.text = title.textContent;
      mark.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    if (!marks.length) continue;
    svg.addEventListener("pointermove", (event) => {
      let best = null, least = REACH ** 2;
      for (const mark of marks) {
        const [x, y, box] = middle(mark);
        const inside = event.clientX >= box.left && event.clientX <= box.right
          && event.clientY >= box.top && event.clientY <= box.bottom;
        const distance = inside ? 0 : (x - event.clientX) ** 2 + (y - event.clientY) ** 2;
        if (distance < least) { least = distance; best = mark; }
      }
      if (best) show(best); else hide();
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const at = marks.indexOf(shown);
      show(marks[at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length]);
    });
  }
  addEventListener("scroll", hide, { passive: true });

  // The contents mark where the reader is; folded parts are printed unfolded.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) links.get(target.id)?.classList.toggle("here", isIntersecting);
  }, { rootMargin: "-20% 0px -80% 0px" });
  for (const section of document.querySelectorAll("main section")) watch.observe(section);
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
})();
