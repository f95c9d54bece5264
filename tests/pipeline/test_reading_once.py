"""A command parses each file of rows, benchmarks and tokenizers once, and hashes each weight file once."""

import os
import sys
from collections import Counter

import pytest
from transformers import AutoTokenizer

from workbench import cli

BASE = cli.PACKAGE / "toy" / "base"
opened: Counter[str] = Counter()
"""Path -> how often Python has opened it to read, while `counting` lasts; safetensors opens files itself."""
is_counting = False


def count(event, arguments):
    """Count a file that is opened, while that is wanted: such a hook can't be taken away again."""
    if not is_counting or event != "open" or not isinstance(arguments[0], str | os.PathLike):
        return
    path, mode, flags = arguments
    is_read = mode in ("r", "rb", "rt") if isinstance(mode, str) else not flags & (os.O_WRONLY | os.O_RDWR)
    if is_read:
        opened[os.path.realpath(path)] += 1


sys.addaudithook(count)


@pytest.fixture
def counting(monkeypatch):
    """`opened` begins at zero and counts until the test ends."""
    opened.clear()
    monkeypatch.setattr(sys.modules[__name__], "is_counting", True)
    return opened


@pytest.fixture
def tokenizers(monkeypatch):
    """Folder -> how often transformers reads the tokenizer in it."""
    counts: Counter[str] = Counter()
    read = AutoTokenizer.from_pretrained

    def counted(place, *arguments, **options):
        counts[os.path.realpath(place)] += 1
        return read(place, *arguments, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", counted)
    return counts


QUICKSTARTS = [
    ("quickstart", ("toy_choice_en", "toy_exact_zh")),
    ("quickstart-classifier", ("toy_reviews_en", "toy_reviews_zh")),
]


@pytest.mark.parametrize(("recipe", "benchmarks"), QUICKSTARTS, ids=[recipe for recipe, _ in QUICKSTARTS])
def test_a_quickstart_parses_rows_benchmarks_and_tokenizers_once_and_hashes_weights_once(
    run, recipe, benchmarks, counting, tokenizers
):
    limits = [f"benchmarks.{name}.limit=4" for name in benchmarks]
    run(recipe, "train.max_steps=2", f"benchmark=[{','.join(benchmarks)}]", *limits)
    data = f"{cli.PACKAGE / 'toy' / 'data'}{os.sep}"
    files = {path.removeprefix(data): times for path, times in counting.items() if path.startswith(data)}
    # A JSON file is opened once for its first sign and once for all, and the training rows for their hash.
    training = {"instruct.jsonl", "reviews.jsonl"} & set(files)
    assert len(files) == 3 and len(training) == 1
    assert files == {name: 3 if name in training else 2 for name in files}
    assert tokenizers and set(tokenizers.values()) == {1}
    assert counting[str(BASE / "model.safetensors")] == 1
    assert hashed(counting, "merged") == 1


def hashed(counts: Counter[str], name: str) -> int:
    """How often the weights of a folder were read to be hashed, under its name or before it had one."""
    return sum(
        times
        for path, times in counts.items()
        if path.endswith("model.safetensors") and name in path.split(os.sep)[-2]
    )
