"""How many planted leaks the contamination check finds in real rows, its false alarms, its rate and memory.

    python tests/performance/contamination.py DATA --rows 200000 --out ALARMS.txt

`DATA` holds the published files of benchmarks, and folders `instruct` and `pretrain` of rows. Rows are those
of `instruct` as they are, then passages of random length cut from all texts. Items are planted in random
rows; each alarm about an item that was not planted is written to `--out`, to be read.
"""

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import opencc

from workbench.api.benchmarks import load_benchmark
from workbench.config.data import DataConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.data.contamination.items import OPTION, Item
from workbench.data.contamination.search import Contamination, Pair, contamination
from workbench.data.rows import Row, load_rows, texts_within
from workbench.evaluation.contamination_items import item_of
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Example
from workbench.machine import peak_resident_bytes

FOLDERS = {
    **{name: name for name in ("cmmlu", "ceval", "mmlu", "hellaswag", "openbookqa", "gsm8k", "boolq")},
    **{name: f"fewclue/{name}" for name in ("ocnli", "tnews", "chid", "cluewsc", "csl", "eprstmt")},
    **{"arc_easy": "arc", "arc_challenge": "arc", "piqa": "piqa/valid.jsonl", "winogrande": "winogrande"},
    **{"truthfulqa_mc1": "truthfulqa", "sst2": "sst2", "ag_news": "ag_news", "lambada": "lambada"},
}
PLANTED_FROM = ("cmmlu", "ceval", "mmlu", "hellaswag", "openbookqa", "arc_easy", "arc_challenge", "piqa")
CHINESE = ("cmmlu", "ceval")
PROMPT = re.compile(r"^(Question|题目)[:：]\s*|\n(Answer:|答案(是)?：)$")
TRADITIONAL = opencc.OpenCC("s2t")


@dataclass(frozen=True)
class Leak:
    """An item written as somebody might have put it into training rows."""

    benchmark: str
    id: str
    kind: str
    text: str
    answer: str


def question_and_options(example: Example) -> tuple[str, list[str]]:
    """Return the question without the benchmark's prompt, and its options."""
    lines = PROMPT.sub("", example.questions[0]).split("\n")
    lettered = [line for line in lines[1:] if OPTION.match(line)]
    if not lettered:
        return "\n".join(lines), list(example.choices)
    return "\n".join(line for line in lines if line not in lettered), [
        OPTION.sub("", line) for line in lettered
    ]


def answer_of(example: Example, options: list[str]) -> str:
    """Return the text of the right option."""
    return options[example.target] if isinstance(example.target, int) else str(example.target)


def with_typo(text: str, rng: random.Random) -> str:
    """Replace one Chinese character, or swap two letters of a word."""
    places = [
        number for number, letter in enumerate(text[:-1]) if letter.isalpha() and text[number + 1].isalpha()
    ]
    if not places:
        return text
    place = rng.choice(places)
    if "\u4e00" <= text[place] <= "\u9fff":
        return text[:place] + chr(rng.randrange(0x4E00, 0x9000)) + text[place + 1 :]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def full_width(text: str) -> str:
    """Write ASCII in full width."""
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


def written(question: str, options: list[str]) -> str:
    """Return a question with lettered options."""
    return "\n".join([question, *(f"{'ABCDEFGHIJ'[n % 10]}. {option}" for n, option in enumerate(options))])


def shuffled(options: list[str], rng: random.Random) -> list[str]:
    """Return the options in another order."""
    other = rng.sample(options, len(options))
    return other if other != options else other[1:] + other[:1]


KINDS: dict[str, Callable[[str, list[str], random.Random], str]] = {
    "verbatim": lambda question, options, rng: written(question, options),
    "reordered options": lambda question, options, rng: written(question, shuffled(options, rng)),
    "traditional": lambda question, options, rng: TRADITIONAL.convert(written(question, options)),
    "full width": lambda question, options, rng: full_width(written(question, options)),
    "typo": lambda question, options, rng: written(with_typo(question, rng), options),
}
OTHER_KINDS: dict[str, Callable[[str, list[str], random.Random], str]] = {
    "question and answer": lambda question, options, rng: question,
    "answer alone": lambda question, options, rng: "",
}


def leaks(examples: dict[str, list[Example]], each: int, rng: random.Random) -> list[Leak]:
    """Return leaks of different items, so many of each kind."""
    pool = [(name, example) for name in PLANTED_FROM for example in examples[name]]
    rng.shuffle(pool)
    planted: list[Leak] = []
    for kind, write in {**KINDS, **OTHER_KINDS}.items():
        fitting = [pair for pair in pool if kind != "traditional" or pair[0] in CHINESE][:each]
        for name, example in fitting:
            question, options = question_and_options(example)
            answer = answer_of(example, options)
            planted.append(Leak(name, example.id, kind, write(question, options, rng), answer))
        taken = {(name, example.id) for name, example in fitting}
        pool = [(name, example) for name, example in pool if (name, example.id) not in taken]
    return planted


def real_rows(data: Path, count: int, rng: random.Random) -> Iterator[Row]:
    """Yield the instruction rows, then passages of the texts of all rows, `count` together."""
    files = sorted((data / "instruct").glob("*.jsonl"))
    own = [row for file in files for row in load_rows(DataConfig(path=str(file)))][:count]
    yield from own
    books = [
        row for file in (data / "pretrain").glob("*.jsonl") for row in load_rows(DataConfig(path=str(file)))
    ]
    texts = [text for row in own + sorted(books, key=Row.content) for text in texts_within(row.values)]
    texts = [text for text in texts if len(text) > 100]
    for number in range(count - len(own)):
        text = rng.choice(texts)
        start = rng.randrange(len(text) - 50)
        yield Row({"text": text[start : start + rng.randrange(100, 700)]}, f"passage {number}")


def with_leaks(
    rows: Iterator[Row], count: int, planted: list[Leak], rng: random.Random, places_of_leaks: set[str]
) -> Iterator[Row]:
    """Yield the rows; some of them have leaks, as an instruction, a turn of a chat, or inside their text."""
    places = dict(zip(rng.sample(range(count), len(planted)), planted, strict=True))
    for number, row in enumerate(rows):
        leak = places.get(number)
        if leak is None:
            yield row
            continue
        text = next(text for text in [*texts_within(row.values), "text"] if text)
        middle = len(text) // 2
        shapes = (
            {"instruction": leak.text, "output": leak.answer},
            {"conversations": [{"from": "human", "value": leak.text}, {"from": "gpt", "value": leak.answer}]},
            {"text": f"{text[:middle]}\n{leak.text} {leak.answer}\n{text[middle:]}"},
        )
        places_of_leaks.add(row.where)
        yield Row(rng.choice(shapes), row.where)


def examples_of(data: Path) -> dict[str, list[Example]]:
    """Return the items of all benchmarks."""
    chosen = {
        name: load_benchmark(name, path=str(data / folder), num_fewshot=0).config
        for name, folder in FOLDERS.items()
    }
    return {name: ready.examples for name, ready in prepare_benchmarks(chosen, EvaluateConfig()).items()}


def paraphrases(data: Path) -> tuple[list[Item], list[Row]]:
    """Return BUSTM's pairs of sentences of one meaning: one of each as an item, the other as a row."""
    lines = (data / "fewclue/bustm/test_public.json").read_text(encoding="utf-8").splitlines()
    pairs = [pair for pair in map(json.loads, lines) if pair["label"] == "1"]
    items = [Item(str(number), (pair["sentence1"],)) for number, pair in enumerate(pairs)]
    return items, [Row({"text": pair["sentence2"]}, f"pair {n}") for n, pair in enumerate(pairs)]


def report(found: dict[str, Contamination], planted: list[Leak]) -> None:
    """Print recall of each kind, and F1; every alarm about an item that was not planted counts as false."""
    alarms = {(name, pair.id) for name, result in found.items() for pair in result.pairs}
    kinds = {(leak.benchmark, leak.id): leak.kind for leak in planted}
    totals, hits = Counter(kinds.values()), Counter(kinds[key] for key in alarms & kinds.keys())
    for kind, total in totals.items():
        print(f"| {kind} | {total:,} | {hits[kind]:,} | {hits[kind] / total:.1%} |")
    true, all_leaks = sum(hits[kind] for kind in KINDS), sum(totals[kind] for kind in KINDS)
    precision, recall = true / max(true + len(alarms - kinds.keys()), 1), true / all_leaks
    print(f"F1 {2 * precision * recall / (precision + recall):.3f} (the first {len(KINDS)} kinds)")


def other_alarms(
    found: dict[str, Contamination], planted: list[Leak], items: dict[str, list[Item]]
) -> list[tuple[Pair, str]]:
    """Return the alarms about items that were not planted, each with the item's text."""
    keys = {(leak.benchmark, leak.id) for leak in planted}
    texts = {
        (name, item.id): " / ".join((*item.questions, *item.options))
        for name in items
        for item in items[name]
    }
    return [
        (pair, f"{name} {texts[name, pair.id]}")
        for name, result in found.items()
        for pair in result.pairs
        if (name, pair.id) not in keys
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--each", type=int, default=400, help="leaks of each kind")
    parser.add_argument("--items", type=int, default=None, help="items, of all benchmarks alike; all of them")
    parser.add_argument("--out", type=Path, default=Path("alarms.txt"))
    given = parser.parse_args()
    rng = random.Random(0)
    examples = examples_of(given.data)
    num_items = sum(map(len, examples.values()))
    if given.items is not None:
        share = given.items / num_items
        examples = {name: rng.sample(some, round(len(some) * share)) for name, some in examples.items()}
        num_items = sum(map(len, examples.values()))
    planted = leaks(examples, given.each, rng)
    items = {name: [item_of(example) for example in some] for name, some in examples.items()}
    leaked: set[str] = set()
    rows = with_leaks(real_rows(given.data, given.rows, rng), given.rows, planted, rng, leaked)
    before, start = peak_resident_bytes(), time.perf_counter()
    found = contamination(items, rows)
    seconds = time.perf_counter() - start
    peak = peak_resident_bytes()
    print(f"{given.rows:,} rows, {num_items:,} items: {seconds:.1f} s, {given.rows / seconds:,.0f} rows/s")
    print(f"memory: {before / 2**20:,.0f} MiB with the items read, {peak / 2**20:,.0f} MiB at the peak")
    report(found, planted)
    others = other_alarms(found, planted, items)
    num_clean = sum(pair.where not in leaked for pair, _ in others)
    lines = [
        f"{pair.where}{' (has a leak)' if pair.where in leaked else ''} {pair.overlap}\n"
        f"    {' | '.join(text.splitlines())}"
        for pair, text in others
    ]
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(
        f"alarms about {num_items - len(planted):,} items that were not planted: {num_clean} in rows without"
    )
    print(f"a leak, {len(others) - num_clean} in rows with one; all of them: {given.out}")
    own, others_said = paraphrases(given.data)
    print(f"paraphrases (BUSTM): {contamination({'bustm': own}, others_said)['bustm'].count} of {len(own):,}")


if __name__ == "__main__":
    main()
