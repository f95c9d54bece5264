"""A command parses each file of rows, benchmarks and tokenizers once, and hashes each weight file once."""

import os
import sys
from collections import Counter

import pytest
from transformers import AutoTokenizer

from workbench import cli, files
from workbench.models.checkpoints import weights_fingerprint

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


@pytest.fixture
def hashed(monkeypatch):
    """File -> how often it is hashed, as bytes or as tensors."""
    counts: Counter[tuple[str, str]] = Counter()
    add_file, of_tensors = files.add_file, weights_fingerprint.tensors_fingerprint

    def counted_file(digest, file):
        counts["bytes", os.path.realpath(file)] += 1
        add_file(digest, file)

    def counted_tensors(tensors):
        counts.update({("tensors", os.path.realpath(tensor.file)): 1 for tensor in tensors.values()})
        return of_tensors(tensors)

    monkeypatch.setattr(files, "add_file", counted_file)
    monkeypatch.setattr(weights_fingerprint, "tensors_fingerprint", counted_tensors)
    return counts


def test_a_merge_with_another_setting_does_not_hash_the_base_as_an_earlier_version_did(run, hashed):
    words = ("quickstart", "train.max_steps=2", "benchmark=[]")
    run(*words, "steps=[train,merge]", "merge.probe=false")
    hashed.clear()
    run(*words, "steps=[merge]", "merge.probe=true")
    assert hashed["tensors", str(BASE / "model.safetensors")] == 1
    assert hashed["bytes", str(BASE / "model.safetensors")] == 0


QUICKSTARTS = [
    ("quickstart", ("toy_choice_en", "toy_exact_zh")),
    ("quickstart-classifier", ("toy_reviews_en", "toy_reviews_zh")),
]


@pytest.mark.parametrize(("recipe", "benchmarks"), QUICKSTARTS, ids=[recipe for recipe, _ in QUICKSTARTS])
def test_a_quickstart_parses_rows_benchmarks_and_tokenizers_once_and_hashes_weights_once(
    run, recipe, benchmarks, counting, tokenizers, hashed
):
    limits = [f"benchmarks.{name}.limit=4" for name in benchmarks]
    run(recipe, "train.max_steps=2", f"benchmark=[{','.join(benchmarks)}]", *limits)
    data = f"{cli.PACKAGE / 'toy' / 'data'}{os.sep}"
    texts = {path.removeprefix(data): times for path, times in counting.items() if path.startswith(data)}
    # A JSON file is opened once for its first sign and once for all, and the training rows for their hash.
    training = {"instruct.jsonl", "reviews.jsonl"} & set(texts)
    assert len(texts) == 3 and len(training) == 1
    assert texts == {name: 3 if name in training else 2 for name in texts}
    assert tokenizers and set(tokenizers.values()) == {1}
    assert hashed["bytes", str(BASE / "model.safetensors")] == 1, "for the record of the run"
    assert hashed["tensors", str(BASE / "model.safetensors")] == 1, "for the record of the adapter"
    merged = [times for (_, path), times in hashed.items() if "merged" in path.split(os.sep)[-2]]
    assert merged and set(merged) == {1}
