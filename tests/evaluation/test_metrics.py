import math

import pytest
from sklearn import metrics as sk

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.metrics.aggregate import resampled
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.records import Answer, Example


def example(target=0, choices=("A", "B"), **more) -> Example:
    return Example(id="0", questions=("q",), choices=choices, continuations=choices, target=target, **more)


def score(metric: str, answer: Answer, item: Example) -> float:
    return METRICS[metric].score(METRICS[metric].judge(answer, item), answer, item)


def test_acc_norm_prefers_the_likelier_character_not_the_shorter_answer():
    item = example(target=1, choices=("no", "certainly not"))
    answer = Answer(loglikelihoods=(-4.0, -6.0))
    assert (score("acc", answer, item), score("acc_norm", answer, item)) == (0.0, 1.0)


def test_acc_bytes_counts_a_chinese_character_as_three():
    item = example(target=0, choices=("不是", "not so"))
    answer = Answer(loglikelihoods=(-5.0, -6.0))
    assert METRICS["acc_norm"].judge(answer, item) == 1
    assert METRICS["acc_bytes"].judge(answer, item) == 0


def test_equal_choices_go_to_the_first():
    assert METRICS["acc"].judge(Answer(loglikelihoods=(-1.0, -1.0)), example()) == 0


def test_pmi_takes_what_the_question_makes_likelier():
    answer = Answer(loglikelihoods=(-2.0, -3.0), unconditional=(-1.0, -9.0))
    assert METRICS["acc_pmi"].judge(answer, example()) == 1


def test_per_token_likelihood_divides_by_tokens():
    answer = Answer(loglikelihoods=(-2.0, -3.0), num_tokens=(1, 3))
    assert METRICS["acc_token"].judge(answer, example()) == 1


def test_true_mass_is_the_share_of_probability_on_right_choices():
    item = example(target=(0, 2), choices=("a", "b", "c"))
    answer = Answer(loglikelihoods=(math.log(0.1), math.log(0.2), math.log(0.3)))
    assert score("true_mass", answer, item) == pytest.approx(0.4 / 0.6)
    assert score("acc", answer, item) == 1.0


def test_char_f1_of_chinese_text_counts_shared_characters():
    item = Example(id="0", questions=("q",), target="北京大学")
    assert score("char_f1", Answer(extracted="北京"), item) == pytest.approx(2 * 2 / 6)
    assert score("exact_match", Answer(extracted=" 北京大学 "), item) == 1.0
    assert score("exact_match", Answer(extracted=None), item) == 0.0


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("cafe\u0301", "café"),
        ("caf\u200bé", "CAFÉ"),
        ("\ufeffÅngström", "A\u030angstro\u0308m"),
        ("北\u200b京", "北京"),
    ],
)
def test_texts_that_look_the_same_are_the_same(written, target):
    assert text_similarity.same(written, target) == text_similarity.same(target, written) == 1.0
    assert text_similarity.char_f1(written, target) == text_similarity.rouge_l(written, target) == 1.0


def test_accents_still_tell_texts_apart():
    assert text_similarity.same("cafe", "café") == 0.0


def test_class_metrics_equal_scikit_learn():
    targets = [0, 1, 2, 1, 1, 0, 2, 2, 1, 0]
    answers = [0, 2, 2, 1, 0, 0, 2, 1, 1, 0]
    judged = [Judged(a, Answer(), example(target=t)) for t, a in zip(targets, answers, strict=True)]
    assert METRICS["macro_f1"].corpus(judged) == pytest.approx(sk.f1_score(targets, answers, average="macro"))
    assert METRICS["mcc"].corpus(judged) == pytest.approx(sk.matthews_corrcoef(targets, answers))
    two = [Judged(a % 2, Answer(), example(target=t % 2)) for t, a in zip(targets, answers, strict=True)]
    expected = sk.f1_score([t % 2 for t in targets], [a % 2 for a in answers])
    assert METRICS["f1"].corpus(two) == pytest.approx(expected)


def test_where_all_samples_score_the_same_the_error_is_not_known_instead_of_none():
    assert resampled(lambda _, sample: 1.0, {"": [1, 2, 3]}, EvaluateConfig()) == (None, None)


def test_one_class_alone_has_no_correlation_and_no_warning():
    judged = [Judged(1, Answer(), example(target=1))] * 3
    assert METRICS["mcc"].corpus(judged) == 0.0
    assert METRICS["f1"].corpus(judged) == METRICS["macro_f1"].corpus(judged) == 1.0
    assert METRICS["f1"].corpus([Judged(0, Answer(), example(target=0))]) == 0.0


def test_bits_per_byte_of_a_uniform_model_over_256_bytes_is_8():
    text = "汉字 ab"
    item = Example(id="0", questions=(text,), target="")
    count = len(text.encode())
    judged = [Judged(None, Answer(loglikelihoods=(-count * math.log(256),), num_tokens=(count,)), item)]
    assert METRICS["bits_per_byte"].corpus(judged) == pytest.approx(8)
    assert METRICS["token_perplexity"].corpus(judged) == pytest.approx(256)
    assert METRICS["byte_perplexity"].corpus(judged) == pytest.approx(256)
    assert METRICS["word_perplexity"].corpus(judged) == pytest.approx(256 ** (count / 2))
