"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const button of all("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.dataset.copy;
    try { await navigator.clipboard.writeText(text); }
    catch { // an old browser, or one that asks for leave: select the text, so that Ctrl-C takes it
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("pre"));
      getSelection().removeAllRanges(); getSelection().addRange(range);
      if (!document.execCommand("copy")) { button.textContent = "Selected: press Ctrl-C"; return; }
    }
    button.textContent = "Copied";
  });
}

for (const table of all("table.sortable")) all("thead th", table).forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button"; button.textContent = head.textContent; head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending", body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      return isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    });
    all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...(down ? order.reverse() : order));
  });
});

for (const tree of all(".tree[data-tools]")) {
  const box = document.createElement("p");
  for (const [text, open] of [["Open all", true], ["Close all", false]]) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = text;
    button.addEventListener("click", () => all("details", tree).forEach((part) => { part.open = open; }));
    box.append(button, " ");
  }
  tree.before(box);
  tree.addEventListener("keydown", (event) => { // as in a tree of DevTools
    const here = event.target.closest("summary");
    if (!here) return;
    const part = here.parentElement, seen = all("summary", tree).filter((one) => one.checkVisibility());
    const to = { ArrowDown: seen[seen.indexOf(here) + 1], ArrowUp: seen[seen.indexOf(here) - 1] }[event.key];
    if (event.key === "ArrowRight" && !part.open) part.open = true;
    else if (event.key === "ArrowLeft" && part.open) part.open = false;
    else if (event.key === "ArrowLeft") part.parentElement.closest("details")?.querySelector("summary").focus();
    else if (to) to.focus();
    else return;
    event.preventDefault();
  });
}

for (const ice of all("svg.ice")) {
  const cells = all(".cell", ice), says = document.getElementById(ice.id + "-says");
  const at = (cell) => [Number(cell.dataset.x), Number(cell.dataset.w), Number(cell.dataset.level)];
  const enter = (chosen) => {
    const [left, width, level] = at(chosen);
    for (const cell of cells) {
      const [x, w, l] = at(cell);
      const above = l <= level && x <= left + 1e-6 && x + w >= left + width - 1e-6;
      const inside = l > level && x >= left - 1e-6 && x + w <= left + width + 1e-6;
      cell.style.display = above || inside ? "" : "none";
      cell.setAttribute("x", above ? "0%" : 100 * (x - left) / width + "%");
      cell.setAttribute("width", above ? "100%" : 100 * w / width + "%");
      cell.classList.toggle("thin", !above && w / width < 0.04);
    }
    says.textContent = chosen.getAttribute("aria-label");
  };
  const beside = (here, key) => { // the bar to which an arrow leads, as in a tree
    const [x, w, level] = at(here), shown = cells.filter((cell) => cell.style.display !== "none");
    const row = (wanted) => shown.filter((cell) => at(cell)[2] === wanted).sort((a, b) => at(a)[0] - at(b)[0]);
    return {
      ArrowRight: () => row(level).find((cell) => at(cell)[0] > x + 1e-6),
      ArrowLeft: () => row(level).reverse().find((cell) => at(cell)[0] < x - 1e-6),
      ArrowUp: () => row(level - 1).reverse().find((cell) => at(cell)[0] <= x + 1e-6),
      ArrowDown: () => row(level + 1).find((cell) => at(cell)[0] >= x - 1e-6 && at(cell)[0] < x + w - 1e-6),
    }[key]?.();
  };
  for (const cell of cells) {
    cell.setAttribute("role", "button"); cell.setAttribute("tabindex", cell === cells[0] ? "0" : "-1");
    cell.addEventListener("click", () => enter(cell));
    cell.addEventListener("focus", () => {
      cells.forEach((other) => other.setAttribute("tabindex", other === cell ? "0" : "-1"));
      says.textContent = cell.getAttribute("aria-label");
    });
    cell.addEventListener("keydown", (event) => {
      const next = beside(cell, event.key);
      if (event.key === "Enter" || event.key === " ") enter(cell);
      else if (event.key === "Escape") { enter(cells[0]); cells[0].focus(); }
      else if (next) next.focus();
      else return;
      event.preventDefault();
    });
  }
}
addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));
