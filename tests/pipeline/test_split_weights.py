"""train.fsdp: the base's weights are split over the processes, or the key is refused by name."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from test_processes import torchrun
from transformers import GPT2Config

from workbench.config.adapter import AdapterConfig
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.config.train import TrainConfig
from workbench.errors import ConfigError
from workbench.models.adapters.trainable import check_trainable
from workbench.run_dir import RunDir

SPLIT = ("train.fsdp=true", "quantization=none")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "there is only one process"),
        (["quantization=nf4"], "weights in nf4 aren't split"),
        (["quantization=int8"], "weights in int8 aren't split"),
        (["adapter=none"], "split weights don't go with adapter.method"),
        (["adapter=dora"], "split weights don't go with adapter.method"),
        (["adapter.init=pissa"], "split weights don't go with adapter.init"),
        (["adapter.trainable_tokens=[Answer]"], "split weights don't go with adapter.trainable_tokens"),
        (["train.score_on=[toy_choice_en]"], "split weights can't be scored"),
        (["train.sample_answers=4"], "split weights don't decode"),
        (["train.activation_offloading=true"], "would copy gathered weights"),
    ],
)
def test_what_can_not_be_split_is_refused_by_name_before_any_work(run, tmp_path, overrides, words):
    with pytest.raises(ConfigError, match=f"^train.fsdp: .*{words}") as refusal:
        run("quickstart", *SPLIT, *overrides)
    assert "\n" not in str(refusal.value) and not (tmp_path / "runs" / "quickstart").exists()


def test_a_classifier_and_accelerates_fsdp_are_refused(run, monkeypatch):
    with pytest.raises(ConfigError, match="train.fsdp: a classifier isn't split"):
        run("quickstart-classifier", *SPLIT)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="train.fsdp: accelerate's own FSDP is on"):
        run("quickstart", *SPLIT)


def test_a_model_that_only_transformers_own_class_runs_is_refused(tmp_path):
    GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="train.fsdp: transformers' own class of this model isn't split"):
        check_trainable(
            ModelConfig(path=str(tmp_path)), QuantizationConfig(), AdapterConfig(), TrainConfig(fsdp=True)
        )


@pytest.mark.slow
def test_a_run_with_split_weights_trains_merges_and_scores_what_one_without_does(tmp_path):
    how = ("recipe=quickstart", "quantization=none", "train.max_steps=4", "train.sample_answers=0")
    how += ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=20", "leaderboard.folder=.")
    folders = []
    for split in ("true", "false"):
        done = torchrun(*how, f"train.fsdp={split}", f"run_dir={split}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folders.append(RunDir(Path(tmp_path, split)))
    weights = [load_file(folder.adapter / "adapter_model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-6
    scores = [json.loads(folder.results_json.read_text())["scores"] for folder in folders]
    assert [score["value"] for score in scores[0]] == [score["value"] for score in scores[1]]
