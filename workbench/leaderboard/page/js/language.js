// The interface in English and Chinese.

import { english } from "./english.js";
import { chinese } from "./chinese.js";

const DICTIONARIES = { en: english, zh: chinese };

let spoken = "en";

export function language() {
  return spoken;
}

export function setLanguage(code) {
  spoken = code in DICTIONARIES ? code : "en";
  document.documentElement.lang = spoken === "zh" ? "zh-Hans" : "en";
}

// The text of a key, with {name} replaced by values.
export function t(key, values = {}) {
  const text = DICTIONARIES[spoken][key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export function stored(name) {
  try { return localStorage.getItem(`leaderboard-${name}`); } catch { return null; }
}

export function store(name, value) {
  try { localStorage.setItem(`leaderboard-${name}`, value); } catch { /* a file may have no storage */ }
}
