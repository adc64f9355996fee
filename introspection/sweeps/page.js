"use strict";
// The sweep's table: a head's button sorts by its column, again turns the order around. The order lives in the
// address's fragment (#sort=gap&order=descending), so that a view can be shared.
(() => {
  const table = document.querySelector("table.sortable");
  if (!table) return;
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const planned = [...body.rows];
  const words = new Intl.Collator("en", { numeric: true });

  const readState = () => {
    const found = new URLSearchParams(location.hash.slice(1));
    return { key: found.get("sort"), descending: found.get("order") === "descending" };
  };

  // Numbers before words, in either order; what is missing stands last.
  const rank = (cell) => ("order" in cell.dataset ? 0 : /^[–\s]*$/.test(cell.textContent) ? 2 : 1);
  const compare = (a, b, descending) => {
    if (rank(a) !== rank(b)) return rank(a) - rank(b);
    const difference =
      rank(a) === 0 ? Number(a.dataset.order) - Number(b.dataset.order) : words.compare(a.textContent, b.textContent);
    return descending ? -difference : difference;
  };

  const render = () => {
    const { key, descending } = readState();
    const column = heads.findIndex((head) => head.dataset.key === key);
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const rows = [...planned];
    if (column >= 0) rows.sort((a, b) => compare(a.cells[column], b.cells[column], descending));
    body.replaceChildren(...rows);
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const { key, descending } = readState();
      const order = key === head.dataset.key && !descending ? "descending" : "ascending";
      history.replaceState(null, "", `#${new URLSearchParams({ sort: head.dataset.key, order })}`);
      render();
    });
    head.append(button);
  }
  window.addEventListener("hashchange", () => {
    if (readState().key !== null) render();
  });
  render();
})();
