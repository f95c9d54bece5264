import logging
import math
import random
from dataclasses import replace

import pytest
from test_engine import exam, run  # noqa: F401

from workbench.config.benchmark import Scoring
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.option_orders import combined, rotated
from workbench.evaluation.engine import evaluate
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Answer, read_predictions


def test_a_rotation_moves_option_k_to_letter_k_plus_shift():
    row = Row({"A": "a", "B": "b", "C": "c", "answer": "A"}, "x")
    assert rotated(row, ["A", "B", "C"], 1, "ABC").values == {"A": "c", "B": "a", "C": "b", "answer": "A"}
    assert rotated(Row({"texts": ["a", "b", "c"]}, "x"), ["texts"], 2, "ABC").values == {
        "texts": ["b", "c", "a"]
    }


def test_a_liking_for_a_letter_cancels_out():
    rng = random.Random(0)
    options, liking = [rng.uniform(-3, 0) for _ in range(4)], [5.0, 0.0, -2.0, 1.0]
    answers = [
        Answer(loglikelihoods=tuple(options[(place - shift) % 4] + liking[place] for place in range(4)))
        for shift in range(4)
    ]
    means = combined(answers).loglikelihoods
    assert [m - means[0] for m in means] == pytest.approx([o - options[0] for o in options])


def test_one_order_leaves_the_answer_as_it_is():
    answer = Answer(loglikelihoods=(-1.0, -2.0))
    assert combined([answer]) is answer


def test_permutations_ask_every_order_and_show_the_letters(llama, tokenizer, exam):  # noqa: F811
    exam.options = ["A", "B", "C", "D"]
    plain = run(llama, tokenizer, exam)
    turned = run(llama, tokenizer, exam, {"permutations": 4})
    assert (plain.measured["exam"]["num_asked"], turned.measured["exam"]["num_asked"]) == (16, 64)
    assert sum(plain.scores[0].letters.values()) == 16 and sum(turned.scores[0].letters.values()) == 64
    assert (plain.scores[0].permutations, turned.scores[0].permutations) == (1, 4)
    assert turned.scores[0].prompts == plain.scores[0].prompts
    examples = prepare_benchmarks({"exam": exam}, EvaluateConfig(permutations=4))["exam"].examples
    first, second = examples[0], examples[0].rotations[0]
    assert first.shots == second.shots and first.questions != second.questions


def test_with_permutations_every_prediction_has_log_probabilities_among_its_options(
    llama,
    tokenizer,
    exam,  # noqa: F811
    tmp_path,
):
    """An option that names another one is asked in one order only; its item's values are of the same kind."""
    exam.options = ["A", "B", "C", "D"]
    prepared = prepare_benchmarks({"exam": exam}, EvaluateConfig(permutations=4))["exam"]
    alone = replace(prepared.examples[0], rotations=())
    mixed = replace(prepared, examples=[alone, *prepared.examples[1:]])
    config = EvaluateConfig(permutations=4)
    file = tmp_path / "exam.jsonl"
    found = evaluate(
        llama, tokenizer, {"exam": mixed}, config, model_name="base", predictions=lambda *_: file
    )
    written = read_predictions(file)
    assert all(max(prediction.loglikelihoods) < 0 for prediction in written)
    assert math.fsum(map(math.exp, written[0].loglikelihoods)) == pytest.approx(1)
    alone_scores = evaluate(
        llama,
        tokenizer,
        {"exam": replace(prepared, examples=[alone])},
        config,
        model_name="base",
        predictions=lambda *_: file,
    )
    assert alone_scores.scores[0].value == written[0].scores["acc"]
    assert math.fsum(map(math.exp, read_predictions(file)[0].loglikelihoods)) < 0.5
    assert found.scores[0].num_items == 16


def test_a_scored_letter_that_the_prompt_does_not_lead_to_is_warned_of(llama, tokenizer, exam, caplog):  # noqa: F811
    caplog.set_level(logging.WARNING)
    run(llama, tokenizer, exam)
    assert not caplog.records
    run(llama, tokenizer, replace(exam, scoring=Scoring["next-token"]))
    assert "scores the answer ' A' by token 'A', but after the prompt it starts with 'ĠA'" in caplog.text


def test_log_shares_are_of_the_options_alone():
    answers = [Answer(loglikelihoods=(-10.0, -11.0)), Answer(loglikelihoods=(-1.0, -1.0))]
    first, second = combined(answers).loglikelihoods
    expected = (-math.log(1 + math.exp(-1)) + math.log(0.5)) / 2
    assert first == pytest.approx(expected)
    assert second == pytest.approx((-1 - math.log(1 + math.exp(-1)) + math.log(0.5)) / 2)


def test_a_liking_for_a_letter_cancels_out_of_the_unconditional_likelihoods_too():
    answers = [Answer(loglikelihoods=(-1.0, -1.0), unconditional=(-3.0, -5.0)) for _ in range(2)]
    assert combined(answers).unconditional == (-4.0, -4.0)
    assert combined(answers[:1]).unconditional == (-3.0, -5.0)
