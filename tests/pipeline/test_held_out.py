"""recipe=sft without a benchmark: base and trained model compared on rows that were held out."""

import json
import math
import random
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from test_saved_chat import OWN, chat_base
from transformers import AutoModelForCausalLM, AutoTokenizer

import workbench.models  # noqa: F401  registers Open-Llama
from workbench import cli
from workbench.config import Config, ModelConfig
from workbench.data.holdout import HoldOut
from workbench.data.rows import Row
from workbench.errors import ConfigError, DataError
from workbench.evaluation.records import read_predictions, read_results
from workbench.pipeline.held_out import rows_file
from workbench.pipeline.held_out.benchmarks import answers, losses
from workbench.pipeline.held_out.encoded_rows import encoded_rows
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, read_json

BASE = "model.path=${toy:base}"
SHORT = (BASE, "data.max_length=64", "train.max_steps=2", "run_dir=run", "steps=[train,evaluate]")


def write_rows(folder, count: int, answer: str = " {}") -> str:
    """Write so many questions with short answers; the override that names them."""
    dice = random.Random(0)
    lines = []
    for number in range(count):
        other = dice.randrange(number + 1)
        question = f"Question: Which is the largest, {number} or {other}?\nAnswer:"
        lines.append(json.dumps({"prompt": question, "completion": answer.format(number)}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "data.path=rows.jsonl"


@pytest.fixture
def rows(tmp_path):
    return partial(write_rows, tmp_path)


@pytest.fixture(scope="module")
def compared_once(run_once):
    return run_once(lambda folder: write_rows(folder, 220), "sft", "data.path=rows.jsonl", *SHORT)


@pytest.fixture
def compared(compared_once, tmp_path):
    """A copy of the run that compared base and adapter on 20 of 220 rows."""
    shutil.copytree(compared_once, tmp_path, dirs_exist_ok=True)
    return RunDir(Path("run"))


def said(caplog) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def scored(folder) -> set[tuple[str, str, str]]:
    return {(one.model, one.benchmark, one.metric) for one in read_results(folder.results_json)[1]}


def test_base_and_adapter_are_compared_on_held_out_rows(run, compared, caplog):
    folder = compared
    assert scored(folder) == {
        (model, benchmark, metric)
        for model in ("base", "adapter")
        for benchmark, metric in (
            ("held_out", "answer_loss"),
            ("held_out_answers", "exact_match"),
            ("held_out_answers", "char_f1"),
        )
    }
    trained = read_json(folder.train_json)
    assert trained["data"]["num_rows"] == 200 and trained["held_out"]["rows"] == 20
    held_out = [json.loads(line) for line in folder.held_out_jsonl.read_text().splitlines()]
    assert len(held_out) == 20
    predictions = read_predictions(folder.predictions("adapter", "held_out"))
    nats = [-one.loglikelihoods[0] for one in predictions]
    tokens = [total / one.scores["answer_loss"] for total, one in zip(nats, predictions, strict=True)]
    loss = read_json(folder.run_json)["train"]["validation_loss"]
    assert loss == pytest.approx(sum(nats) / sum(tokens), abs=1e-4)
    run("sft", "data.path=rows.jsonl", *SHORT)
    assert said(caplog).count("nothing has changed") == 3


def test_the_loss_is_that_of_the_answers_tokens_in_every_turn(run, tmp_path):
    roles = ("user", "assistant", "user", "assistant")
    lines = []
    for number in range(200):
        texts = (f"Which is larger, {number} or 1?", str(number), "And now?", "It is.")
        chat = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        lines.append(json.dumps({"messages": chat}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    folder = run("sft", "data.path=rows.jsonl", *SHORT, "evaluate.models=[base]")
    prediction = read_predictions(folder.predictions("base", "held_out"))[0]
    row = json.loads(folder.held_out_jsonl.read_text().splitlines()[0])
    question, first, _, last = [turn["content"] for turn in row["values"]["messages"]]
    assert question in prediction.context
    tokenizer = AutoTokenizer.from_pretrained(cli.PACKAGE / "toy" / "base")
    model = AutoModelForCausalLM.from_pretrained(cli.PACKAGE / "toy" / "base").eval()
    ids, labels = [tokenizer.bos_token_id], [-100]
    texts = (f"user:{question}\nsystem:", f"{first}</s>", "user:And now?\nsystem:", f"{last}</s>")
    for number, text in enumerate(texts):
        part = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids, labels = ids + part, labels + (part if number % 2 else [-100] * len(part))
    logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    values = [-logprobs[at - 1, label].item() for at, label in enumerate(labels) if label != -100]
    assert prediction.scores["answer_loss"] == pytest.approx(math.fsum(values) / len(values), abs=1e-4)


def test_a_benchmark_named_later_is_scored_in_the_same_run_without_training_again(run, compared, caplog):
    folder = compared
    named = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=4")
    run("sft", "data.path=rows.jsonl", *SHORT, *named)
    assert "train: already done" in said(caplog)
    assert {name for _, name, _ in scored(folder)} == {"held_out", "held_out_answers", "toy_choice_en"}


def test_with_a_benchmark_named_every_row_is_trained_and_no_row_held_out(run, rows):
    named = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=4")
    folder = run("sft", rows(220), *SHORT, *named)
    assert read_json(folder.train_json)["data"]["num_rows"] == 220
    assert not folder.held_out_jsonl.exists() and {name for _, name, _ in scored(folder)} == {"toy_choice_en"}


def test_of_few_rows_none_is_held_out_and_it_is_said(run, rows, caplog):
    folder = run("sft", rows(30), *SHORT, "steps=[train,evaluate,leaderboard]")
    assert "no rows are held out, there are only 30" in said(caplog)
    assert "evaluate: nothing to score" in said(caplog) and "there are no scores yet" in said(caplog)
    assert said(caplog).count("data.validation_fraction=0.2") == 2 and "page: " not in said(caplog)
    assert not (folder.path.parent / "leaderboard.html").exists()
    assert read_json(folder.train_json)["data"]["num_rows"] == 30


def test_the_language_is_that_of_the_rows_whatever_the_template_says_before_them(tmp_path):
    english = "<|im_start|>system\nYou are a helpful assistant with a name.<|im_end|>\n"
    asked = Run(
        Config(model=ModelConfig(path=str(chat_base(tmp_path / "base", english + OWN)))), RunDir(tmp_path)
    )
    for question, answer, spoken in (("早上好", "你好", "zh"), ("Good day", "Hello", "en")):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        encoded, _ = encoded_rows([Row({"messages": turns}, "rows.jsonl:1")], asked, asked.tokenizer)
        benchmarks = (losses(encoded), answers(encoded, asked.tokenizer))
        assert {benchmark.config.language for benchmark in benchmarks} == {spoken}


def test_held_out_rows_are_written_with_their_characters_and_read_back(tmp_path):
    folder = RunDir(tmp_path)
    rows = [Row({"问题": "你好"}, "行.csv:2"), Row({"问题": "half \ud83d"}, "行.csv:3")]
    rows_file.write_rows(HoldOut([], rows), folder)
    first, second = folder.held_out_jsonl.read_text(encoding="utf-8").splitlines()
    assert '"你好"' in first and json.loads(second)["values"] == rows[1].values


def test_held_out_rows_that_were_edited_are_not_scored_and_training_writes_them_again(run, compared):
    folder = compared
    left = folder.held_out_jsonl.read_text()
    folder.held_out_jsonl.write_text(left.replace("largest", "smallest"))
    with pytest.raises(DataError, match="held_out.jsonl: was changed since the training wrote it"):
        run("sft", "data.path=rows.jsonl", *SHORT, "steps=[evaluate]")
    run("sft", "data.path=rows.jsonl", *SHORT, "steps=[train]")
    assert folder.held_out_jsonl.read_text() == left


@pytest.mark.parametrize("how", ["train.keep=best", "train.patience=2"])
def test_the_best_checkpoint_of_a_training_without_validation_is_refused_before_it(
    run, rows, tmp_path, caplog, how
):
    for more in ((), ("data.validation_fraction=0",), ("data.streaming=true",)):
        with pytest.raises(ConfigError, match="no rows are held out to tell which checkpoint is best"):
            run("sft", rows(30), *SHORT, "steps=[train]", how, *more)
    assert not (tmp_path / "run").exists()
    run("sft", rows(220), *SHORT, "steps=[train]", how, "train.sample_answers=0")
    assert "20 of 220 rows are held out" in said(caplog)


def test_long_answers_are_compared_by_their_loss_alone(run, rows):
    folder = run("sft", rows(220, answer=" " + "one two three " * 20 + "{}"), *SHORT, "data.max_length=128")
    assert {name for _, name, _ in scored(folder)} == {"held_out"}


def test_a_classifier_is_compared_with_the_majority_class(run, tmp_path):
    words = {"体育": "比赛 球队 冠军", "财经": "股票 银行 市场", "科技": "手机 芯片 软件"}
    lines = [
        json.dumps({"text": f"{words[label]} {number}", "label": label}, ensure_ascii=False)
        for number, label in enumerate(list(words) * 80)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = ("model.task=sequence_classification", "train.learning_rate=1e-2", "train.max_steps=20")
    folder = run("sft", "data.path=rows.jsonl", *SHORT, *task, "steps=[train,evaluate,leaderboard]")
    scores = {(one.model, one.metric): one for one in read_results(folder.results_json)[1]}
    assert {metric for _, metric in scores} == {"acc", "macro_f1", "log_loss"}
    assert scores["base", "acc"].note == "untrained head" and scores["adapter", "acc"].language == "zh"
    predictions = read_predictions(folder.predictions("adapter", "held_out"))
    expected = [-one.loglikelihoods[one.target] for one in predictions]
    assert scores["adapter", "log_loss"].value == pytest.approx(sum(expected) / len(expected))
    board = read_json(folder.path / "leaderboard.json")
    assert "against the most frequent class" in board["differences"][0]["problem"]


def test_evaluate_without_benchmark_and_held_out_rows_is_refused(run):
    with pytest.raises(ConfigError, match="benchmark: none chosen, and the run has no held-out rows"):
        run("evaluate", BASE, "run_dir=other")


def test_a_misspelt_folder_of_the_leaderboard_is_named(run):
    with pytest.raises(ConfigError, match="leaderboard.folder: there is no folder 'nowhere'"):
        run("leaderboard", "leaderboard.folder=nowhere")
