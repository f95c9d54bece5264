// Numbers as text, the same on every view.

const MINUS = "\u2212";

// A share in percent with one decimal; what lies halfway is rounded to even, as in the terminal and the files.
function inPercent(share) {
  const value = 100 * share, tenths = Math.floor(10 * value);
  const isHalfway = Number.isInteger(4 * value) && !Number.isInteger(2 * value);
  return (isHalfway ? (tenths + Math.abs(tenths % 2)) / 10 : value).toFixed(1).replace(/^-0\.0$/, "0.0");
}

export function scoreText(value, share) {
  if (value === null || value === undefined) return "–";
  return (share ? inPercent(value) : precise(value)).replace("-", MINUS);
}

export function precise(value) {
  return String(Number(value.toPrecision(4)));
}

export function changeText(value, share) {
  if (value === null || value === undefined) return "–";
  const text = share ? inPercent(Math.abs(value)) : precise(Math.abs(value));
  if (Number(text) === 0) return text;
  return (value > 0 ? "+" : MINUS) + text;
}

export function rangeText(low, high, share, signed = false) {
  if (low === null || low === undefined || high === null || high === undefined) return "";
  return signed ? `${changeText(low, share)} … ${changeText(high, share)}` : `${scoreText(low, share)}–${scoreText(high, share)}`;
}

// A p-value from its logarithm, never as zero.
export function pText(logP) {
  if (logP === null || logP === undefined || Number.isNaN(logP)) return "–";
  const p = Math.exp(logP);
  if (p >= 0.001) return p < 0.1 ? p.toFixed(3) : p.toFixed(2);
  if (logP === -Infinity) return `< 1e${MINUS}300`;
  const power = Math.floor(logP / Math.LN10 + 1e-9), digit = Math.round(Math.exp(logP - power * Math.LN10));
  return digit === 10 ? `1e${MINUS}${-power - 1}` : `${digit}e${MINUS}${-power}`;
}

// The corrected p-value of a test of the board; sums of random signs are computed down to 1e-15.
export function adjustedText(test) {
  if (test.p_adjusted === null) return "–";
  return (test.test === "sign-flip-exact" && test.p_value <= 1e-15 ? "≤ " : "") + pText(Math.log(test.p_adjusted));
}

export function rankText(score) {
  if (!score || score.best === null || score.best === undefined) return "";
  return score.best === score.worst ? String(score.best) : `${score.best}–${score.worst}`;
}

export function count(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en-US");
}

export function factText(name, value) {
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  if (name.endsWith("_bytes")) return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(2)} GiB` : `${(value / 2 ** 20).toFixed(0)} MiB`;
  if (name.endsWith("_per_second")) return `${count(Math.round(value))}/s`;
  if (name.endsWith("seconds")) return `${precise(value)} s`;
  if (name === "num_parameters") return value >= 1e9 ? `${precise(value / 1e9)} B` : `${precise(value / 1e6)} M`;
  return Number.isInteger(value) && Math.abs(value) >= 1000 ? count(value) : String(value);
}
