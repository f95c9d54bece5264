// Exact tests of paired outcomes, in logarithms where numbers get too small.

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
  -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

// Source: Lanczos' approximation with g = 7, n = 9 (Godfrey's coefficients); Stirling's series from 30 on.
function logGamma(x) {
  if (x >= 30) {
    const s = 1 / (x * x);
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI)
      + (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s / 1680))) / x;
  }
  let sum = LANCZOS[0];
  for (let i = 1; i < 9; i++) sum += LANCZOS[i] / (x - 1 + i);
  const base = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(sum);
}

function logChoose(n, k) {
  return logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
}

// Log of P(X <= k) of a binomial; the terms fall off quickly below the mode.
function logLowerTail(k, n, share) {
  if (k < 0) return -Infinity;
  if (k >= n) return 0;
  const odds = (1 - share) / share;
  let term = 1, sum = 1;
  for (let i = k; i > 0; i--) {
    term *= (i / (n - i + 1)) * odds;
    sum += term;
    if (term < sum * 1e-17) break;
  }
  return logChoose(n, k) + k * Math.log(share) + (n - k) * Math.log1p(-share) + Math.log(sum);
}

// Two-sided exact McNemar test: log of the p-value of `gained` against `lost` items.
export function logMcNemar(gained, lost) {
  if (gained === lost) return 0;
  return Math.min(0, Math.LN2 + logLowerTail(Math.min(gained, lost), gained + lost, 0.5));
}

// Clopper-Pearson interval of a share of `k` in `n`.
export function clopperPearson(k, n, confidence = 0.95) {
  const target = Math.log((1 - confidence) / 2);
  const root = (tail, low, high) => {
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (tail(middle) < target) low = middle; else high = middle;
    }
    return (low + high) / 2;
  };
  const low = k === 0 ? 0 : root((share) => logLowerTail(n - k, n, 1 - share), 0, k / n);
  const high = k === n ? 1 : 1 - root((share) => logLowerTail(k, n, 1 - share), 0, 1 - k / n);
  return [low, high];
}

const Z = 1.959963984540054; // normal quantile of 97.5%

// Wilson's 95% interval of a share of `k` in `n`.
function wilson(k, n) {
  const share = k / n, scale = 1 + Z * Z / n;
  const centre = (share + Z * Z / (2 * n)) / scale;
  const spread = Z * Math.sqrt(share * (1 - share) / n + (Z / (2 * n)) ** 2) / scale;
  return [centre - spread, centre + spread];
}

// 95% interval of a paired difference: that of the gained among the flips, and that of the flips among the items, as
// workbench/statistics/binary_pairs.py combines them. It excludes 0 exactly where McNemar's test rejects.
export function differenceInterval(gained, lost, numItems) {
  const flips = gained + lost;
  if (flips === 0) {
    const equal = 1 - 0.025 ** (1 / numItems);
    return [-equal, equal];
  }
  const scale = flips / numItems;
  let [low, high] = clopperPearson(gained, flips).map((share) => (2 * share - 1) * scale);
  const difference = (gained - lost) / numItems, size = Math.abs(difference);
  const [fewest, most] = wilson(flips, numItems), more = most / scale - 1;
  const near = difference < 0 ? -high : low;
  low = Math.max(-1, difference - Math.hypot(difference - low, low * more));
  high = Math.min(1, difference + Math.hypot(high - difference, high * more));
  if (near > 0) {
    const nearZero = size * Math.exp(-Math.hypot(Math.log(size / near), Math.log(scale / fewest)));
    if (difference < 0) high = -nearZero; else low = nearZero;
  }
  return [low, high];
}

// Two-sided sign-flip test of the sum of whole numbers, by its exact distribution; McNemar where all are 1.
export function signFlip(values) {
  const sizes = values.map(Math.abs).filter((size) => size > 0);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const observed = Math.abs(values.reduce((sum, value) => sum + value, 0));
  let chances = new Float64Array(2 * total + 1), reach = 0;
  chances[total] = 1;
  for (const size of sizes) {
    const next = new Float64Array(2 * total + 1);
    for (let i = total - reach; i <= total + reach; i++) {
      next[i + size] += chances[i] / 2;
      next[i - size] += chances[i] / 2;
    }
    chances = next;
    reach += size;
  }
  let tail = 0;
  for (let i = total + observed; i <= 2 * total; i++) tail += chances[i];
  return Math.min(1, observed === 0 ? 1 : 2 * tail);
}
