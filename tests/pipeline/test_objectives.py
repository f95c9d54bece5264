"""Ways to train, each through the whole job: trained, merged with its proof, scored."""

import json

import pytest
import torch
from safetensors.torch import load_file

from workbench.errors import ConfigError
from workbench.evaluation.records import read_results
from workbench.run_dir import read_json
from workbench.training.journal import journal_lines

SHORT = (
    "train.max_steps=2",
    "train.warmup_steps=0",
    "train.logging_steps=1",
    "train.per_device_batch_size=4",
    "data.limit=16",
    "steps=[train,merge,evaluate]",
)
EXAM = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=4")
WAYS = {
    "PiSSA on NF4": ("adapter.init=pissa",),
    "OLoRA on int8": ("adapter.init=olora", "quantization=int8"),
    "PiSSA with rsLoRA and ranks of its own": (
        "adapter.init=pissa",
        "adapter.use_rslora=true",
        "adapter.rank_pattern.q_proj=4",
        "quantization=none",
    ),
    "DoRA on NF4": ("adapter=dora",),
    "LoRA+": ("train.lora_plus_ratio=16",),
    "norms trained whole": ("adapter.modules_to_save=[input_layernorm]",),
    "tokens trained": ("adapter.trainable_tokens=[a,b]",),
    "continued pre-training": ("data.path=${toy:data/pretrain.jsonl}", "data.format=text"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_an_adapter_ends_with_a_proven_merge_and_scores(run, way):
    folder = run("quickstart", *SHORT, *EXAM, *WAYS[way])
    losses = [line["loss"] for line in journal_lines(folder.train_jsonl)]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)
    merged = read_json(folder.merge_report)["merged"]
    assert merged["largest"] <= merged["bound"]
    scores = {score.model: score.value for score in read_results(folder.results_json)[1]}
    assert scores.keys() == {"base", "adapter", "merged"} and scores["adapter"] == scores["merged"]


def test_a_regression_meets_numbers_and_says_them(run, tmp_path):
    rows = [{"text": "yes " * n, "label": n / 4} for n in range(1, 9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    how = ("model.task=sequence_classification", "data.regression=true", "data.path=rows.jsonl", "run_dir=r")
    folder = run("quickstart", *how, *SHORT[1:4], "train.max_steps=60", "benchmark=[]", "steps=[train,merge]")
    losses = [line["loss"] for line in journal_lines(folder.train_jsonl)]
    assert losses[-1] < 0.3 * losses[0]
    run("quickstart", *how, "benchmark=[]", "steps=[predict]", "predict.input=rows.jsonl")
    answers = folder.predictions("adapter", "own-rows").read_text().splitlines()
    values = [json.loads(line)["value"] for line in answers]
    assert values[-1] - values[0] > 0.8
    errors = [(value - row["label"]) ** 2 for value, row in zip(values, rows, strict=True)]
    assert sum(errors) / len(errors) < 0.3


def test_a_start_from_quantized_weights_is_refused_with_a_weight_decay(run):
    with pytest.raises(ConfigError, match="train.weight_decay: 0.1 would shrink"):
        run("quickstart", "adapter.init=pissa", "train.weight_decay=0.1", "steps=[train]")


def test_a_token_that_the_vocabulary_lacks_is_said(run):
    with pytest.raises(ConfigError, match="adapter.trainable_tokens: the tokenizer has no token '<.new.>'"):
        run("quickstart", *SHORT, "adapter.trainable_tokens=['<|new|>']", "steps=[train]")


def test_only_the_named_tokens_of_the_embedding_change(run):
    folder = run("quickstart", *SHORT, "adapter.trainable_tokens=[a,b]", "steps=[train]")
    tensors = load_file(folder.adapter / "adapter_model.safetensors")
    rows = [tensor for name, tensor in tensors.items() if "trainable_tokens" in name]
    assert [tensor.shape[0] for tensor in rows] == [2]


def test_the_score_on_a_benchmark_tells_the_best_checkpoint(run):
    folder = run(
        "quickstart",
        *SHORT[1:],
        *EXAM,
        "train.max_steps=6",
        "train.save_steps=2",
        "train.score_on=toy_choice_en",
        "train.keep=best",
        "steps=[train]",
    )
    scored = {line["step"]: line["score"] for line in journal_lines(folder.train_jsonl) if "score" in line}
    assert list(scored) == [2, 4, 6] and all(0 <= score <= 1 for score in scored.values())
    kept = read_json(folder.run_json)["train"]["kept_step"]
    assert kept == max(scored, key=scored.get)
    best = load_file(folder.checkpoints / f"checkpoint-{kept}" / "adapter_model.safetensors")
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    assert all(torch.equal(best[name], saved[name]) for name in saved)


def test_a_benchmark_to_score_on_must_be_one_of_the_run(run):
    with pytest.raises(ConfigError, match="train.score_on: 'cmmlu' is no benchmark of this run"):
        run("quickstart", "train.score_on=cmmlu", "steps=[train]")
