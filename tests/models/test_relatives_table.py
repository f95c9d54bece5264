"""Each relative of LLaMA through all steps of a run, beside a run of transformers' own class."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from relatives import relative
from transformers import AutoModelForCausalLM, AutoTokenizer

import workbench

TOY = Path(workbench.__file__).parent / "toy" / "base"
BENCHMARKS = ("toy_choice_zh", "toy_choice_en")
TABLE = ("llama, biases", "mistral, window", "internlm3", "qwen2", "qwen2, tied", "qwen3")
SHORT = (
    *("train.max_steps=4", "train.warmup_steps=1", "train.learning_rate=1e-2", "train.logging_steps=1"),
    *("train.per_device_batch_size=4", "model.dtype=float32", f"benchmark=[{','.join(BENCHMARKS)}]"),
    *(f"benchmarks.{name}.limit=8" for name in BENCHMARKS),
)


def run(folder, *words):
    """Run a command of the workbench, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "workbench", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def scores(run_dir, model):
    """Log-likelihoods of all options of all items."""
    files = [run_dir / "predictions" / model / f"{name}.jsonl" for name in BENCHMARKS]
    items = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    values = {item["id"]: item["loglikelihoods"] for item in items if "loglikelihoods" in item}
    assert len(values) == 16
    return torch.tensor([values[key] for key in sorted(values)])


def losses(run_dir):
    lines = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    return torch.tensor([line["loss"] for line in lines if "loss" in line])


def config_of(folder):
    config = json.loads((folder / "config.json").read_text())
    return {key: value for key, value in config.items() if key != "transformers_version"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "int8", "nf4"])
@pytest.mark.parametrize("name", TABLE)
def test_every_step_of_a_run_takes_a_relative_and_gives_what_transformers_class_gives(name, method, tmp_path):
    base, ours, native = (tmp_path / folder for folder in ("base", "ours", "native"))
    relative(name, vocab_size=776, max_position_embeddings=256).save_pretrained(base)
    AutoTokenizer.from_pretrained(TOY).save_pretrained(base)
    common = ("recipe=quickstart", f"model.path={base}", f"quantization={method}", *SHORT)
    steps = "steps=[train,merge,evaluate,export,resume_check]"
    said = run(tmp_path, *common, f"run_dir={ours}", steps, "evaluate.models=[base,adapter,merged]")
    assert "OpenLlamaForCausalLM" in said
    run(
        tmp_path,
        *(*common, f"run_dir={native}", "model.architecture=native"),
        *("steps=[train,evaluate]", "evaluate.models=[base,adapter]"),
    )
    assert json.loads((ours / "resume_check.json").read_text())["same"]
    torch.testing.assert_close(losses(ours), losses(native), rtol=0, atol=1e-4)
    for model in ("base", "adapter"):
        torch.testing.assert_close(scores(ours, model), scores(native, model), rtol=0, atol=1e-4)
    assert (scores(ours, "adapter") - scores(ours, "base")).abs().max() > 1e-2
    torch.testing.assert_close(scores(ours, "merged"), scores(ours, "adapter"), rtol=0, atol=1e-4)
    for folder in (ours / "merged", ours / "export"):
        assert config_of(folder) == config_of(base)
    plain = AutoModelForCausalLM.from_pretrained(ours / "export")
    assert type(plain) is type(relative(name))
