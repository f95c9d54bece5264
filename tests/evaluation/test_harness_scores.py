"""Scores of tasks of lm-evaluation-harness that aren't the mean of their items, or of several averages."""

import logging

import numpy as np
import pytest
from harness_tasks import write_tasks
from test_engine import run
from test_harness import lm_eval, peer, quiet, theirs
from tiny_llama import make_llama, make_tokenizer

from workbench.config.benchmark import BenchmarkConfig, GenerationConfig, LocalConfig, OutputType, Scoring
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.list_checks import check_ignored
from workbench.evaluation.harness.item_scores import item_score
from workbench.evaluation.records import Prediction, Score, read_predictions
from workbench.run_dir import RunDir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("lm_eval")
    return write_tasks(tmp_path_factory.mktemp("harness") / "tasks")


def scored(folder, tmp_path, task: str, **changes) -> tuple[dict[str, Score], list[Prediction]]:
    run_dir = RunDir(tmp_path)
    benchmark = lm_eval(task, include_path=str(folder), **changes)
    found = run(make_llama(), make_tokenizer(), benchmark, predictions=run_dir.predictions)
    return {score.metric: score for score in found.scores}, read_predictions(
        run_dir.predictions("base", f"exam.{task}")
    )


@peer
@quiet
def test_choices_that_are_asked_without_context_too_are_listed_once(folder, tmp_path):
    scores, predictions = scored(folder, tmp_path, "own_mutual")
    expected = theirs(folder, make_tokenizer(), "own_mutual")["results"]["own_mutual"]
    for name in ("acc", "acc_mutual_info", "brier_score", "mcc"):
        assert scores[name].value == pytest.approx(expected[f"{name},none"], rel=1e-5)
    assert scores["acc_mutual_info"].chance == scores["acc"].chance == pytest.approx(1 / 3)
    for prediction in predictions:
        assert len(prediction.choices) == len(prediction.loglikelihoods) == 3 > prediction.prediction


@peer
@quiet
def test_a_brier_score_is_the_mean_of_its_items_and_mcc_says_what_they_score(folder, tmp_path):
    scores, predictions = scored(folder, tmp_path, "own_mutual")
    brier = [prediction.scores["brier_score"] for prediction in predictions]
    assert len(set(brier)) > 3 and np.mean(brier) == pytest.approx(scores["brier_score"].value)
    assert scores["brier_score"].item_score == scores["acc"].item_score == ""
    assert scores["brier_score"].stderr == pytest.approx(np.std(brier, ddof=1) / 3)
    assert scores["mcc"].item_score == "1 where the label is right, else 0"
    assert [p.scores["mcc"] for p in predictions] == [float(p.prediction == p.target) for p in predictions]


@peer
@quiet
def test_bleu_and_chrf_have_a_score_for_each_item_and_the_corpus_score_for_all(folder, tmp_path):
    import sacrebleu

    scores, predictions = scored(folder, tmp_path, "own_translate")
    expected = theirs(folder, make_tokenizer(), "own_translate")["results"]["own_translate"]
    for name in ("bleu", "chrf"):
        assert scores[name].value == pytest.approx(expected[f"{name},none"], rel=1e-6)
        assert scores[name].item_score == f"{name} of the item alone"
        assert all(name in prediction.scores for prediction in predictions)
    assert len({prediction.scores["chrf"] for prediction in predictions}) > 2
    for prediction in predictions:
        alone = sacrebleu.corpus_chrf([prediction.generation], [[prediction.target]]).score
        assert prediction.scores["chrf"] == pytest.approx(alone)


@peer
@quiet
def test_a_group_shows_each_metric_as_the_group_averages_it(folder, tmp_path):
    scores, _ = scored(folder, tmp_path, "own_mixed")
    expected = theirs(folder, make_tokenizer(), "own_mixed")["results"]["own_mixed"]
    assert (scores["acc"].average, scores["acc_norm"].average) == ("macro", "micro")
    for name, score in scores.items():
        assert score.value == pytest.approx(expected[f"{name},none"])
    weights = [part["num_items"] / 14 for part in scores["acc_norm"].subsets.values()]
    parts = [part["value"] for part in scores["acc_norm"].subsets.values()]
    assert scores["acc_norm"].value == pytest.approx(np.dot(weights, parts))


@peer
@quiet
def test_a_perplexity_that_no_number_holds_is_left_out_and_the_others_are_kept(
    folder, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    scores, _ = scored(folder, tmp_path, "own_han")
    assert sorted(scores) == ["bits_per_byte", "byte_perplexity"]
    assert "benchmarks.exam.own_han: word_perplexity is infinite or NaN" in caplog.text
    with pytest.raises(
        ConfigError, match=r"benchmarks\.exam\.own_han\.metrics: the value of each metric is infinite or NaN"
    ):
        scored(folder, tmp_path, "own_han", metrics=["word_perplexity"])


def test_an_item_scores_its_number_its_label_or_the_metric_alone():
    def total(items: list) -> float:
        return 100.0 * len(items[0][1])

    assert item_score(0.5, total) == 0.5
    assert item_score((-3.5, 7), total) == -3.5
    assert (item_score((1, 1), total), item_score((1, 2), total)) == (1.0, 0.0)
    assert item_score(("a reference", "a"), total) == 100.0
    assert item_score(("a reference", ""), lambda items: 1 / len(items[0][1])) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"generation": GenerationConfig(max_new_tokens=9)}, "generation.max_new_tokens: 9"),
        ({"question": "{{ q }}"}, "question: '{{ q }}'"),
        ({"path": "rows.jsonl"}, "path: 'rows.jsonl'"),
        ({"local": LocalConfig(header=["a"])}, "local.header: ['a']"),
        ({"only": ["a"]}, "only: ['a']"),
        ({"scoring": Scoring["mean-nll"]}, "scoring: "),
        ({"protocol": "official"}, "protocol: 'official'"),
    ],
)
def test_a_key_that_a_task_does_not_read_is_refused(changes, key):
    check_ignored("lm_eval", lm_eval("hellaswag", limit=3, num_fewshot=2, include_path="x", metrics=["acc"]))
    with pytest.raises(ConfigError) as caught:
        check_ignored("lm_eval", lm_eval("hellaswag", **changes))
    assert str(caught.value).startswith(f"benchmarks.lm_eval.{key}")
    assert "is not read for tasks of lm-evaluation-harness" in str(caught.value)


@pytest.mark.parametrize("changes", [{"tasks": ["hellaswag"]}, {"include_path": "tasks"}])
def test_tasks_of_the_harness_are_refused_for_other_benchmarks(changes):
    own = BenchmarkConfig(language="en", output_type=OutputType.multiple_choice, **changes)
    with pytest.raises(ConfigError, match="is read for output_type: lm-eval only"):
        check_ignored("own", own)


@peer
@quiet
def test_a_metric_that_can_make_no_score_of_the_answers_is_one_line_and_the_answers_are_kept(
    folder, tmp_path
):
    tasks = write_tasks(tmp_path / "tasks")
    file = tasks / "own_law.yaml"
    text = file.read_text().replace(
        "metric: acc_norm, aggregation: mean", "metric: brier_score, aggregation: f1"
    )
    file.write_text(text)
    with pytest.raises(
        DataError, match="^benchmarks.exam.own_law: the task's filters and metrics can't score"
    ):
        run(
            make_llama(),
            make_tokenizer(),
            lm_eval("own_law", include_path=str(tasks), limit=4),
            fingerprint="model",
            cache=tmp_path / "answers",
        )
    assert list((tmp_path / "answers").rglob("*.jsonl"))
