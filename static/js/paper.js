// On paper: when the page was printed, in the zone that its other times are in.
const zone = () => document.querySelector(".foot [data-zone]")?.textContent || "UTC";

/** "2026-11-20 18:04" in a time zone; in UTC, and saying so, if the browser does not know the zone. */
export function stamp(date, timeZone) {
  const form = { dateStyle: "short", timeStyle: "short" };
  try {
    return new Intl.DateTimeFormat("sv-SE", { ...form, timeZone }).format(date);
  } catch {
    return `${new Intl.DateTimeFormat("sv-SE", { ...form, timeZone: "UTC" }).format(date)} UTC`;
  }
}

export function startPaper() {
  addEventListener("beforeprint", () => {
    for (const element of document.querySelectorAll("[data-printed]")) {
      element.textContent = stamp(new Date(), zone());
    }
    // The page's content may have been replaced since its start; the foot has not.
    for (const element of document.querySelectorAll(".paper [data-zone]")) element.textContent = zone();
  });
}
