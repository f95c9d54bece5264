// The interface in English and Chinese.

import { english } from "./english.js";
import { chinese } from "./chinese.js";
import { chineseMessages } from "./chinese_messages.js";

const DICTIONARIES = { en: english, zh: chinese };

let spoken = "en";

export function language() {
  return spoken;
}

export function setLanguage(code) {
  spoken = code in DICTIONARIES ? code : "en";
  document.documentElement.lang = spoken === "zh" ? "zh-Hans" : "en";
}

// The text of a key, with {name} replaced by values, and {name:item|items} by the word for 1 or for other values.
export function t(key, values = {}) {
  return filled(DICTIONARIES[spoken][key] ?? english[key] ?? key, values);
}

function filled(text, values) {
  return text.replace(/\{(\w+)(?::([^|{}]*)\|([^|{}]*))?\}/g, (whole, name, one, many) => {
    if (!(name in values)) return whole;
    return one === undefined ? String(values[name]) : String(values[name]) === "1" ? one : many;
  });
}

// A message of the board is [English text, template, values]; one without values may be a text alone.
export function isMessage(value) {
  return Array.isArray(value) && value.length === 3 && typeof value[1] === "string" && value[2] !== null && typeof value[2] === "object";
}

// A message of the board in the reader's language, in English where there is no translation.
export function messageText(message) {
  const [text, template, values] = isMessage(message) ? message : [message, message, {}];
  const own = spoken === "zh" ? chineseMessages[template] : undefined;
  if (own === undefined) return text;
  return filled(own, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, messageText(value)])));
}

export function stored(name) {
  try { return localStorage.getItem(`leaderboard-${name}`); } catch { return null; }
}

export function store(name, value) {
  try { localStorage.setItem(`leaderboard-${name}`, value); } catch { /* a file may have no storage */ }
}
