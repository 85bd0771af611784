// Tables that a reader can sort, and links into closed details. Texts from data are only ever read, never made into markup.
"use strict";
(() => {
  const key = (cell) => cell.dataset.order ?? cell.textContent.trim();
  const isEmpty = (cell) => !cell.textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [a.cells[column], b.cells[column]];
          return isEmpty(x) - isEmpty(y) || sign * compare(key(x), key(y)); // what is empty stays last
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1)); // names: letters, digits, signs that stay
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
  let closed = []; // on paper all is open but what is a page of its own: the runs of each number, the whole config
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open], .cell, .cell *, #repeat *)")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of closed) each.open = false; });
})();
