"""The same bits with `invariant`, whatever the batch size, the limit and the processes."""

import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_engine import WORDS, exam, generation, run  # noqa: F401
from tiny_llama import make_llama

from workbench.config.benchmark import BenchmarkConfig, Sample, Scoring
from workbench.errors import DataError
from workbench.evaluation.records import read_predictions
from workbench.run_dir import RunDir


def bytes_of(
    model, tokenizer, benchmark: BenchmarkConfig, folder: Path, kept: dict | None = None, **settings
) -> list[str]:
    run_dir = RunDir(folder)
    run(model, tokenizer, benchmark, settings, predictions=run_dir.predictions, **(kept or {}))
    return run_dir.predictions("base", "exam").read_text(encoding="utf-8").splitlines()


def changed(benchmark: BenchmarkConfig, **changes) -> BenchmarkConfig:
    return BenchmarkConfig(**vars(benchmark) | changes)


@pytest.fixture(scope="module")
def bfloat16_llama():
    return make_llama().to(torch.bfloat16)


@pytest.mark.parametrize("scoring", ["continuation", "next-token", "mean-nll"])
def test_invariant_predictions_are_bit_identical_for_any_batch_size(
    bfloat16_llama,
    tokenizer,
    exam,  # noqa: F811
    tmp_path,
    scoring,
):
    exam.scoring = Scoring[scoring]
    first, *others = [
        bytes_of(bfloat16_llama, tokenizer, exam, tmp_path / str(size), invariant=True, batch_tokens=size)
        for size in (8, 100, 4096)
    ]
    assert all(other == first for other in others)


def test_invariant_predictions_do_not_depend_on_the_other_items(bfloat16_llama, tokenizer, exam, tmp_path):  # noqa: F811
    everything = bytes_of(bfloat16_llama, tokenizer, exam, tmp_path / "all", invariant=True)
    few = bytes_of(
        bfloat16_llama,
        tokenizer,
        changed(exam, limit=3, sample=Sample.first),
        tmp_path / "few",
        invariant=True,
    )
    assert few == everything[:3] + everything[8:11]


def test_invariant_generation_is_bit_identical_for_any_limit(bfloat16_llama, tokenizer, exam, tmp_path):  # noqa: F811
    everything = bytes_of(bfloat16_llama, tokenizer, generation(exam), tmp_path / "all", invariant=True)
    few = bytes_of(
        bfloat16_llama,
        tokenizer,
        changed(generation(exam), limit=3, sample=Sample.first),
        tmp_path / "few",
        invariant=True,
    )
    assert few == everything[:3] + everything[8:11]


def test_invariant_bits_do_not_depend_on_equal_prompts_whose_beginning_ended_elsewhere(
    llama,
    bfloat16_llama,
    tokenizer,
    exam,  # noqa: F811
    tmp_path,
):
    exam.num_fewshot, beginning = 0, "about {{ title }}\n" + " ".join(WORDS * 4) + "\n"
    shared = changed(exam, description=beginning)
    whole = changed(exam, description="", question=beginning + exam.question)
    differ = []
    for number, model in enumerate((llama, bfloat16_llama)):
        folder = tmp_path / str(number)
        kept = {"fingerprint": "f", "cache": folder / "cache"}
        alone = bytes_of(model, tokenizer, whole, folder / "alone", invariant=True)
        first = bytes_of(model, tokenizer, shared, folder / "first", kept, invariant=True)
        assert bytes_of(model, tokenizer, whole, folder / "second", kept, invariant=True) == alone
        differ.append(first != alone)
    assert any(differ)  # or this test would tell nothing; in bfloat16 not all processors' bits differ


def test_invariant_scores_agree_with_the_fast_ones(llama, tokenizer, exam, tmp_path):  # noqa: F811
    for name, invariant in (("fast", False), ("slow", True)):
        bytes_of(llama, tokenizer, exam, tmp_path / name, invariant=invariant)
    fast, slow = (
        read_predictions(RunDir(tmp_path / n).predictions("base", "exam")) for n in ("fast", "slow")
    )
    for a, b in zip(fast, slow, strict=True):
        assert a.prediction == b.prediction
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-4)


def test_invariant_shares_the_examples_of_a_subset(llama, tokenizer, exam):  # noqa: F811
    shared = run(llama, tokenizer, exam, {"invariant": True}).measured["exam"]["computed_tokens"]
    alone = run(llama, tokenizer, exam, {"shared_prefix": False}).measured["exam"]["computed_tokens"]
    assert shared < 0.6 * alone


def test_invariant_says_what_it_costs(llama, tokenizer, exam, caplog, monkeypatch):  # noqa: F811
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="workbench"):
        measured = run(llama, tokenizer, exam, {"invariant": True}).measured["exam"]
    assert measured["invariant_cost"] > 0
    assert f"took {measured['invariant_cost']:.1f} times as long as without" in caplog.text
    assert "invariant_cost" not in run(llama, tokenizer, exam).measured["exam"]


def test_verify_scores_a_sample_again_and_reports_the_largest_difference(llama, tokenizer, exam):  # noqa: F811
    measured = run(llama, tokenizer, exam, {"verify": 5}).measured["exam"]
    assert measured["verify_num_items"] == 5
    assert 0 < measured["verify_largest_difference"] < 1e-4
    assert measured["verify_num_changed"] == 0


def test_verify_ends_with_an_error_where_scores_are_wrong(llama, tokenizer, exam, tmp_path, monkeypatch):  # noqa: F811
    from workbench.evaluation.inference.causal_lm import TransformersLM
    from workbench.evaluation.inference.prefix_probe import PrefixSharing

    right = TransformersLM._mask

    def wrong(lm, tree, step):
        mask = right(lm, tree, step)
        return mask if mask is None else mask.logical_or(torch.tensor(True))

    # A mask that lets every question see its neighbours: what verify is there to find.
    monkeypatch.setattr(PrefixSharing, "_try", lambda *_: None)
    monkeypatch.setattr(TransformersLM, "_mask", wrong)
    with pytest.raises(
        DataError, match=r"evaluate.verify: \d of 5 items have log-likelihoods that differ by"
    ):
        run(llama, tokenizer, exam, {"verify": 5}, predictions=lambda model, name: tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny_llama import make_llama, make_tokenizer
from workbench.config.benchmark import BenchmarkConfig, LocalConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.engine import evaluate
from workbench.distributed import rank_and_world_size
from workbench.run_dir import RunDir
folder = Path(sys.argv[2])
benchmark = BenchmarkConfig(
    language="en", path=str(folder / "items.jsonl"), output_type=OutputType.multiple_choice,
    question="{{ text }}", choices=["{{ a }}", "{{ b }}"], target_index="0",
)
config = EvaluateConfig(invariant=True)
found = evaluate(
    make_llama().to(torch.bfloat16), make_tokenizer(), prepare_benchmarks({"exam": benchmark}, config),
    config, model_name="base", predictions=RunDir(folder / sys.argv[3]).predictions,
)
rank, world = rank_and_world_size()
(folder / f"{sys.argv[3]}.{rank}.json").write_text(
    json.dumps([world, found.scores[0].value, found.measured["exam"]["num_asked"]])
)
"""


def test_two_processes_share_the_items_and_give_the_bytes_of_one(tmp_path):
    rng = random.Random(3)
    rows = [
        {
            "text": " ".join(rng.choices(WORDS, k=8)) + f" {n}",
            **dict(zip("ab", rng.sample(WORDS, 2), strict=True)),
        }
        for n in range(50)
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [str(tmp_path / "script.py"), str(Path(__file__).parent), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    ]
    for start, name in (([], "one"), (launch, "two")):
        done = subprocess.run(
            [sys.executable, *start, *arguments, name], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    one, *two = (json.loads((tmp_path / f).read_text()) for f in ("one.0.json", "two.0.json", "two.1.json"))
    assert [found[:2] for found in two] == [[2, one[1]]] * 2
    assert sorted(found[2] for found in two) == [18, 32] and one[2] == 50
    first, second = (
        RunDir(tmp_path / name).predictions("base", "exam").read_bytes() for name in ("one", "two")
    )
    assert first == second


class _Int8OnGpu(torch.nn.Module):
    """A product whose large columns, in any row of the pass, stay whole, and whose kernel depends on rows."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, states):
        rows = states.flatten(0, -2)
        large = rows.abs().amax(0) > 2.0
        rounded = torch.where(large, rows, (rows * 8).round() / 8)
        rounded = rounded.to(torch.bfloat16).float() if len(rows) > 24 else rounded
        return self.layer(rounded).view(*states.shape[:-1], -1)


def test_layers_that_depend_on_the_rows_of_a_pass_are_invariant_all_the_same(tokenizer, exam, tmp_path):  # noqa: F811
    """As bitsandbytes' int8 and 4-bit layers do on a GPU."""
    model = make_llama()
    for layer in model.model.layers:
        layer.mlp.down_proj = _Int8OnGpu(layer.mlp.down_proj)
        layer.self_attn.o_proj = _Int8OnGpu(layer.self_attn.o_proj)

    def predictions(**settings):
        folder = tmp_path / "-".join(map(str, settings.values()))
        return bytes_of(model, tokenizer, exam, folder, **settings)

    assert predictions(batch_tokens=30) != predictions(batch_tokens=4096)
    everything = predictions(invariant=True, batch_tokens=30)
    assert everything == predictions(invariant=True, batch_tokens=4096)
    few = bytes_of(
        model,
        tokenizer,
        changed(exam, limit=3, sample=Sample.first),
        tmp_path / "few",
        invariant=True,
    )
    assert few == everything[:3] + everything[8:11]
