// On phones rows become cards (base.css). Changing `display` hides a table's meaning from screen
// readers; roles restore it.
const narrow = matchMedia("(max-width: 700px)");

const ROLES = [
  ["thead, tbody", "rowgroup"],
  ["tr", "row"],
  ["td", "cell"],
  ["thead th", "columnheader"],
  ["tbody th", "rowheader"],
];

function label() {
  if (!narrow.matches) return;
  for (const table of document.querySelectorAll("table.cards:not([role])")) {
    table.setAttribute("role", "table");
    for (const [selector, role] of ROLES) {
      for (const element of table.querySelectorAll(selector)) element.setAttribute("role", role);
    }
  }
}

export function startCards() {
  label();
  narrow.addEventListener("change", label);
  document.addEventListener("htmx:afterSwap", label);
}
