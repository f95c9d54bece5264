import math

import pytest

from workbench.errors import DataError
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer, Prediction, read_predictions, write_predictions

STRANGE = "one\u2028two\x85three\x1cfour\nfive\r\nsix"


def test_a_text_with_line_ends_of_every_kind_is_one_line_of_predictions(tmp_path):
    one = Prediction(
        id="0",
        prompt_hash="ab",
        context=STRANGE,
        prediction=None,
        scores={},
        target=STRANGE,
        generation=STRANGE,
    )
    write_predictions(tmp_path / "p.jsonl", [one, one])
    assert read_predictions(tmp_path / "p.jsonl") == [one, one]


def test_an_answer_with_line_ends_of_every_kind_is_kept(tmp_path):
    answer = Answer(generation=STRANGE, extracted=STRANGE)
    with AnswerCache(tmp_path, "model", "rule").writing() as writer:
        writer.add("ab", answer)
    assert AnswerCache(tmp_path, "model", "rule")["ab"] == answer


@pytest.mark.parametrize("score", [math.inf, -math.inf, math.nan, 1e101])
def test_a_score_that_could_not_be_read_again_is_refused_when_it_is_written(tmp_path, score):
    one = Prediction(id="7", prompt_hash="ab", context="", prediction=None, scores={"own": score}, target="x")
    with pytest.raises(DataError, match=r"item 7: scores \{'own': .*\} can't be written \(scores are finite"):
        write_predictions(tmp_path / "p.jsonl", [one])
    assert not (tmp_path / "p.jsonl").exists()


def test_a_log_likelihood_of_minus_infinity_is_kept(tmp_path):
    one = Prediction(
        id="7", prompt_hash="ab", context="", prediction=0, scores={}, target=1, loglikelihoods=[-math.inf]
    )
    write_predictions(tmp_path / "p.jsonl", [one])
    assert read_predictions(tmp_path / "p.jsonl") == [one]
