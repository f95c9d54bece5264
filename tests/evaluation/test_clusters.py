"""Which items share a text, how many items a benchmark has without its limit, and how both are written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from workbench.config.benchmark import BenchmarkConfig, LocalConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.metrics.aggregate import scores
from workbench.evaluation.prepare_benchmarks import prepare
from workbench.evaluation.records import (
    Answer,
    Prediction,
    Score,
    prediction_line,
    read_predictions,
    read_results,
    write_predictions,
    write_results,
)
from workbench.evaluation.tasks.requests import item

ROWS = [
    {"text": "one", "questions": [{"q": "a", "answer": "A"}, {"q": "b", "answer": "B"}]},
    {"text": "two", "questions": [{"q": "c", "answer": "A"}]},
    {"text": "one", "questions": [{"q": "d", "answer": "B"}]},
]
PREDICTION = Prediction(id="0", prompt_hash="0" * 16, context="", prediction=0, target=0, scores={"acc": 1.0})
SCORE = Score(
    model="base",
    benchmark="b",
    language="zh",
    metric="acc",
    value=1.0,
    stderr=None,
    interval=None,
    num_items=1,
    num_fewshot=0,
    protocol="default",
    prompts="",
)


def prepared(tmp_path, unfold="questions", **fields):
    rows = ROWS if unfold else [{"text": row["text"], **q} for row in ROWS for q in row["questions"]]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = BenchmarkConfig(
        path=str(file),
        language="zh",
        local=LocalConfig(unfold=unfold),
        output_type=OutputType.multiple_choice,
        question="{{ text }} {{ q }}",
        choices=["A", "B"],
        target="{{ answer }}",
        **fields,
    )
    return prepare("exam", config, EvaluateConfig())


def groups(benchmark):
    clusters = [example.cluster for example in benchmark.examples]
    return [clusters.index(cluster) for cluster in clusters]


def test_questions_unfolded_from_one_row_are_a_cluster(tmp_path):
    assert groups(prepared(tmp_path)) == [0, 0, 2, 3]


def test_items_that_are_all_unfolded_from_one_object_have_no_cluster(tmp_path):
    file = tmp_path / "exam.json"
    questions = [{"question": "a", "answer": "A"}, {"question": "b", "answer": "B"}]
    file.write_text(json.dumps({"version": "1", "data": questions}))
    config = BenchmarkConfig(
        path=str(file),
        language="en",
        local=LocalConfig(unfold="data"),
        output_type=OutputType.multiple_choice,
        question="{{ question }}",
        choices=["A", "B"],
        target="{{ answer }}",
    )
    examples = prepare("exam", config, EvaluateConfig()).examples
    assert [(example.id, example.cluster) for example in examples] == [("0", ""), ("1", "")]


def test_a_template_says_what_a_cluster_shares(tmp_path):
    assert groups(prepared(tmp_path, cluster="{{ text }}")) == [0, 0, 2, 0]
    assert groups(prepared(tmp_path, unfold="", cluster="{{ text }}")) == [0, 0, 2, 0]


def test_without_a_common_text_items_have_no_cluster(tmp_path):
    assert {example.cluster for example in prepared(tmp_path, unfold="").examples} == {""}


def test_a_limit_changes_neither_the_clusters_nor_the_number_of_all_items(tmp_path):
    whole, limited = prepared(tmp_path), prepared(tmp_path, limit=2)
    cluster_of = {example.id: example.cluster for example in whole.examples}
    assert {example.id: example.cluster for example in limited.examples}.items() <= cluster_of.items()
    assert (whole.num_total, limited.num_total, len(limited.examples)) == (4, 4, 2)


def test_of_some_subsets_the_number_of_all_items_is_what_the_benchmark_declares(tmp_path):
    subsets = {"subsets": {"one": "", "two": ""}, "only": ["one"]}
    with_files = LocalConfig(files={"test": "{subset}.jsonl"})
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text('{"q": "a", "answer": "A"}\n')
    config = BenchmarkConfig(
        path=str(tmp_path),
        language="zh",
        local=with_files,
        output_type=OutputType.multiple_choice,
        question="{{ q }}",
        choices=["A", "B"],
        target="{{ answer }}",
        num_items=2,
        **subsets,
    )
    assert prepare("exam", config, EvaluateConfig()).num_total == 2
    assert prepare("exam", replace(config, num_items=None), EvaluateConfig()).num_total is None


def test_a_prediction_without_a_cluster_is_written_as_by_earlier_versions(tmp_path):
    assert "cluster" not in json.loads(prediction_line(PREDICTION))
    clustered = replace(PREDICTION, cluster="c")
    write_predictions(tmp_path / "p.jsonl", [PREDICTION, clustered])
    assert read_predictions(tmp_path / "p.jsonl") == [PREDICTION, clustered]


@pytest.mark.parametrize("fields", [{}, {"num_total": 9, "group_members": {"STEM": ["physics"]}}])
def test_what_a_score_does_not_know_is_not_written(fields, tmp_path):
    score = replace(SCORE, **fields)
    write_results(tmp_path / "results.json", {"models": {}}, [score])
    [values] = json.loads((tmp_path / "results.json").read_text())["scores"]
    assert {"num_total", "group_members"} & values.keys() == fields.keys()
    assert read_results(tmp_path / "results.json")[1] == [score]


def test_the_error_of_a_score_is_that_of_its_clusters_sums(tmp_path):
    benchmark = prepared(tmp_path, cluster="{{ text }}")
    items = [item(example, 2) for example in benchmark.examples]
    right = [True, True, False, True]
    answers = [
        [Answer(loglikelihoods=(0.0, -1.0) if (example.target == 0) is is_right else (-1.0, 0.0))]
        for example, is_right in zip(benchmark.examples, right, strict=True)
    ]
    [score] = scores(benchmark, items, answers, EvaluateConfig(), "base")
    deviations = np.array([sum(value - 0.75 for value in (1, 1, 1)), 0 - 0.75]) / 4
    assert score.value == 0.75
    assert score.stderr == pytest.approx(np.sqrt(2 * (deviations**2).sum()))
