"""Whatever the batch size, the order, the processes and the point of resume: the same answers.

Every case is drawn from a seed; with `invariant` the predictions have the same bytes, in any number format.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_engine import WORDS, run
from tiny_llama import make_llama, make_tokenizer

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, LocalConfig, OutputType, Scoring
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.evaluation import answer_loop, engine
from workbench.evaluation.records import Prediction, read_predictions
from workbench.models.loading import load_model
from workbench.run_dir import RunDir

FORMATS = {
    "float32": ("float32", "none"),
    "bfloat16": ("bfloat16", "none"),
    "nf4": ("float32", "nf4"),
    "int8": ("float32", "int8"),
    "int8 in bfloat16": ("bfloat16", "int8"),
    "nf4 in bfloat16": ("bfloat16", "nf4"),
}
KINDS = ("continuation", "next-token", "generation", "sampled", "perplexity")
NUM_ITEMS = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny products are faster without help."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_llama().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def slow(names, *quick: str) -> list:
    """Parameters of which all but a few are for the long round."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def loaded(name: str, checkpoint: Path):
    dtype, method = FORMATS[name]
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    return load_model(ModelConfig(path=str(checkpoint), dtype=Dtype[dtype], device="cpu"), quantization)


@pytest.fixture(scope="module", params=slow(FORMATS, "bfloat16", "int8 in bfloat16"))
def model(request, checkpoint):
    return loaded(request.param, checkpoint)


@pytest.fixture(scope="module", params=slow(("float32", "nf4", "int8"), "float32"))
def exact_model(request, checkpoint):
    return loaded(request.param, checkpoint)


def rows() -> list[dict]:
    rng = random.Random(11)
    return [
        {
            "id": f"item {number}",
            "text": " ".join(rng.choices(WORDS, k=rng.randint(1, 30))),
            **dict(zip("ABC", rng.sample(WORDS, 3), strict=True)),
            "answer": rng.choice("ABC"),
        }
        for number in range(NUM_ITEMS)
    ]


def benchmark(folder: Path, kind: str, order: list[dict]) -> BenchmarkConfig:
    """The same items in a certain order; the examples before them are always the same."""
    folder.mkdir()
    for split, some in (("test", order), ("dev", rows()[:3])):
        lines = "".join(json.dumps(row | {"split": split}) + "\n" for row in some)
        (folder / f"{split}.jsonl").write_text(lines)
    chosen = BenchmarkConfig(
        language="en",
        path=str(folder),
        local=LocalConfig(files={"test": "test.jsonl", "dev": "dev.jsonl"}),
        fewshot_split="dev",
        num_fewshot=2,
        id="{{ id }}",
        output_type=OutputType.multiple_choice,
        question="{{ text }}\nA. {{ A }}\nB. {{ B }}\nC. {{ C }}\nAnswer:",
        choices=["A", "B", "C"],
        target="{{ answer }}",
    )
    if kind == "next-token":
        return replace(chosen, scoring=Scoring["next-token"])
    if kind == "perplexity":
        more = {"metrics": ["bits_per_byte"], "choices": [], "num_fewshot": 0, "question": "{{ text }}"}
        return replace(chosen, output_type=OutputType.perplexity, **more)
    if kind in ("generation", "sampled"):
        limits = GenerationConfig(max_new_tokens=5, stop=["\n"], temperature=float(kind == "sampled"))
        more = {"metrics": ["exact_match"], "choices": [], "generation": limits}
        return replace(chosen, output_type=OutputType.generation, **more)
    return chosen


class _NextProcess(Exception):
    """The answers of a process have been handed over."""


def in_processes(count: int, monkeypatch, evaluate: Callable[[], None]) -> None:
    """Lets `count` processes share the items, one after the other; the first gets what all have found."""
    found: dict = {}
    for rank in reversed(range(count)):  # the first process writes the files, so it comes last

        def gathered(new: dict, rank: int = rank) -> dict:
            found.update(new)
            if rank:
                raise _NextProcess
            return found

        with monkeypatch.context() as patch:
            patch.setattr(answer_loop, "all_gather_dict", gathered)
            for module in (answer_loop, engine):
                patch.setattr(module, "rank_and_world_size", lambda rank=rank: (rank, count))
            try:
                evaluate()
            except _NextProcess:
                continue


def cut(folder: Path, rng: random.Random) -> None:
    """What a kill leaves of the answers: the first of them, and a part of the next."""
    for file in folder.glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        point = rng.randrange(len(lines))
        file.write_text("".join(lines[:point]) + lines[point][: rng.randrange(len(lines[point]))])


def predictions(folder: Path) -> list[Prediction]:
    found = read_predictions(RunDir(folder).predictions("base", "exam"))
    return sorted(found, key=lambda one: one.id)


def cases(kind: str, model, folder: Path, monkeypatch, invariant: bool) -> list[list[Prediction]]:
    """Predictions of the plain run, then of runs with everything drawn at random."""
    tokenizer, rng = make_tokenizer(), random.Random(f"{kind} {invariant}")
    found = []
    for number in range(3):
        order = rows()
        settings: dict = {"invariant": invariant}
        count = 1
        if number:
            rng.shuffle(order)
            settings["batch_tokens"] = rng.choice([1, 7, 60, 300, 5000])
            count = rng.randint(1, 3)
        chosen = benchmark(folder / f"items {number}", kind, order)
        run_dir, answers = RunDir(folder / str(number)), folder / f"answers {number}"

        def evaluate(chosen=chosen, settings=settings, run_dir=run_dir, cache=answers, count=count) -> None:
            kept = {"fingerprint": "f", "cache": cache} if count == 1 else {}
            run(model, tokenizer, chosen, settings, predictions=run_dir.predictions, **kept)

        in_processes(count, monkeypatch, evaluate)
        if count == 1 and number:
            cut(answers, rng)
            evaluate()
        found.append(predictions(run_dir.path))
    return found


@pytest.mark.parametrize("kind", slow(KINDS, "continuation", "generation"))
def test_invariant_bytes_depend_on_the_items_alone(kind, model, tmp_path, monkeypatch):
    plain, *others = cases(kind, model, tmp_path, monkeypatch, invariant=True)
    assert len(plain) == NUM_ITEMS
    assert all(other == plain for other in others)


@pytest.mark.parametrize("kind", slow(KINDS, "continuation", "generation"))
def test_predictions_depend_on_the_items_alone(kind, exact_model, tmp_path, monkeypatch):
    plain, *others = cases(kind, exact_model, tmp_path, monkeypatch, invariant=False)
    for other in others:
        for a, b in zip(plain, other, strict=True):
            assert (a.prediction, a.generation, a.prompt_hash) == (b.prediction, b.generation, b.prompt_hash)
            assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-4)
