"""The real command, killed and stopped in the middle of an evaluation, goes on and leaves the same bytes."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from workbench.cli import PACKAGE
from workbench.evaluation.records import read_predictions
from workbench.run_dir import RunDir, read_json

BENCHMARKS = ("toy_choice_zh", "toy_exact_en")
LIMIT = 150


def start(
    folder: Path, model: Path = PACKAGE / "toy" / "base", names=BENCHMARKS, keys=()
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workbench", "recipe=evaluate", f"model.path={model}"]
    limits = [f"benchmarks.{name}.limit={LIMIT}" for name in names if not keys]
    more = ["evaluate.invariant=true", "model.dtype=bfloat16", "run_dir=runs/toy", "steps=[evaluate]"]
    chosen = f"benchmark=[{','.join(names)}]"
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*command, chosen, *limits, *more, *keys],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "OMP_NUM_THREADS": "1"},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def kept(run_dir: RunDir) -> int:
    return sum(len(file.read_text().splitlines()) for file in run_dir.cache.glob("*.jsonl"))


@pytest.mark.slow
def test_a_killed_and_a_stopped_evaluation_go_on_and_leave_the_bytes_of_an_uninterrupted_one(tmp_path):
    whole, cut = (RunDir(tmp_path / name / "runs" / "toy") for name in ("whole", "cut"))
    assert finished(start(tmp_path / "whole")) == (0, "")
    rng = random.Random(5)
    for number, end in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL)):
        process = start(tmp_path / "cut")
        point = rng.randint(30 * number + 1, 30 * number + 25)
        while kept(cut) < point:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(end)
        code, said = finished(process)
        assert code == (-signal.SIGKILL if end == signal.SIGKILL else 1)
        assert said == (
            "" if end == signal.SIGKILL else "stopped: the same command continues where this one was\n"
        )
        assert not cut.results_json.exists()
    had = kept(cut)
    assert finished(start(tmp_path / "cut")) == (0, "")
    asked = sum(read_json(cut.run_json)["evaluate"]["base"][name]["num_asked"] for name in BENCHMARKS)
    assert (
        len(BENCHMARKS) * LIMIT - had <= asked <= len(BENCHMARKS) * LIMIT - had + 1
    )  # a line may be half there
    assert cut.results_json.read_bytes() == whole.results_json.read_bytes()
    for name in BENCHMARKS:
        same = [run.predictions("base", name).read_bytes() for run in (cut, whole)]
        assert same[0] == same[1]


@pytest.mark.slow
def test_texts_with_cut_thoughts_and_several_answers_are_the_same_after_kills(tmp_path):
    model, name = tmp_path / "base", "toy_exact_en"
    thinks = (
        "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    )
    shutil.copytree(PACKAGE / "toy" / "base", model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = thinks
    tokenizer.save_pretrained(model)
    drawn = ("evaluate.temperature=0.9", "evaluate.samples=2", "evaluate.thinking_budget=8")
    few = (f"benchmarks.{name}.limit=60", "model.dtype=float32")
    keys = ("evaluate.chat_template=true", *drawn, *few)
    whole, cut = (RunDir(tmp_path / place / "runs" / "toy") for place in ("whole", "cut"))
    code, said = finished(start(tmp_path / "whole", model, (name,), keys))
    assert code == 0, said
    codes = []
    for point in (1, 20, 70):
        process = start(tmp_path / "cut", model, (name,), keys)
        while kept(cut) < point and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        codes.append(finished(process)[0])
    assert -signal.SIGKILL in codes
    assert finished(start(tmp_path / "cut", model, (name,), keys))[0] == 0
    assert 0 < read_json(cut.run_json)["evaluate"]["base"][name]["num_asked"] < 2 * 60
    assert cut.results_json.read_bytes() == whole.results_json.read_bytes()
    assert cut.predictions("base", name).read_bytes() == whole.predictions("base", name).read_bytes()
    samples = [sample for one in read_predictions(cut.predictions("base", name)) for sample in one.samples]
    assert len(samples) == 2 * 60 and any("thought_cut" in sample for sample in samples)
