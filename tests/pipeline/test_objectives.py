"""Ways to train, each through the whole job: trained, merged with its proof, scored."""

import json

import pytest
import torch
from safetensors.torch import load_file

from workbench.errors import ConfigError, DataError, WorkbenchError
from workbench.evaluation.records import read_results
from workbench.pipeline.train import check_mean
from workbench.run_dir import read_json
from workbench.training.reporting.journal import journal_lines

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
    with pytest.raises(ConfigError, match="adapter.trainable_tokens: '<.new.>' is not a single token"):
        run("quickstart", *SHORT, "adapter.trainable_tokens=['<|new|>']", "steps=[train]")


def test_only_the_named_tokens_of_the_embedding_change(run):
    folder = run("quickstart", *SHORT, "adapter.trainable_tokens=[a,b]", "steps=[train]")
    tensors = load_file(folder.adapter / "adapter_model.safetensors")
    rows = [tensor for name, tensor in tensors.items() if "trainable_tokens" in name]
    assert [tensor.shape[0] for tensor in rows] == [2]


def test_the_mean_score_on_the_chosen_benchmarks_tells_the_best_checkpoint(run, caplog):
    both = ("toy_choice_en", "toy_choice_zh")
    folder = run(
        "quickstart",
        *SHORT[1:],
        "benchmark=[toy_choice_en,toy_choice_zh,toy_exact_en]",
        *(f"benchmarks.{name}.limit={limit}" for name, limit in zip(both, (8, 4), strict=True)),
        "train.max_steps=6",
        "train.save_steps=2",
        "train.score_on=[toy_choice_en,toy_choice_zh]",
        "train.keep=best",
        "steps=[train]",
    )
    lines = {line["step"]: line for line in journal_lines(folder.train_jsonl) if "score" in line}
    scored = {step: line["score"] for step, line in lines.items()}
    assert list(scored) == [2, 4, 6]
    for step, line in lines.items():
        english, chinese = (line[f"score/{name}"] for name in both)
        assert line["score"] == (english + chinese) / 2 and 0 <= line["score"] <= 1
        words = f"score {line['score']:.4f} (toy_choice_en {english:.4f}, toy_choice_zh {chinese:.4f})"
        assert f"train: step {step}, {words}" in caplog.text
    kept = read_json(folder.run_json)["train"]["kept_step"]
    assert kept == max(scored, key=scored.get)
    assert read_json(folder.run_json)["train"]["scores"].keys() == set(both)
    best = load_file(folder.checkpoints / f"checkpoint-{kept}" / "adapter_model.safetensors")
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    assert all(torch.equal(best[name], saved[name]) for name in saved)


def test_scores_that_have_no_mean_are_refused_before_the_training(run, tmp_path):
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "37 is larger than 12."}))
    how = ("benchmark=[perplexity,toy_choice_en]", "benchmarks.perplexity.path=text.jsonl")
    words = r"the mean of 'perplexity' \(bits_per_byte\) and 'toy_choice_en' \(acc\) does not tell which"
    with pytest.raises(ConfigError, match=f"train.score_on: {words}"):
        run("quickstart", *how, "train.score_on=[perplexity,toy_choice_en]", "steps=[train]")


@pytest.mark.parametrize("metric", ["evaluate-metric/wer", "word_perplexity,strict", "brier_score"])
def test_an_error_rate_and_an_accuracy_have_no_mean(metric):
    check_mean({"x": metric, "y": metric})
    check_mean({"x": "acc", "y": "exact_match"})
    for metrics in ({"x": "acc", "y": metric}, {"x": metric, "y": "acc"}):
        with pytest.raises(ConfigError, match="does not tell which model is better"):
            check_mean(metrics)


def test_a_metric_of_which_a_task_says_that_less_is_better_has_no_mean_with_another():
    check_mean({"x": "pct", "y": "pct"}, of_losses={"x", "y"})
    for metrics, losses in (({"x": "pct", "y": "acc"}, {"x"}), ({"x": "pct", "y": "pct"}, {"y"})):
        with pytest.raises(ConfigError, match="does not tell which model is better"):
            check_mean(metrics, losses)


@pytest.mark.parametrize("asked", ["steps=[evaluate]", "train.score_on=[toy_choice_en]"])
def test_a_benchmark_that_the_model_can_not_answer_is_refused_before_the_training(run, asked):
    with pytest.raises(ConfigError, match="benchmarks.toy_choice_en: output_type 'multiple_choice' is not"):
        run("quickstart-classifier", "benchmark=[toy_choice_en]", "steps=[train]", asked)


def test_a_benchmark_to_score_on_must_be_one_of_the_run(run):
    with pytest.raises(ConfigError, match="train.score_on: 'cmmlu' is not a benchmark of this run"):
        run("quickstart", "train.score_on=[cmmlu]", "steps=[train]")


CLASSES = ("quantization=none", "data.limit=24", "benchmark=[]", "steps=[train]", *SHORT[:4])


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_classifier_that_is_gone_on_with_keeps_its_classes_in_their_order(run, kind):
    whole = ("adapter=none",) if kind == "model" else ()
    order = "data.labels=[positive,negative]"
    first = run("quickstart-classifier", *CLASSES, *whole, order, "run_dir=first")
    how = (*CLASSES, *whole, f"{kind}.path=first/{kind}")
    second = run("quickstart-classifier", *how, "data.labels=[]", "run_dir=second")
    names = [read_json(folder.train_json)["labels"] for folder in (first, second)]
    assert names == [["positive", "negative"]] * 2
    streamed = ("data.labels=[]", "data.streaming=true", "run_dir=third")
    assert read_json(run("quickstart-classifier", *how, *streamed).train_json)["labels"] == names[0]
    for others in ("[negative,positive]", "[good,bad]"):
        with pytest.raises(
            ConfigError, match=rf"data.labels: .*but the head of 'first/{kind}' .*\['positive', "
        ):
            run("quickstart-classifier", *how, f"data.labels={others}", "run_dir=fourth")


def test_of_a_perplexity_the_lowest_tells_the_best_checkpoint(run, tmp_path):
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "37 is larger than 12."}))
    text = ("benchmark=[perplexity]", "benchmarks.perplexity.path=text.jsonl")
    how = ("train.max_steps=4", "train.save_steps=2", "train.keep=best", "train.score_on=[perplexity]")
    folder = run("quickstart", *SHORT[1:5], *text, *how, "train.learning_rate=0.5", "steps=[train]")
    scores = {line["step"]: line["score"] for line in journal_lines(folder.train_jsonl) if "score" in line}
    bits = {step: -score for step, score in scores.items()}
    assert all(each > 0 for each in bits.values())
    assert read_json(folder.run_json)["train"]["kept_step"] == min(bits, key=bits.get)


def test_what_decides_the_best_checkpoint_decides_whether_a_training_is_done(run, caplog):
    how = (*SHORT[:5], *EXAM, "train.score_on=[toy_choice_en]", "train.keep=best", "steps=[train]")
    run("quickstart", *how)
    run("quickstart", *how, "benchmarks.toy_choice_zh.limit=7", "benchmark=[toy_choice_en,toy_choice_zh]")
    assert "already done" in caplog.text
    more = ("benchmark=[toy_choice_en,toy_choice_zh]", "train.score_on=[toy_choice_en,toy_choice_zh]")
    with pytest.raises(ConfigError, match="checkpoint-2: belongs to a training with other"):
        run("quickstart", *how, *more)
    for change in ("benchmarks.toy_choice_en.limit=5", "train.save_steps=1", "evaluate.fewshot_seed=3"):
        with pytest.raises(ConfigError, match="checkpoint-2: belongs to a training with other"):
            run("quickstart", *how, change)
        assert "already done" not in caplog.text


def test_a_score_before_the_first_logged_loss_is_no_error(run):
    how = ("train.score_on=[toy_choice_en]", "train.save_steps=1", "train.logging_steps=20")
    folder = run("quickstart", *SHORT[:2], *EXAM, *how, "data.limit=16", "steps=[train]")
    assert (folder.path / "loss.svg").is_file()


@pytest.mark.parametrize("recipe", ["quickstart", "plan"])
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("adapter.target_modules=[q_prj]", "adapter.target_modules: 'q_prj' matches no layer"),
        ("adapter.modules_to_save=[model]", "adapter.modules_to_save: .'model'. contains all layers"),
        ("adapter.modules_to_save=['']", "adapter.modules_to_save: '' matches no layer"),
        (
            "adapter.modules_to_save=[mlp]",
            "adapter.modules_to_save: 'mlp' is quantized to nf4 .*skip_modules=.mlp.",
        ),
        ("adapter.path=runs/none/adapter", "runs/none/adapter"),
        ("adapter.path=.", "[.]: not an adapter, adapter_config.json is missing"),
        ("adapter.trainable_tokens=['<|new|>']", "adapter.trainable_tokens: .* is not a single token"),
        ("train.report_to=[foo]", "train.report_to: unknown logger 'foo' .known: .*wandb"),
        ("train.report_to=[clearml]", "train.report_to: 'clearml' can.t be used, .*pip install clearml"),
        ("seed=-1", "seed: -1 .from 0 to"),
        ("seed=5000000000", "seed: 5000000000 .from 0 to"),
    ],
)
def test_a_mistake_is_found_before_the_rows_are_encoded(run, monkeypatch, recipe, mistake, words):
    for module in ("plan.plan", "train"):
        monkeypatch.delattr(f"workbench.pipeline.{module}.encoded_examples")
    data = ("model.path=${toy:base}", "data.path=${toy:data/instruct.jsonl}", "quantization=nf4")
    steps = ("steps=[train]",) if recipe == "quickstart" else ()
    with pytest.raises(WorkbenchError, match=words):
        run(recipe, *data, *steps, mistake)


def test_a_benchmark_to_score_on_is_read_before_the_rows_are_encoded(run, monkeypatch):
    monkeypatch.delattr("workbench.pipeline.train.encoded_examples")
    with pytest.raises(DataError, match="nothing.jsonl"):
        how = ("train.score_on=[toy_choice_en]", "benchmarks.toy_choice_en.path=nothing.jsonl")
        run("quickstart", *EXAM, *how, "steps=[train]")
