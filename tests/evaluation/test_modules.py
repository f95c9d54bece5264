"""Metrics as modules of `evaluate`: alone, offline, by their file, combined, and in a Trainer."""

from importlib import import_module
from pathlib import Path

import evaluate
import numpy as np
import pytest
from test_metrics import score
from tiny_llama import llama_config
from transformers import EvalPrediction, LlamaForSequenceClassification, Trainer, TrainingArguments

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError
from workbench.evaluation.metrics import hf_modules, text_similarity
from workbench.evaluation.metrics.hf_modules.char_f1 import CharF1
from workbench.evaluation.metrics.hf_modules.exact_match import ExactMatch
from workbench.evaluation.metrics.hf_modules.label_metrics import Labels
from workbench.evaluation.metrics.hf_modules.rouge import Rouge
from workbench.evaluation.metrics.hf_modules.translation import Translation
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.records import Answer, Example
from workbench.trust import trusting

PREDICTIONS = ["the cat sat on a mat", "北京", "同意 OK", ""]
REFERENCES = ["The cat sat on the mat.", "北京大学", "不同意 ok", "空"]
MODULES = ("char_f1", "exact_match", "rouge", "label_metrics", "translation")
LABELS = {"predictions": [0, 2, 2, 1, 0, 0], "references": [0, 1, 2, 1, 1, 0]}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def file_of(name: str) -> str:
    return str(import_module(f"workbench.evaluation.metrics.hf_modules.{name}").__file__)


def test_the_modules_are_these():
    names = {path.stem for path in Path(hf_modules.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert names == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_loaded_by_its_file_and_gives_numbers_from_0_to_1(name):
    if name == "translation":
        pytest.importorskip("sacrebleu")
    module = evaluate.load(file_of(name), keep_in_memory=True)
    assert isinstance(module, evaluate.Metric) and module.inputs_description
    rows = LABELS if name == "label_metrics" else {"predictions": PREDICTIONS, "references": REFERENCES}
    found = module.compute(**rows)
    assert found and all(0 <= value <= 1 for value in found.values())


def test_a_module_is_fed_batch_by_batch_and_combined():
    module = CharF1(keep_in_memory=True)
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        module.add_batch(predictions=[prediction], references=[reference])
    expected = np.mean([text_similarity.char_f1(*pair) for pair in zip(PREDICTIONS, REFERENCES, strict=True)])
    assert module.compute()["char_f1"] == pytest.approx(expected)
    both = evaluate.combine([ExactMatch(keep_in_memory=True), CharF1(keep_in_memory=True)])
    found = both.compute(predictions=["a", "北京"], references=["A", "北京大学"])
    assert found == {"exact_match": 0.5, "char_f1": pytest.approx((1 + 2 / 3) / 2)}


def test_labels_are_scored_in_a_trainer(tmp_path):
    metric = Labels(keep_in_memory=True)

    def compute_metrics(found: EvalPrediction) -> dict[str, float]:
        return metric.compute(predictions=found.predictions.argmax(-1), references=found.label_ids)

    model = LlamaForSequenceClassification(llama_config(num_labels=3)).eval()
    rows = [{"input_ids": [5, 6, number], "labels": number % 3} for number in range(7, 13)]
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model, arguments, eval_dataset=rows, compute_metrics=compute_metrics)
    found = trainer.evaluate()
    predicted = trainer.predict(rows).predictions.argmax(-1)
    assert found["eval_acc"] == pytest.approx(np.mean(predicted == [row["labels"] for row in rows]))
    assert {"eval_macro_f1", "eval_mcc", "eval_f1"} <= found.keys()


def test_rouge_of_english_equals_rouge_score():
    # rouge_score 0.1.2: RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, prediction), fmeasure
    found = Rouge(keep_in_memory=True).compute(
        predictions=["The quick brown fox jumps, over the dog"],
        references=["the lazy dog; the quick brown fox over 2 dogs"],
    )
    assert found == pytest.approx(
        {"rouge1": 0.7777777777777777, "rouge2": 0.375, "rougeL": 0.5555555555555556}
    )


def test_every_chinese_character_is_a_word_of_rouge():
    assert text_similarity.tokens("北京 is 大！Ｂｉｇ") == ["北", "京", "is", "大", "big"]
    assert text_similarity.rouge_n("今天天气好", "今天天气不好", 1) == pytest.approx(2 * 5 / 11)
    assert text_similarity.rouge_n("今天天气好", "今天天气不好", 2) == pytest.approx(2 * 3 / 9)
    assert text_similarity.rouge_l("好天气今天", "今天天气不好") == pytest.approx(2 * 2 / 11)


def test_bleu_is_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu")
    references = ["the cat sat on the mat today", "a dog lay under the table"]
    predictions = ["the cat sat on a mat today", "a dog lay under a big table"]
    assert text_similarity.bleu(predictions, references) == pytest.approx(
        sacrebleu.corpus_bleu(predictions, [references]).score / 100
    )
    assert text_similarity.bleu(["今天天气很好啊"], ["今天天气很不好"]) == pytest.approx(
        sacrebleu.sentence_bleu("今天天气很好啊", ["今天天气很不好"], tokenize="zh").score / 100
    )


def test_a_metric_with_a_slash_is_loaded_by_evaluate():
    metric = metric_named(file_of("char_f1"))
    item = Example(id="0", questions=("q",), target="北京大学")
    answer = Answer(extracted="北京")
    judged = [Judged(metric.judge(answer, item), answer, item)] * 2
    assert metric.corpus(judged) == metric.score("北京", answer, item) == score("char_f1", answer, item)
    chosen = metric_named(file_of("label_metrics"))
    assert {OutputType.multiple_choice, OutputType.generation} <= set(chosen.output_types)
    one = Example(id="0", questions=("q",), choices=("A", "B"), continuations=("A", "B"), target=1)
    right, wrong = Answer(loglikelihoods=(-2.0, -1.0)), Answer(loglikelihoods=(-1.0, -2.0))
    both = [Judged(chosen.judge(answer, one), answer, one) for answer in (right, wrong)]
    assert chosen.corpus(both) == 0.5 and chosen.score(1, right, one) == 1.0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acuracy", "benchmarks.x.metrics: unknown metric 'acuracy' .known: acc, .*; a name with a slash"),
        ("./nowhere.py", "benchmarks.x.metrics: './nowhere.py' can't be loaded by evaluate.load: "),
    ],
)
def test_a_metric_that_is_not_there_is_one_line(name, words):
    with trusting(True), pytest.raises(ConfigError, match=words) as caught:
        metric_named(name, "benchmarks.x.metrics")
    assert "\n" not in str(caught.value)


def test_a_metric_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'bleu' needs sacrebleu.*open-llama-workbench\[metrics\]"):
        metric_named("bleu")


def test_the_best_of_several_references_counts_in_every_module_of_texts():
    rows = {"predictions": ["北京", "the cat"], "references": [["上海", "北京"], ["a dog", "the cat"]]}
    for module in (ExactMatch, CharF1, Rouge):
        found = module(keep_in_memory=True).compute(**rows)
        assert set(found.values()) == {1.0}


def test_bleu_and_chrf_modules_take_several_references():
    pytest.importorskip("sacrebleu")
    references = [["a cat sat on a mat today", "the cat sat on the mat"]]
    module = Translation(keep_in_memory=True)
    found = module.compute(predictions=["the cat sat on the mat"], references=references)
    assert found["bleu"] == pytest.approx(1.0) and found["chrf"] == pytest.approx(1.0)


SINGLE = """
import datasets
import evaluate

class Length(evaluate.Metric):
    def _info(self):
        value = datasets.Value("string")
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo("d", "c", features, inputs_description="i")

    def _compute(self, predictions, references):
        ratios = [len(p) / len(r) for p, r in zip(predictions, references)]
        return {"length": sum(ratios) / len(ratios)}
"""


@pytest.mark.parametrize("takes_lists", [True, False])
def test_a_loaded_metric_scores_the_best_reference_whether_or_not_it_takes_several(takes_lists, tmp_path):
    (tmp_path / "length.py").write_text(SINGLE, encoding="utf-8")
    with trusting(True):
        metric = metric_named(file_of("char_f1") if takes_lists else str(tmp_path / "length.py"))
    items = [
        Example(id="0", questions=("q",), target=("大上海", "北京"), references=("大上海", "北京")),
        Example(id="1", questions=("q",), target="ab"),
    ]
    answers = [Answer(extracted="北京"), Answer(extracted="ab")]
    judged = [
        Judged(metric.judge(answer, item), answer, item) for answer, item in zip(answers, items, strict=True)
    ]
    assert metric.corpus(judged) == metric.score("北京", answers[0], items[0]) == 1.0


def test_a_metric_without_a_value_for_all_answers_is_refused_instead_of_being_zero(tmp_path):
    text = SINGLE.replace("sum(ratios) / len(ratios)", 'float("nan")')
    (tmp_path / "length.py").write_text(text, encoding="utf-8")
    with trusting(True):
        metric = metric_named(str(tmp_path / "length.py"), "benchmarks.x.metrics")
    item, answer = Example(id="0", questions=("q",), target="ab"), Answer(extracted="ab")
    with pytest.raises(ConfigError, match=r"benchmarks.x.metrics: '.*length.py' gives nan for these answers"):
        metric.corpus([Judged(metric.judge(answer, item), answer, item)])
    assert metric.score("ab", answer, item) == 0.0
