"""The toy world is what its code makes, and training rows don't give its benchmarks away."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import workbench.toy
from workbench.config.data import DataConfig
from workbench.data.contamination.items import Item
from workbench.data.contamination.search import contamination
from workbench.data.rows import load_rows
from workbench.toy import files, numbers, reviews

TOY = Path(workbench.toy.__file__).parent
TRAINING = ("pretrain.jsonl", "instruct.jsonl", "reviews.jsonl")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (TOY / "data" / name).read_text(encoding="utf-8").splitlines()]


def test_the_committed_files_are_what_the_code_writes(tmp_path):
    files.write(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) > 10
    for name in written:
        assert (tmp_path / name).read_bytes() == (TOY / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["choice", "exact", "reviews", "text"])
@pytest.mark.parametrize("language", files.LANGUAGES)
def test_no_held_out_item_stands_in_a_training_row(kind, language):
    texts = [row.get("question") or row["text"] for row in rows(f"{kind}_{language}.jsonl")]
    items = [Item(str(number), (text,)) for number, text in enumerate(texts)]
    assert len(items) >= 100
    seen = [row for name in TRAINING for row in load_rows(DataConfig(path=str(TOY / "data" / name)))]
    assert contamination({kind: items}, seen)[kind].count == 0


@pytest.mark.parametrize("language", files.LANGUAGES)
def test_no_held_out_set_of_numbers_is_named_in_training_in_any_order(language):
    held_out = {
        tuple(sorted(map(int, re.findall(r"\d+", row["question"]))))
        for kind in ("choice", "exact")
        for row in rows(f"{kind}_{language}.jsonl")
    }
    assert len(held_out) == 450
    named = set()
    for row in (*rows("pretrain.jsonl"), *rows("instruct.jsonl")):
        for sentence in re.split(r"[.。？?]", row.get("text") or row["prompt"]):
            named.add(tuple(sorted(map(int, re.findall(r"\d+", sentence)))[:4]))
            named.add(tuple(sorted(map(int, re.findall(r"\d+", sentence)[:4]))))
    assert not held_out & named


@pytest.mark.parametrize("language", files.LANGUAGES)
def test_knowing_which_answers_are_frequent_scores_no_better_than_chance(language):
    frequent = Counter(row["completion"].strip() for row in rows("instruct.jsonl"))
    items = rows(f"choice_{language}.jsonl")
    right = sum(max(row["choices"], key=lambda number: frequent[number]) == row["answer"] for row in items)
    assert right / len(items) == pytest.approx(0.25, abs=0.07)  # 2.8 standard errors of 300 items


def test_the_words_of_a_review_alone_do_not_tell_its_label():
    known, _ = reviews.reviews("en")
    labels: dict[str, Counter] = {}
    for review in known:
        for word in review.text.split():
            labels.setdefault(word, Counter())[review.label] += 1
    assert all(max(count.values()) / sum(count.values()) < 0.65 for count in labels.values())


def test_the_answer_is_one_of_the_choices_and_right():
    for language in files.LANGUAGES:
        for row in rows(f"choice_{language}.jsonl"):
            asked = numbers.Choice(
                tuple(map(int, row["choices"])), "largest" in row["question"] or "最大" in row["question"]
            )
            assert str(asked.answer) == row["answer"]


def test_the_pair_to_be_written_is_the_smallest_and_the_largest():
    for language in files.LANGUAGES:
        for row in rows(f"exact_{language}.jsonl"):
            asked = list(map(int, re.findall(r"\d+", row["question"])))
            assert list(map(int, re.findall(r"\d+", row["answer"]))) == [min(asked), max(asked)]


@pytest.mark.parametrize("language", files.LANGUAGES)
def test_writing_the_most_frequent_pair_is_no_answer(language):
    pairs = Counter(row["completion"].strip() for row in rows("instruct.jsonl"))
    [(frequent, _)] = Counter({pair: n for pair, n in pairs.items() if not pair.isdigit()}).most_common(1)
    assert sum(row["answer"] == frequent for row in rows(f"exact_{language}.jsonl")) <= 1
