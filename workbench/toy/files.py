"""Generates the toy data files and the toy tokenizer, which the repository contains, from one seed."""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from workbench.run_dir import write_atomic
from workbench.toy import numbers, reviews

SEED = 20230501
LANGUAGES = ("en", "zh")
NUM_DOCUMENTS = 6000
"""Pretraining texts per language."""

NUM_QUESTIONS = {"choice": 3000, "ends": 1500}
"""Instruction rows per language: for the smallest or the largest number, and for both ("ends")."""

NUM_HELD_OUT = {"choice": 300, "exact": 150, "text": 100}
"""Benchmark items per language."""

VOCABULARY = 768
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<unk>"]

Rows = list[dict[str, Any]]


def all_rows() -> dict[str, Rows]:
    """Generate file name -> rows for all files of data/; every call gives the same rows."""
    rng, ends_rng = Random(SEED), Random(SEED + 1)
    files: dict[str, Rows] = {"pretrain.jsonl": [], "instruct.jsonl": [], "reviews.jsonl": []}
    for language in LANGUAGES:
        training, held_out = reviews.reviews(language)
        files["pretrain.jsonl"] += documents(rng, language, training, NUM_DOCUMENTS)
        choices = [numbers.choice(rng, numbers.ASKED, held_out=False) for _ in range(NUM_QUESTIONS["choice"])]
        files["instruct.jsonl"] += [instruction(choice, language) for choice in choices]
        files["reviews.jsonl"] += [{"text": review.text, "label": review.label} for review in training]
        benchmark = held_out_choices(rng)
        num_choice = NUM_HELD_OUT["choice"]
        files[f"choice_{language}.jsonl"] = [item(choice, language) for choice in benchmark[:num_choice]]
        files[f"exact_{language}.jsonl"] = [
            ends_item(choice.numbers, language) for choice in benchmark[num_choice:]
        ]
        files[f"reviews_{language}.jsonl"] = [
            {"text": review.text, "label": review.label} for review in held_out
        ]
        files[f"text_{language}.jsonl"] = documents(
            rng, language, held_out, NUM_HELD_OUT["text"], held_out=True
        )
    for name in ("pretrain.jsonl", "instruct.jsonl", "reviews.jsonl"):
        rng.shuffle(files[name])
    files["instruct.jsonl"] += [
        ends_instruction(numbers.choice(ends_rng, numbers.ASKED, held_out=False).numbers, language)
        for language in LANGUAGES
        for _ in range(NUM_QUESTIONS["ends"])
    ]
    ends_rng.shuffle(files["instruct.jsonl"])
    return files


def documents(
    rng: Random, language: str, used_reviews: list[reviews.Review], count: int, held_out: bool = False
) -> list[dict[str, Any]]:
    """Generate pretraining rows, each with a text of two to four sentences on numbers and reviews.

    Args:
        rng: Source of randomness.
        language: zh or en.
        used_reviews: Reviews that a text may contain.
        count: Number of rows.
        held_out: Whether the numbers of a sentence about the most or the least are a set that is held out for
            the benchmarks.
    """
    rows = []
    for _ in range(count):
        sentences = [
            numbers.sentence(rng, language, held_out)
            if rng.random() < 0.8
            else reviews.sentence(rng, language, used_reviews)
            for _ in range(rng.randrange(2, 5))
        ]
        rows.append({"text": (" " if language == "en" else "").join(sentences)})
    return rows


def held_out_choices(rng: Random) -> list[numbers.Choice]:
    """Draw the questions for a language's benchmarks: largest or smallest of four numbers, no set twice."""
    choices: dict[tuple[int, ...], numbers.Choice] = {}
    while len(choices) < NUM_HELD_OUT["choice"] + NUM_HELD_OUT["exact"]:
        drawn = numbers.choice(rng, numbers.ASKED, held_out=True)
        choices.setdefault(tuple(sorted(drawn.numbers)), drawn)
    return list(choices.values())


def instruction(choice: numbers.Choice, language: str) -> dict[str, Any]:
    """Return a training row (prompt and completion) that asks for the smallest or the largest number."""
    space = " " if language == "en" else ""
    return {"prompt": numbers.question(choice, language), "completion": f"{space}{choice.answer}"}


def ends_instruction(asked: tuple[int, ...], language: str) -> dict[str, Any]:
    """Return a training row (prompt and completion) that asks for the smallest and the largest number.

    `asked` are the numbers in the order of the question.
    """
    space = " " if language == "en" else ""
    answer = numbers.ends_answer(asked, language)
    return {"prompt": numbers.ends_question(asked, language), "completion": f"{space}{answer}"}


def item(choice: numbers.Choice, language: str) -> dict[str, Any]:
    """Return a multiple-choice item (question, choices, answer): which number is the largest or smallest?"""
    return {
        "question": numbers.question(choice, language),
        "choices": [str(number) for number in choice.numbers],
        "answer": str(choice.answer),
    }


def ends_item(asked: tuple[int, ...], language: str) -> dict[str, Any]:
    """Return a generation item (question, answer): which are the smallest and the largest number?

    It asks for two numbers: a model that only learned to answer with numbers gets one of a hundred right by
    chance now and then, but hardly ever a pair.
    """
    return {
        "question": numbers.ends_question(asked, language),
        "answer": numbers.ends_answer(asked, language),
    }


def tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that encodes any text, and each number as one token."""
    backend = Tokenizer(models.BPE())
    number_word_or_sign = Regex(
        r"\d{1,2}| ?[A-Za-z]+|[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]|\s|[^\sA-Za-z\d]"
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(number_word_or_sign, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*texts, *map(str, range(numbers.LIMIT))], trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    pad, bos, eos, unk = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk
    )


def write(folder: Path) -> None:
    """Write the files of data/ and the tokenizer's files of base/ below `folder`, replacing existing ones."""
    files = all_rows()
    for name, rows in files.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(folder / "data" / name, "".join(lines))
    texts = [row["text"] for row in files["pretrain.jsonl"]]
    # Without the questions for two numbers: the committed base model was trained before these existed.
    texts += [row["prompt"] for row in files["instruct.jsonl"] if row["completion"].strip().isdigit()]
    tokenizer(texts).save_pretrained(folder / "base")
