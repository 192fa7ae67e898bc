"use strict";
(() => {
  const held = document.getElementById("picks-data").textContent;
  const table = JSON.parse(held);
  if (!table) return;

  const PAGE = 50;
  const { columns, rows } = table;
  const shown = (value) => (value === null ? "" : String(value));
  const isText = columns.map((column) => column.kind !== "image");
  const words = rows.map((row) =>
    row.filter((_, i) => isText[i]).map(shown).join("\n").toLowerCase()
  );
  const element = (id) => document.getElementById(id);
  const head = element("picks-head");
  const body = element("picks-body");
  const filter = element("picks-filter");
  const status = element("picks-status");
  const back = element("picks-back");
  const next = element("picks-next");
  let order = rows.map((_, i) => i);
  let matching = order;
  let first = 0;

  // Integers beyond 2^53 come as text. BigInt keeps their digits and compares with numbers.
  function numberOf(value) {
    if (typeof value === "string" && /^-?\d+$/.test(value)) return BigInt(value);
    return Number(value);
  }

  function compare(a, b, isNumber) {
    if (!isNumber) return a < b ? -1 : a > b ? 1 : 0;
    const x = numberOf(a);
    const y = numberOf(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }

  function sort(place, isAscending) {
    const isNumber = columns[place].kind === "number";
    const isMissing = (value) => value === null || value === "" || (isNumber && value === "NaN");
    const present = rows.map((_, i) => i).filter((i) => !isMissing(rows[i][place]));
    const missing = rows.map((_, i) => i).filter((i) => isMissing(rows[i][place]));
    const sign = isAscending ? 1 : -1;
    present.sort((i, j) => sign * compare(rows[i][place], rows[j][place], isNumber));
    order = present.concat(missing);
  }

  function cell(value, place, rank) {
    const td = document.createElement("td");
    const { kind, name } = columns[place];
    if (kind === "image" && value) {
      const image = document.createElement("img");
      image.loading = "lazy";
      image.alt = `${name} of pick ${rank}`;
      image.src = value;
      td.append(image);
    } else {
      td.textContent = shown(value);
    }
    if (kind === "number") td.className = "number";
    return td;
  }

  function draw() {
    const page = matching.slice(first, first + PAGE);
    body.replaceChildren(
      ...page.map((i) => {
        const tr = document.createElement("tr");
        tr.append(...rows[i].map((value, place) => cell(value, place, i + 1)));
        return tr;
      })
    );
    const count = matching.length.toLocaleString("en");
    const range = page.length ? `Picks ${first + 1} to ${first + page.length} of ${count}` : "No pick";
    status.textContent = filter.value ? `${range} with “${filter.value}”` : range;
    back.disabled = first === 0;
    next.disabled = first + PAGE >= matching.length;
  }

  function select() {
    const wanted = filter.value.toLowerCase();
    matching = wanted ? order.filter((i) => words[i].includes(wanted)) : order;
    first = 0;
    draw();
  }

  columns.forEach(({ name, kind }, place) => {
    const th = document.createElement("th");
    th.scope = "col";
    if (kind === "number") th.className = "number";
    if (kind === "image") {
      th.textContent = name;
    } else {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        const isAscending = th.getAttribute("aria-sort") !== "ascending";
        for (const other of head.children) other.removeAttribute("aria-sort");
        th.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
        sort(place, isAscending);
        select();
      });
      th.append(button);
    }
    head.append(th);
  });
  filter.addEventListener("input", select);
  back.addEventListener("click", () => {
    first -= PAGE;
    draw();
  });
  next.addEventListener("click", () => {
    first += PAGE;
    draw();
  });
  element("picks-controls").hidden = false;
  draw();
})();
