// Tables sort by a click on a heading; filters are kept in the address, so that a view can be sent as a link; the claim that a link
// names opens; figures open large, and curves can be switched off there.
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
  const rows = [...document.querySelectorAll(form.dataset.rows)];
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

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") target.open = true;
  if (target) target.scrollIntoView();
}
window.addEventListener("hashchange", openTarget);
openTarget();

// The drawing is put into a shadow tree, as the ids of one SVG occur in others.
const dialog = document.getElementById("large");
const shadow = dialog.querySelector(".drawing").attachShadow({ mode: "open" });

function switches(drawing) {
  const names = [...new Set([...drawing.querySelectorAll("[id^='curve-']")].map((part) => part.id))];
  return names.map((name) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      for (const part of drawing.querySelectorAll("[id^='curve-']")) {
        if (part.id === name) part.style.display = box.checked ? "" : "none";
      }
    });
    label.append(box, ` ${name.slice("curve-".length).replaceAll("_", " ")}`);
    return label;
  });
}

function enlarge(figure) {
  const image = figure.querySelector("img");
  const source = image.getAttribute("src"), vector = source.startsWith("data:image/svg+xml,");
  const style = document.createElement("style");
  style.textContent = "svg, img { display: block; width: 100%; height: auto; max-height: 80vh; }";
  let drawing = image.cloneNode();
  if (vector) {
    const text = decodeURIComponent(source.slice(source.indexOf(",") + 1));
    drawing = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
  }
  shadow.replaceChildren(style, drawing);
  dialog.querySelector(".curves").replaceChildren(...(vector ? switches(drawing) : []));
  dialog.setAttribute("aria-label", figure.dataset.name);
  dialog.showModal();
}

for (const figure of document.querySelectorAll("figure")) {
  const button = document.createElement("button"), image = figure.querySelector("img");
  button.type = "button";
  button.setAttribute("aria-label", `Open large: ${figure.dataset.name}`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => enlarge(figure));
}
