// Sorting by a click on a heading, and filters that are kept in the address, so that a view can be sent as a link.
"use strict";

function key(row, column) {
  const cell = row.cells[column];
  const number = "value" in cell.dataset ? parseFloat(cell.dataset.value) : NaN;
  return "value" in cell.dataset ? number : cell.textContent.trim().toLowerCase();
}

function compare(a, b) {
  if (typeof a === "string") return a.localeCompare(b);
  return Number.isNaN(a) - Number.isNaN(b) || a - b;
}

for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
      table.tBodies[0].append(...rows);
    });
  });
}

for (const form of document.querySelectorAll("form.filter")) {
  const rows = form.dataset.table.split(" ").flatMap((id) => [...document.getElementById(id).tBodies[0].rows]);
  const fields = [...form.elements].filter((field) => field.name);
  const apply = () => {
    let shown = 0;
    for (const row of rows) {
      const matches = fields.every((field) => !field.value || (field.tagName === "SELECT"
        ? row.dataset[field.name] === field.value
        : row.textContent.toLowerCase().includes(field.value.toLowerCase())));
      row.hidden = !matches;
      shown += matches;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
  };
  const address = new URLSearchParams(location.search);
  for (const field of fields) field.value = address.get(field.name) || "";
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    const next = new URLSearchParams(location.search);
    for (const field of fields) field.value ? next.set(field.name, field.value) : next.delete(field.name);
    const query = next.toString();
    history.replaceState(null, "", `${location.pathname}${query && "?"}${query}${location.hash}`);
    apply();
  });
  apply();
}
