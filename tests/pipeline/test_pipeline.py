"""The steps of a run: what is written, what is skipped, what is asked for too early."""

import json
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workbench import cli
from workbench.errors import CheckpointError, ConfigError, DataError, DeviceError, MissingStepError
from workbench.evaluation.records import read_predictions, read_results
from workbench.pipeline.run_folder import make_folder
from workbench.run_dir import RunDir, read_json

BASE = Path(cli.PACKAGE) / "toy" / "base"
SHORT = ("train.max_steps=4", "benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=12")


def said(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_a_run_trains_merges_scores_and_compares_and_a_second_one_does_nothing(run, caplog, tmp_path):
    folder = run("quickstart", *SHORT)
    about, scores = read_results(folder.results_json)
    assert [score.model for score in scores] == ["base", "adapter", "merged"]
    assert (
        about["models"]["adapter"]["quantization"] == "nf4"
        and about["models"]["merged"]["quantization"] == "none"
    )
    assert (
        read_json(folder.merge_report)["merged"]["largest"]
        <= read_json(folder.merge_report)["merged"]["bound"]
    )
    adapter, merged = (
        read_predictions(folder.predictions(name, "toy_choice_en")) for name in ("adapter", "merged")
    )
    assert [p.prediction for p in adapter] == [p.prediction for p in merged]
    assert (tmp_path / "runs" / "leaderboard.html").is_file()
    for name, library in (("adapter", "peft"), ("merged", "transformers")):
        text = (folder.path / name / "README.md").read_text(encoding="utf-8")
        assert f"library_name: {library}\n" in text and "model-index:" in text and "toy_choice_en" in text

    before = {
        path: path.stat().st_mtime_ns
        for path in folder.path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    run("quickstart", *SHORT)
    assert said(caplog).count("nothing has changed") == 5  # train, merge, and three models
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_outside_of_the_usual_folder_has_its_leaderboard_to_itself(run, caplog, tmp_path):
    folder = run("quickstart", *SHORT, "run_dir=elsewhere", "steps=[train,evaluate,leaderboard]")
    assert (folder.path / "leaderboard.html").is_file() and (folder.adapter / "README.md").is_file()
    assert not (tmp_path / "runs").exists()


def test_another_benchmark_adds_its_scores_and_leaves_the_old_ones(run, caplog):
    folder = run("quickstart", *SHORT)
    old = folder.predictions("base", "toy_choice_en").read_bytes()
    run("quickstart", SHORT[0], "benchmark=[toy_exact_zh]", "benchmarks.toy_exact_zh.limit=6")
    _, scores = read_results(folder.results_json)
    assert {(score.model, score.benchmark) for score in scores} == {
        (model, benchmark)
        for model in ("base", "adapter", "merged")
        for benchmark in ("toy_choice_en", "toy_exact_zh")
    }
    assert folder.predictions("base", "toy_choice_en").read_bytes() == old
    assert "train: already done" in said(caplog)


def test_force_repeats_the_named_steps_only(run, caplog):
    folder = run("quickstart", *SHORT)
    adapter = (folder.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    results = folder.results_json.read_bytes()
    run("quickstart", *SHORT, "force=true", "steps=[evaluate]")
    assert "nothing has changed" not in said(caplog)
    assert (folder.adapter / "adapter_model.safetensors").stat().st_mtime_ns == adapter
    assert folder.results_json.read_bytes() == results


def test_a_changed_adapter_is_scored_again_and_its_old_merge_is_left_out(run, caplog):
    folder = run("quickstart", *SHORT, "steps=[train,merge,evaluate]")
    run("quickstart", *SHORT, "train.learning_rate=1e-2", "force=true", "steps=[train,evaluate]")
    assert "made from an older adapter" in said(caplog)
    assert "merged" not in {score.model for score in read_results(folder.results_json)[1]}


def test_an_adapter_that_was_changed_is_refused_by_every_step_but_the_one_that_makes_it(
    run, caplog, tmp_path
):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Question: Which is larger?\\nAnswer:"}\n')
    folder = run("quickstart", *SHORT, "steps=[train,evaluate]")
    weights, settings = (folder.adapter / f"adapter_{name}" for name in ("model.safetensors", "config.json"))
    data, text = weights.read_bytes(), settings.read_text()
    refused = pytest.raises(
        CheckpointError, match="quickstart/adapter: was changed since the train step wrote it"
    )
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for step in ("merge", "evaluate", "predict", "export"):
        with refused:
            run("quickstart", *SHORT, f"steps=[{step}]", "predict.input=mine.jsonl")
    weights.write_bytes(data)
    settings.write_text(text.replace('"lora_alpha": 32', '"lora_alpha": 64'))
    with refused:
        run("quickstart", *SHORT, "steps=[merge]")
    run("quickstart", *SHORT, "steps=[train,evaluate]")
    assert "train makes it again" in said(caplog) and "evaluate adapter: already done" in said(caplog)
    assert (weights.read_bytes(), settings.read_text()) == (data, text)


def test_a_classifier_is_trained_merged_scored_and_asked(run, tmp_path):
    short = ("train.max_steps=3", "benchmark=[toy_reviews_en]", "benchmarks.toy_reviews_en.limit=8")
    folder = run("quickstart-classifier", *short)
    _, scores = read_results(folder.results_json)
    assert {score.note for score in scores if score.model == "base"} == {"untrained head"}
    (tmp_path / "mine.jsonl").write_text('{"text": "The soup in town was not bad."}\n', encoding="utf-8")
    run(
        "quickstart-classifier",
        *short,
        "steps=[predict]",
        "predict.input=mine.jsonl",
        "predict.output=out.jsonl",
    )
    answer = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert answer["label"] in ("positive", "negative") and answer["text"].startswith("The soup")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert scores_of_given_head(run, folder) == {("base", "")}


def test_a_table_of_predictions_has_the_heading_of_classes_of_the_training_unless_it_is_taken(
    run, tmp_path, caplog
):
    lines = [f"评论 {number},{'好' if number % 2 else '坏'}" for number in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["评论,类别", *lines]) + "\n", encoding="utf-8")
    columns = "data.columns={text: '评论', label: '类别'}"
    trained = ("data.path=rows.csv", columns, "data.labels=['坏','好']", "train.max_steps=2", "benchmark=[]")
    for name, heading in (("评论,编号", "类别"), ("评论,类别", "label")):
        (tmp_path / "new.csv").write_text(f"{name}\n很好,1\n", encoding="utf-8")
        asked = ("predict.input=new.csv", "predict.output=out.csv", "force=true")
        run("quickstart-classifier", *trained, "steps=[train]")
        run("quickstart-classifier", *trained, "steps=[predict]", *asked)
        run("quickstart-classifier", *trained, "steps=[predict]", *asked[:2])
        assert "predict adapter: already done" in said(caplog)
        written = (tmp_path / "out.csv").read_text(encoding="utf-8-sig").splitlines()[0]
        assert written == f"{name},{heading},probability 坏,probability 好"


def scores_of_given_head(run, folder) -> set[tuple[str, str]]:
    """Model and note of each score of a classifier that was given as `model.path`."""
    given = run(
        "evaluate",
        "run_dir=given",
        f"model.path={folder.merged}",
        "model.task=sequence_classification",
        "benchmark=[toy_reviews_en]",
        "benchmarks.toy_reviews_en.limit=8",
        "steps=[evaluate]",
    )
    return {(score.model, score.note) for score in read_results(given.results_json)[1]}


def test_texts_that_begin_alike_get_labels_of_their_own(run, tmp_path):
    short = ("train.max_steps=3", "benchmark=[toy_reviews_en]", "data.max_length=16")
    run("quickstart-classifier", *short, "steps=[train]")
    begin = "The soup in town was warm and the bread in the inn was old but the waiter was kind "
    texts = [begin + "and everything was good.", begin + "but everything was bad, bad, bad."]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    asked = ("steps=[predict]", "predict.input=mine.jsonl", "predict.output=out.jsonl")
    run("quickstart-classifier", *short, *asked)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert answers[0]["probabilities"] != answers[1]["probabilities"]


def test_predict_refuses_a_prompt_that_the_model_cannot_hold(run, tmp_path):
    run("quickstart", *SHORT, "steps=[train]")
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "3 or 7? " * 300}) + "\n")
    words = r"mine.jsonl:1: [\d,]+ tokens with the answer, but the model's context has 512"
    with pytest.raises(DataError, match=words):
        run("quickstart", *SHORT, "steps=[predict]", "predict.input=mine.jsonl", "predict.output=out.jsonl")


def test_scores_by_another_tokenizer_are_scores_anew(run, tmp_path):
    asked = ("run_dir=run", f"model.path={BASE}", "benchmark=[toy_choice_en]", "steps=[evaluate]")
    shutil.copytree(BASE, tmp_path / "tokenizer")
    values = []
    for _ in range(2):
        folder = run("evaluate", *asked, "benchmarks.toy_choice_en.limit=5", "model.tokenizer=tokenizer")
        predictions = read_predictions(folder.predictions("base", "toy_choice_en"))
        values.append([one.loglikelihoods for one in predictions])
        file = tmp_path / "tokenizer" / "tokenizer.json"
        vocabulary = json.loads(file.read_text(encoding="utf-8"))
        words = vocabulary["model"]["vocab"]
        words["3"], words["7"] = words["7"], words["3"]
        file.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    assert values[0] != values[1]


def test_predict_answers_with_adapter_and_merged_model_alike(run, tmp_path):
    run("quickstart", *SHORT, "steps=[train,merge]")
    rows = [
        {"prompt": "Question: Which is the largest, 3, 9, 40 or 7?\nAnswer:"},
        {"prompt": "问题：1、2，哪个最大？\n答案："},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = []
    for model in ("adapter", "merged"):
        out = tmp_path / f"{model}.jsonl"
        options = (
            "steps=[predict]",
            "predict.input=mine.jsonl",
            f"predict.model={model}",
            f"predict.output={out}",
        )
        run("quickstart", *SHORT, *options, "predict.max_new_tokens=5")
        answers.append([json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()])
    assert answers[0] == answers[1]
    assert [row["prompt"] for row in answers[0]] == [row["prompt"] for row in rows]
    assert all("answer" in row for row in answers[0])


def test_an_output_that_predict_has_not_written_is_not_replaced(run, tmp_path):
    run("quickstart", *SHORT, "steps=[train]")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Answer:"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="predict.output.*exists"):
        run("quickstart", *SHORT, "steps=[predict]", "predict.input=mine.jsonl", "predict.output=mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_text(encoding="utf-8") == '{"prompt": "Answer:"}\n'


def test_full_fine_tuning_leaves_a_model_that_is_scored_as_trained(run):
    folder = run("quickstart", *SHORT, "adapter=none", "quantization=none", "steps=[train,evaluate]")
    assert (folder.model / "model.safetensors").is_file() and not folder.adapter.exists()
    assert [score.model for score in read_results(folder.results_json)[1]] == ["base", "trained"]


def test_small_steps_of_full_fine_tuning_are_not_lost_in_16_bit_weights(run):
    """The rate is some hundredths of the spacing of bfloat16 at the size of these weights."""
    whole = ("adapter=none", "quantization=none", "model.dtype=bfloat16", "train.learning_rate=2e-5")
    how = (*SHORT, *whole, "train.max_steps=12", "steps=[train]")
    start = load_file(BASE / "model.safetensors")
    share = {}
    for precision in ("pure", "mixed"):
        folder = run("quickstart", *how, f"train.precision={precision}", f"run_dir={precision}")
        trained = load_file(folder.model / "model.safetensors")
        assert {tensor.dtype for tensor in trained.values()} == {torch.bfloat16}
        changed = sum(int((trained[name] != start[name].bfloat16()).sum()) for name in start)
        share[precision] = changed / sum(tensor.numel() for tensor in start.values())
    assert share["pure"] < 0.6 * share["mixed"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["steps=[merge]"], MissingStepError, "run the train step"),
        (["adapter=none"], ConfigError, "adapter.method.*nf4"),
        (["adapter.target_modules=[w_pack]"], ConfigError, "w_pack.*q_proj"),
        (["data.path=nowhere.jsonl"], DataError, "nowhere.jsonl"),
        (["benchmark=[]", "steps=[evaluate]"], ConfigError, "benchmark: none"),
    ],
)
def test_what_can_not_work_is_said_before_anything_is_trained(run, tmp_path, overrides, error, words):
    with pytest.raises(error, match=words):
        run("quickstart", "train.max_steps=2", *overrides)
    assert not (tmp_path / "runs" / "quickstart").exists()


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_start_from_the_weights_is_refused_under_fsdp(run, monkeypatch, init):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=f"adapter.init: '{init}' is not supported with FSDP"):
        run("quickstart", *SHORT, f"adapter.init={init}", "steps=[train]")


def test_a_model_trained_whole_is_scored_and_asked_without_a_merge(run, tmp_path, caplog):
    whole = ("adapter=none", "quantization=none", "train.learning_rate=0.001")
    folder = run("quickstart", *SHORT, *whole, "steps=[train,merge,evaluate]")
    assert folder.model.is_dir() and not folder.merged.exists()
    assert {score.model for score in read_results(folder.results_json)[1]} == {"base", "trained"}
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "3 or 7? Answer:"}) + "\n")
    asked = ("steps=[predict]", "predict.input=mine.jsonl", "predict.output=out.jsonl")
    run("quickstart", *SHORT, *whole, *asked, "predict.max_new_tokens=3")
    assert "answer" in json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    with pytest.raises(MissingStepError, match="predict.model: .* has no adapter model .*predict.model=base"):
        run("quickstart", *SHORT, *whole, *asked, "predict.model=adapter", "evaluate.models=[base]")


def test_a_full_disk_ends_any_step_in_one_line(run, monkeypatch):
    """A limit on the size of files stands for the full disk."""
    original = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, original[1]))
    try:
        with pytest.raises(DeviceError, match=r"runs/tokenizer: can't be written, .*free space and repeat"):
            run("tokenizer", "data.path=${toy:data/pretrain.jsonl}", "tokenizer.vocab_size=300")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, original)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_run_s_folder_that_cannot_be_made_is_named():
    with pytest.raises(
        ConfigError, match=r"run_dir: '/proc/x' can't be created \(No such file or directory\)"
    ):
        make_folder(RunDir(Path("/proc/x")))


def test_a_folder_with_other_files_is_not_taken_for_a_run(run, tmp_path):
    for name in ("model", "adapter", "merged"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "weights.safetensors").write_text("years of work")
    whole = ("adapter=none", "quantization=none", "steps=[train]")
    for how in (whole, ("steps=[train,merge]",)):
        with pytest.raises(
            ConfigError, match="run_dir: 'mine' contains 'adapter' and no config.yaml, so it is not"
        ):
            run("quickstart", *SHORT, *how, "run_dir=mine")
    files = [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    assert len(files) == 3 and all(path.read_text() == "years of work" for path in files)
