"""Items longer than the model's context: refused, cut or skipped, and counted."""

from dataclasses import replace

import datasets
import pytest
from five_rows import ROWS
from layouts import LAYOUTS
from test_bad_input import ROW, command, own  # noqa: F401
from test_engine import exam  # noqa: F401
from test_shipped_benchmarks import load, write
from tiny_llama import llama_config
from transformers import LlamaForSequenceClassification

import workbench
from workbench.api.benchmarks import Benchmark
from workbench.config.evaluate import EvaluateConfig, TooLong
from workbench.errors import DataError
from workbench.evaluation.engine import evaluate
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Score, read_predictions, read_results, score_values
from workbench.evaluation.too_long_items import check_lengths
from workbench.pipeline import evaluate as evaluate_step
from workbench.run_dir import RunDir

LENGTHENED = {
    "cmrc2018": "context",
    "drcd": "context",
    "agieval_zh": "query",
    "agieval_en": "query",
    "bbh": "input",
    "rte": "premise",
    "cb": "premise",
    "copa": "premise",
    "wsc": "text",
    "wic": "sentence2",
    "mgsm_en": "question",
    "trivia_qa": "question",
    "longbench_en": "context",
    "math_500": "problem",
}
"""Benchmark -> column that is made longer than the context of 512 tokens in rows 1 and 3."""
CUT = ("truncate-left", "truncate-middle")


def lengthened(name: str, monkeypatch, **settings) -> tuple[dict[str, PreparedBenchmark], EvaluateConfig]:
    """The benchmark over its five rows, two of which don't fit, and the evaluate section."""
    subset, rows, _ = ROWS[name]
    column = LENGTHENED[name]
    longer = [
        {**row, column: row[column] + " and another question" * 300} if number in (1, 3) else row
        for number, row in enumerate(rows)
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(longer))
    config = EvaluateConfig(**settings)
    benchmark = load(
        name, num_fewshot=0, generation={"max_new_tokens": 4}, **({"only": [subset]} if subset else {})
    )
    return prepare_benchmarks({name: benchmark}, config), config


@pytest.mark.parametrize("policy", ["skip", *CUT])
@pytest.mark.parametrize("name", LENGTHENED)
def test_two_overlong_items_of_fourteen_benchmarks_end_with_a_counted_score(
    name, policy, llama, tokenizer, tmp_path, monkeypatch
):
    prepared, config = lengthened(name, monkeypatch, too_long=TooLong[policy])
    files = RunDir(tmp_path / "run").predictions
    score = evaluate(llama, tokenizer, prepared, config, model_name="base", predictions=files).scores[0]
    predictions = read_predictions(files("base", name))
    is_cut = policy in CUT
    assert (score.num_items, score.num_truncated, score.num_skipped) == ((5, 2, 0) if is_cut else (3, 0, 2))
    examples = prepared[name].examples
    kept = examples if is_cut else examples[::2]
    for prediction, example in zip(predictions, kept, strict=True):
        whole, length = (
            example.description + example.questions[0],
            len(tokenizer(prediction.context)["input_ids"]),
        )
        assert prediction.id == example.id and length <= 512
        assert (prediction.context != whole) == (is_cut and example in (examples[1], examples[3]))


@pytest.mark.parametrize("name", LENGTHENED)
def test_overlong_items_are_refused_in_one_line_with_the_tokenizer_alone(name, tokenizer, monkeypatch):
    prepared, config = lengthened(name, monkeypatch)
    with pytest.raises(DataError) as caught:
        check_lengths(512, tokenizer, prepared, config)
    message = str(caught.value)
    assert message.startswith(
        f"benchmarks.{name}: 2 of 5 items are longer without few-shot examples than the 512"
    )
    assert prepared[name].examples[1].id in message and "\n" not in message


@pytest.mark.parametrize("policy", CUT)
def test_a_cut_question_keeps_as_much_as_fits(policy, llama, tokenizer, tmp_path, monkeypatch):
    prepared, config = lengthened("bbh", monkeypatch, too_long=TooLong[policy])
    files = RunDir(tmp_path / "run").predictions
    evaluate(llama, tokenizer, prepared, config, model_name="base", predictions=files)
    example, prediction = prepared["bbh"].examples[1], read_predictions(files("base", "bbh"))[1]
    question = prediction.context.removeprefix(example.description)
    assert prediction.context.startswith(example.description) and prediction.context.endswith("\nA:")
    assert 500 <= len(tokenizer(prediction.context)["input_ids"]) <= 512 - 4
    if policy == "truncate-left":
        assert example.questions[0].endswith(question) and not question.startswith("Q:")
    else:
        half = len(question) // 2
        assert question.startswith("Q: not (")
        assert example.questions[0].startswith(question[: len(question) - half])
        assert example.questions[0].endswith(question[len(question) - half :])


def test_examples_are_dropped_before_a_question_is_cut(llama, tokenizer, exam, tmp_path):  # noqa: F811
    config = EvaluateConfig(max_length=30, too_long=TooLong["truncate-left"])
    files = RunDir(tmp_path / "run").predictions
    prepared = prepare_benchmarks({"exam": exam}, config)
    [score, *_] = evaluate(llama, tokenizer, prepared, config, model_name="base", predictions=files).scores
    assert score.num_truncated == score.num_items == 16
    for prediction, example in zip(
        read_predictions(files("base", "exam")), prepared["exam"].examples, strict=True
    ):
        assert prediction.num_shots_dropped == len(example.shots)
        assert example.questions[0].endswith(prediction.context.removeprefix(example.description))


def test_an_item_whose_answers_alone_are_too_long_is_skipped(llama, tokenizer, tmp_path, monkeypatch):
    rows = [{**row, "choice1": "It rained " * (200 * (n == 2) + 1)} for n, row in enumerate(ROWS["copa"][1])]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    config = EvaluateConfig(too_long=TooLong["truncate-middle"])
    prepared = prepare_benchmarks({"copa": load("copa")}, config)
    [score] = evaluate(llama, tokenizer, prepared, config, model_name="base").scores
    assert (score.num_items, score.num_truncated, score.num_skipped) == (4, 0, 1)


def test_where_all_items_are_too_long_nothing_is_scored(llama, tokenizer, exam, tmp_path):  # noqa: F811
    config = EvaluateConfig(max_length=20, too_long=TooLong.skip)
    prepared = prepare_benchmarks({"exam": exam}, config)
    words = r"^benchmarks\.exam: all items are longer than the model's context, so none would be scored \("
    with pytest.raises(DataError, match=words):
        check_lengths(512, tokenizer, prepared, config)
    files = RunDir(tmp_path / "run").predictions
    found = evaluate(llama, tokenizer, prepared, config, model_name="base", predictions=files)
    assert found.scores == [] and read_predictions(files("base", "exam")) == []


def test_where_no_question_can_be_cut_enough_nothing_is_scored(llama, tokenizer, exam):  # noqa: F811
    config = EvaluateConfig(max_length=2, too_long=TooLong["truncate-middle"])
    prepared = prepare_benchmarks({"exam": exam}, config)
    words = r"none would be scored \(a model with a longer context\)"
    with pytest.raises(DataError, match=words):
        check_lengths(512, tokenizer, prepared, config)
    with pytest.raises(DataError, match=words):
        workbench.evaluate(
            llama, tokenizer, Benchmark("exam", exam), max_length=2, too_long="truncate-middle"
        )


@pytest.mark.parametrize("policy", ["skip", *CUT])
def test_texts_of_a_classifier_are_cut_or_skipped(policy, tokenizer, tmp_path):
    write("eprstmt_head", tmp_path)
    [(file, text)] = LAYOUTS["eprstmt"][2].items()
    (tmp_path / file).write_text(text + text.replace("很好", "很好" * 400), encoding="utf-8")
    model = LlamaForSequenceClassification(llama_config(num_labels=2)).eval()
    config = EvaluateConfig(too_long=TooLong[policy])
    prepared = prepare_benchmarks({"head": load("eprstmt_head", path=str(tmp_path))}, config)
    check_lengths(512, tokenizer, prepared, config)
    score = evaluate(model, tokenizer, prepared, config, model_name="base").scores[0]
    assert (score.num_items, score.num_truncated, score.num_skipped) == (
        (1, 0, 1) if policy == "skip" else (2, 1, 0)
    )


def test_counts_are_written_where_there_are_any(llama, tokenizer, exam):  # noqa: F811
    prepared = prepare_benchmarks({"exam": exam}, EvaluateConfig())
    score: Score = evaluate(llama, tokenizer, prepared, EvaluateConfig(), model_name="base").scores[0]
    assert not {"num_truncated", "num_skipped"} & score_values(score).keys()
    counted = score_values(replace(score, num_skipped=3))
    assert counted["num_skipped"] == 3 and "num_truncated" not in counted


def test_questions_longer_than_the_context_are_told_before_the_model_is_loaded(
    command,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    loaded = []
    load_models = evaluate_step.loaded_models
    monkeypatch.setattr(
        evaluate_step, "loaded_models", lambda *given: loaded.append(1) or load_models(*given)
    )
    overrides = own(tmp_path, [ROW, ROW | {"question": "3 or 7? " * 400}])
    assert "evaluate.too_long" in command(*overrides) and not loaded
    out = command(*overrides, "evaluate.too_long=skip", "steps=[evaluate,leaderboard]")
    assert "1 question left out, longer than the model's context" in " ".join(out.split()) and loaded
    [score] = read_results(RunDir(tmp_path / "run").results_json)[1]
    assert (score.num_items, score.num_truncated, score.num_skipped) == (1, 0, 1)
    command(*overrides, "evaluate.too_long=truncate-left", "steps=[evaluate]")
    [score] = read_results(RunDir(tmp_path / "run").results_json)[1]
    assert (score.num_items, score.num_truncated, score.num_skipped) == (2, 1, 0)
