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
