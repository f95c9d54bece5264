// Outcomes, answers and questions of a column, and the comparison of two models on them.

import { columns } from "./board.js";
import { chunk } from "./data.js";
import { differenceInterval, logMcNemar, signFlip } from "./mcnemar.js";

const outcomesOf = new Map();

// Item scores of a column: codes of `levels`, items outermost; null if the page doesn't carry them.
export async function columnItems(number) {
  if (!outcomesOf.has(number)) {
    const found = await chunk(`items-${number}`);
    outcomesOf.set(number, found && readItems(number, found));
  }
  return outcomesOf.get(number);
}

function readItems(number, { values, arrays }) {
  const rows = columns[number].rows, count = rows.length * values.ids.length;
  const codes = values.bits === 1 ? bits(arrays.scores, count) : arrays.scores;
  const levels = values.bits === 32 ? null : values.levels;
  return {
    number, codes, levels, width: rows.length, ids: values.ids, subsets: values.subsets,
    subset: arrays.subsets, clusters: arrays.clusters ?? null, rowOf: new Map(rows.map((model, row) => [model, row])),
    isBinary: values.bits === 1 && values.levels.every((level) => level === 0 || level === 1),
  };
}

function bits(packed, count) {
  const found = new Uint8Array(count);
  for (let i = 0; i < count; i++) found[i] = (packed[i >> 3] >> (i & 7)) & 1;
  return found;
}

export function itemScore(items, item, row) {
  const code = items.codes[item * items.width + row];
  return items.levels ? items.levels[code] : code;
}

// How `second` does against `first`, item by item: gained are items on which it is better; null if one of them has no items in the column.
export function comparison(items, first, second) {
  const a = items.rowOf.get(first), b = items.rowOf.get(second);
  if (a === undefined || b === undefined) return null;
  const size = items.ids.length, signs = new Int8Array(size), better = columns[items.number].lower_is_better ? -1 : 1;
  let gained = 0, lost = 0, firstSum = 0, secondSum = 0;
  for (let item = 0; item < size; item++) {
    const x = itemScore(items, item, a), y = itemScore(items, item, b);
    firstSum += x;
    secondSum += y;
    signs[item] = better * Math.sign(y - x);
    if (signs[item] > 0) gained++; else if (signs[item] < 0) lost++;
  }
  return { a, b, size, signs, gained, lost, value: (secondSum - firstSum) / size, ...uncorrected(items, signs, gained, lost, size) };
}

function uncorrected(items, signs, gained, lost, size) {
  if (items.clusters) {
    const sums = new Map();
    signs.forEach((sign, item) => sums.set(items.clusters[item], (sums.get(items.clusters[item]) ?? 0) + sign));
    return { logP: Math.log(signFlip([...sums.values()])), test: "signflip", interval: null };
  }
  const { average, lower_is_better: lower, of_items: ofItems } = columns[items.number];
  const interval = items.isBinary && ofItems && !lower && average !== "macro" ? differenceInterval(gained, lost, size) : null;
  return { logP: logMcNemar(gained, lost), test: items.isBinary ? "mcnemar" : "sign", interval };
}

// Mean item score of each row in each subject, and the number of items in it.
export function subjectMeans(items) {
  const sums = new Float64Array(items.width * items.subsets.length), counts = new Uint32Array(items.subsets.length);
  for (let item = 0; item < items.ids.length; item++) {
    const subset = items.subset[item];
    counts[subset]++;
    for (let row = 0; row < items.width; row++) sums[subset * items.width + row] += itemScore(items, item, row);
  }
  return { counts, mean: (row, subset) => sums[subset * items.width + row] / counts[subset] };
}

const answersOf = new Map();

// Everything the page carries about the answers in a column.
export async function columnAnswers(number) {
  if (!answersOf.has(number)) {
    const names = ["chosen", "questions", "more_questions", "margins", "texts", "more_texts", "likelihoods", "more_likelihoods"];
    const found = await Promise.all(names.map((name) => chunk(`${name}-${number}`)));
    answersOf.set(number, readAnswers(Object.fromEntries(names.map((name, i) => [name, found[i]])), columns[number].rows.length));
  }
  return answersOf.get(number);
}

function readAnswers(found, width) {
  const questions = new Map();
  for (const part of [found.questions, found.more_questions]) {
    part?.arrays.places.forEach((item, i) => questions.set(item, {
      question: part.values.questions[i], choices: part.values.choices[i], targets: part.values.targets[i],
    }));
  }
  const likelihoods = [found.likelihoods, found.more_likelihoods].filter(Boolean).map(ranked);
  return {
    questions,
    chosen: (item, row) => found.chosen?.arrays.chosen[item * width + row] ?? null,
    margin: (item, row) => {
      const code = found.margins?.arrays.margins[item * width + row];
      return code === undefined || code === -128 ? null : code * found.margins.values.step;
    },
    text: (item, row) => {
      for (const part of [found.texts, found.more_texts]) {
        const code = part?.arrays.codes[item * width + row];
        if (code) return part.values.texts[code - 1];
      }
      return null;
    },
    likelihoods: (item, row) => likelihoods.map((part) => part(item * width + row)).find(Boolean) ?? null,
    hasTexts: Boolean(found.texts || found.more_texts),
  };
}

// Returns a function from a place in the mask to the log-likelihoods there, or null.
function ranked({ values, arrays }) {
  const before = new Uint32Array(arrays.mask.length + 1);
  for (let i = 0; i < arrays.mask.length; i++) before[i + 1] = before[i] + ones(arrays.mask[i]);
  return (place) => {
    const byte = arrays.mask[place >> 3], bit = place & 7;
    if (!((byte >> bit) & 1)) return null;
    const row = before[place >> 3] + ones(byte & ((1 << bit) - 1));
    const steps = arrays.values.subarray(row * values.choices, (row + 1) * values.choices);
    return Array.from(steps, (step) => (step === -32768 ? null : step * values.step));
  };
}

function ones(byte) {
  let count = 0;
  for (let rest = byte; rest; rest &= rest - 1) count++;
  return count;
}
