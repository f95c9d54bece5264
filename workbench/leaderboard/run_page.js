"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  const order = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
  };
  const valueAt = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  for (const button of all("thead button")) {
    button.addEventListener("click", () => {
      const header = button.closest("th"), body = header.closest("table").tBodies[0];
      const down = header.getAttribute("aria-sort") === "ascending" ||
        (header.getAttribute("aria-sort") === null && header.classList.contains("number"));
      all("th", header.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const column = header.cellIndex, sign = down ? -1 : 1;
      const empty = (row) => valueAt(row, column) === "";
      Array.from(body.rows)
        .sort((a, b) => empty(a) - empty(b) || sign * compare(valueAt(a, column), valueAt(b, column)))
        .forEach((row) => body.append(row));
    });
  }

  const form = document.querySelector(".controls form");
  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { value: language } = form.elements.language, { value: verdict } = form.elements.verdict;
    for (const element of all("[data-text]")) {
      const data = element.dataset;
      element.hidden = !words.every((word) => data.text.includes(word)) ||
        Boolean(language && data.language && data.language !== language) ||
        Boolean(verdict && data.verdict !== undefined && data.verdict !== verdict);
    }
    for (const group of all("[data-group]").reverse()) {
      group.hidden = !all("[data-text], [data-group]", group).some((element) => !element.hidden);
    }
    const shown = all("#scores tbody tr").filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = String(shown);
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());

  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const store = (value) => { try { localStorage.setItem("theme", value); } catch { /* a file may not have storage */ } };
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme];
    button.value = theme;
  };
  apply(themes.includes(stored()) ? stored() : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.value) + 1) % themes.length];
    apply(next);
    store(next);
  });

  const openTarget = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", openTarget);
  openTarget();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();
