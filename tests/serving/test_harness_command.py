"""The command of lm-evaluation-harness: local-completions at a server beside its own hf model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_recipe import run_recipe

from workbench.shipped import PACKAGE

pytestmark = pytest.mark.peer
NUM_ITEMS = 200
TASK = """task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def scored(tmp_path):
    """Runs the harness's command on a task of choices; returns each item's (log-likelihood, greedy) pairs."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("tenacity")
    rows = PACKAGE / "toy" / "data" / "choice_zh.jsonl"
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(TASK.format(rows=rows), "utf-8")

    def scored(model: str, arguments: str, *words: str) -> list[list[tuple[float, bool]]]:
        out = tmp_path / model
        command = [sys.executable, "-m", "lm_eval", "--model", model, "--model_args", arguments, *words]
        command += ["--tasks", "mine", "--include_path", str(tmp_path / "tasks"), "--limit", str(NUM_ITEMS)]
        command += ["--output_path", str(out), "--log_samples"]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        (samples,) = Path(out).rglob("samples_mine_*.jsonl")
        items = sorted(
            map(json.loads, samples.read_text("utf-8").splitlines()), key=lambda item: item["doc_id"]
        )
        return [[pair_of(response) for response in item["filtered_resps"]] for item in items]

    return scored


def pair_of(response: list) -> tuple[float, bool]:
    """The log-likelihood and whether it is greedy, which the harness may write as texts."""
    return float(response[0]), str(response[1]) == "True"


def test_the_command_gives_served_scores_within_a_tenthousandth_of_its_hf_model(
    served, scored, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    base = f"model.path={PACKAGE / 'toy' / 'base'}"
    run_recipe("export", base, "export.format=llama", "export.path=llama", "run_dir=run")
    url = f"{served.url}/v1/completions"
    tokenizer = f"tokenizer={tmp_path / 'llama'},tokenizer_backend=huggingface,add_bos_token=True"
    local = scored(
        "local-completions", f"model=base,base_url={url},num_concurrent=4,max_length=512,{tokenizer}"
    )
    own = scored("hf", f"pretrained={tmp_path / 'llama'},dtype=float32", "--device", "cpu")
    assert len(local) == len(own) == NUM_ITEMS
    assert len({round(value, 3) for item in own for value, _ in item}) > 400
    for found, expected in zip(local, own, strict=True):
        for (value, greedy), (other, is_greedy) in zip(found, expected, strict=True):
            assert abs(value - other) < 1e-4 and greedy == is_greedy
