"""The right answers of generated and chosen items: several, normalised, or refused with file and line."""

import json
import math
from pathlib import Path

import pytest

from workbench.config.benchmark import (
    Average,
    BenchmarkConfig,
    Extract,
    GenerationConfig,
    LocalConfig,
    OutputType,
    ProtocolConfig,
)
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.metrics import aggregate, item_predictions, text_similarity
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Answer, read_predictions, write_predictions
from workbench.evaluation.tasks.generation import extracted
from workbench.evaluation.tasks.requests import item


def prepared(path: Path, rows: list[dict], extract: str = "verbatim", **changes) -> PreparedBenchmark:
    file = path / "items.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "language": "en",
        "path": str(file),
        "output_type": OutputType.generation,
        "question": "{{ q }}",
        "target": "{{ answer }}",
        "metrics": ["exact_match"],
        "generation": GenerationConfig(extract=Extract[extract]),
    }
    return prepare_benchmarks({"own": BenchmarkConfig(**settings | changes)}, EvaluateConfig())["own"]


def judged(benchmark: PreparedBenchmark, generated: list[str]):
    """Predictions and scores of generated texts."""
    items = [item(example, 0) for example in benchmark.examples]
    answers = [
        [extracted(Answer(generation=text), example, benchmark.config)]
        for text, example in zip(generated, benchmark.examples, strict=True)
    ]
    scores = aggregate.scores(benchmark, items, answers, EvaluateConfig(), "base")
    return item_predictions.predictions(benchmark, items, answers), scores


def refusal(path: Path, answer: object, **changes) -> str:
    rows = [{"q": "first", "answer": "3"}, {"q": "second", "answer": answer, "right": []}]
    with pytest.raises(DataError) as caught:
        prepared(path, rows, **changes)
    message = str(caught.value)
    assert f"{path}/items.jsonl:2: " in message and "\n" not in message
    return message


def test_a_letter_stated_before_its_explanation_is_what_is_scored(tmp_path):
    rows = [{"q": str(number), "answer": answer} for number, answer in enumerate("BCAD")]
    generated = [
        "答案是B。选项A错误。",
        "答案是C。选项C正确。",
        "答案是C。选项C正确。",
        "答案是D。选项B错误。",
    ]
    predictions, [score] = judged(prepared(tmp_path, rows, "letter"), generated)
    assert [one.prediction for one in predictions] == ["B", "C", "C", "D"]
    assert score.value == 0.75


def test_the_best_of_several_references_counts(tmp_path):
    rows = [{"q": "capital?", "answer": ["北京市", "北京"]}, {"q": "2", "answer": ["Paris"]}]
    benchmark = prepared(tmp_path, rows, metrics=["exact_match", "char_f1", "rouge1", "rougeL"])
    predictions, scores = judged(benchmark, ["北京", "London"])
    assert predictions[0].scores == {"exact_match": 1.0, "char_f1": 1.0, "rouge1": 1.0, "rougeL": 1.0}
    assert predictions[0].target == ["北京市", "北京"] and predictions[1].target == "Paris"
    assert scores[0].value == 0.5
    write_predictions(tmp_path / "p.jsonl", predictions)
    assert read_predictions(tmp_path / "p.jsonl") == predictions


def test_references_may_be_deep_in_a_row_and_numbers(tmp_path):
    rows = [{"q": "1", "answer": {"text": [7, "seven"]}}]
    predictions, [score] = judged(prepared(tmp_path, rows, target="{{ answer.text }}"), ["Seven"])
    assert predictions[0].target == ["7", "seven"] and score.value == 1.0


def test_bleu_and_chrf_take_several_references_as_sacrebleu_does():
    sacrebleu = pytest.importorskip("sacrebleu")
    predictions = ["the cat sat on a mat today", "a dog lay under a big table"]
    references = [["the cat sat on the mat today", "a cat sat on a mat"], ["a dog lay under the table"]]
    streams = [[texts[0] for texts in references], ["a cat sat on a mat", None]]
    assert text_similarity.bleu(predictions, references) == pytest.approx(
        sacrebleu.corpus_bleu(predictions, streams).score / 100
    )
    assert text_similarity.chrf(predictions, references) == pytest.approx(
        sacrebleu.corpus_chrf(predictions, streams).score / 100
    )
    assert text_similarity.bleu(predictions, references) > text_similarity.bleu(
        predictions, [one[0] for one in references]
    )


@pytest.mark.parametrize(
    ("target", "generated"),
    [
        ("3/4", "The answer is 0.75"),
        ("十二", "答案是12"),
        ("１，２００", "#### 1200"),
        ("1,200", r"\boxed{1200}"),
        ("−5", "The answer is -5"),
        ("20%", "答案是百分之二十"),
        (0.5, "the answer is 1/2"),
        (18.0, "18"),
    ],
)
def test_a_number_equals_its_target_however_both_are_written(tmp_path, target, generated):
    _, [score] = judged(prepared(tmp_path, [{"q": "1", "answer": target}], "number"), [generated])
    assert score.value == 1.0


@pytest.mark.parametrize("target", ["B", "（Ｂ）", "b", "B. Paris"])
def test_a_letter_equals_its_target_however_both_are_written(tmp_path, target):
    _, [score] = judged(prepared(tmp_path, [{"q": "1", "answer": target}], "letter"), ["选B，不选A"])
    assert score.value == 1.0


def test_items_with_several_right_letters_want_all_of_them(tmp_path):
    rows = [{"q": "1", "answer": "BD"}, {"q": "2", "answer": "B、D"}, {"q": "3", "answer": "B"}]
    benchmark = prepared(tmp_path, rows, "letter")
    predictions, _ = judged(benchmark, ["答案是B、D", "答案是B", "答案是B和D"])
    assert [one.scores["exact_match"] for one in predictions] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("answer", [None, "", " ", [], [None], ["x", None], {"text": "x"}, [["x"]]])
def test_a_row_without_an_answer_is_refused_with_file_and_line(tmp_path, answer):
    refusal(tmp_path, answer)


def test_a_row_without_an_answer_is_left_out_by_keep(tmp_path):
    rows = [{"q": "1", "answer": []}, {"q": "2", "answer": ["x"]}]
    assert [example.target for example in prepared(tmp_path, rows, keep="answer").examples] == ["x"]


@pytest.mark.parametrize(
    ("answer", "extract", "words"),
    [
        ("Paris", "number", "'Paris' is not one number, which generation.extract: number extracts"),
        ("2 or 3", "number", "is not one number"),
        ("Paris", "letter", "'Paris' is not a choice's letter, which generation.extract: letter extracts"),
    ],
)
def test_an_answer_that_extraction_can_never_give_is_refused(tmp_path, answer, extract, words):
    rows = [{"q": "1", "answer": "3" if extract == "number" else "A"}, {"q": "2", "answer": answer}]
    with pytest.raises(DataError, match=f"items.jsonl:2: .*{words}"):
        prepared(tmp_path, rows, extract)


def test_a_list_in_the_midst_of_a_target_is_refused(tmp_path):
    rows = [{"q": "1", "answer": ["x", "y"]}]
    with pytest.raises(DataError, match=r"items.jsonl:1: .* list would be written as Python code, \['x'"):
        prepared(tmp_path, rows, target="It is {{ answer }}.")


def test_an_empty_list_of_right_choices_is_refused(tmp_path):
    settings = {"target": "", "target_index": "right", "choices": ["A", "B"], "metrics": ["acc"]}
    rows = [{"q": "1", "right": [1]}, {"q": "2", "right": []}]
    with pytest.raises(DataError, match=r"items.jsonl:2: no right answer: 'right' gives \[\] .*keep"):
        prepared(tmp_path, rows, output_type=OutputType.multiple_choice, **settings)


def test_the_number_of_a_choice_is_its_text_where_an_answer_is_generated(tmp_path):
    settings = {"target": "", "target_index": "right", "choices": ["A", "B", "C"]}
    rows = [{"q": "1", "right": 1}, {"q": "2", "right": [0, 2]}]
    predictions, [score] = judged(prepared(tmp_path, rows, "letter", **settings), ["答案是B", "C"])
    assert [one.target for one in predictions] == ["B", ["A", "C"]] and score.value == 1.0


def test_the_number_of_a_choice_without_choices_is_refused_where_an_answer_is_generated(tmp_path):
    with pytest.raises(ConfigError, match="own.target_index: .*choices"):
        prepared(tmp_path, [{"q": "1", "right": 1}], target="", target_index="right")


def test_a_list_of_choices_texts_makes_each_of_them_right(tmp_path):
    settings = {"choices": ["A", "B", "C"], "metrics": ["acc"], "output_type": OutputType.multiple_choice}
    benchmark = prepared(tmp_path, [{"q": "1", "answer": ["A", "C"]}, {"q": "2", "answer": "B"}], **settings)
    assert [example.target for example in benchmark.examples] == [(0, 2), 1]


def test_gsm8k_s_own_metrics_compare_the_target_as_it_is_written(tmp_path):
    benchmark = prepared(
        tmp_path,
        [{"q": "1", "answer": "1,234"}, {"q": "2", "answer": "18.00"}],
        "number",
        metrics=["strict_match", "flexible_match", "exact_match"],
    )
    predictions, _ = judged(benchmark, ["#### 1,234", "#### 18"])
    assert list(predictions[0].scores.values()) == [1.0, 1.0, 1.0]
    assert list(predictions[1].scores.values()) == [0.0, 0.0, 1.0]


def test_scores_by_other_rules_of_extraction_are_told_apart(tmp_path, monkeypatch):
    rows = [{"q": "1", "answer": "18"}]
    benchmark = prepared(tmp_path, rows, "number", metrics=["exact_match", "flexible_match"])
    _, before = judged(benchmark, ["18"])
    monkeypatch.setattr(aggregate, "EXTRACTION_VERSION", "another")
    _, after = judged(benchmark, ["18"])
    assert before[0].rule != after[0].rule and before[1].rule == after[1].rule


def choices(path: Path, rows: list[dict], **changes) -> PreparedBenchmark:
    settings = {"output_type": OutputType.multiple_choice, "choices": ["A", "B"], "metrics": ["acc"]}
    return prepared(path, rows, **settings | changes)


def chosen_first(benchmark: PreparedBenchmark) -> dict:
    """The scores of a model that always chooses the first choice."""
    items = [item(example, 0) for example in benchmark.examples]
    answers = [[Answer(loglikelihoods=(0.0, -1.0))] for _ in items]
    found = aggregate.scores(benchmark, items, answers, EvaluateConfig(), "base")
    return {score.metric: score for score in found}


@pytest.mark.parametrize("changes", [{}, {"target": "", "target_index": "number"}])
def test_a_right_choice_that_a_row_names_twice_counts_once(tmp_path, changes):
    rows = [{"q": "x", "answer": ["A", "A"], "number": [0, 0]}]
    found = chosen_first(choices(tmp_path, rows, metrics=["acc", "true_mass", "macro_f1"], **changes))
    assert (found["acc"].value, found["acc"].chance, found["macro_f1"].value) == (1.0, 0.5, 1.0)
    assert found["true_mass"].value == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_majority_of_items_with_several_right_choices_counts_each_of_them(tmp_path):
    rows = [
        {"q": str(number), "answer": answer}
        for number, answer in enumerate([["A", "B"], ["B", "A"], "A", "B"])
    ]
    assert chosen_first(choices(tmp_path, rows))["acc"].majority == 0.75


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "mcc", "greedy_match", "target_perplexity"])
def test_several_right_choices_are_refused_for_metrics_that_compare_with_one(tmp_path, metric):
    rows = [{"q": "first", "answer": ["B"]}, {"q": "second", "answer": ["A", "B"]}]
    with pytest.raises(DataError, match=f"items.jsonl:2: .* makes 2 choices right, but metrics: '{metric}'"):
        choices(tmp_path, rows, metrics=["acc", metric])


def test_f1_of_more_than_two_choices_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="metrics: 'f1' is the F1 of the second of two choices, but the benchmark has 3"
    ):
        choices(tmp_path, [{"q": "x", "answer": "A"}], choices=["A", "B", "C"], metrics=["f1"])


@pytest.mark.parametrize(
    ("extract", "answer"), [("number", "１，０００ 元"), ("letter", "B. 因为"), ("verbatim", ["one", "two"])]
)
def test_an_example_shows_the_answer_as_its_row_writes_it(tmp_path, extract, answer):
    rows = [{"q": "first", "answer": answer}, {"q": "second", "answer": answer}]
    asked = prepared(tmp_path, rows, extract, fewshot_split="test", num_fewshot=1)
    written = answer if isinstance(answer, str) else answer[0]
    assert [example.shots[0].answer for example in asked.examples] == [f" {written}"] * 2


def test_an_example_shows_the_answer_that_a_pattern_finds_within_its_text(tmp_path):
    how = GenerationConfig(extract=Extract.pattern, pattern=r"#### (\d+)")
    rows = [{"q": "first", "answer": "1 + 1 #### 2"}, {"q": "second", "answer": "2 + 1 #### 3"}]
    asked = prepared(tmp_path, rows, fewshot_split="test", num_fewshot=1, generation=how)
    assert [example.shots[0].answer for example in asked.examples] == [" 2 + 1 #### 3", " 1 + 1 #### 2"]
    assert [example.target for example in asked.examples] == ["2", "3"]


def test_a_list_that_a_continuation_would_write_as_code_is_refused(tmp_path):
    rows = [{"q": "first", "answer": ["x", "y"]}, {"q": "second", "answer": ["z"]}]
    with pytest.raises(DataError, match=r"items.jsonl:\d: .* list would be written as Python code"):
        prepared(tmp_path, rows, fewshot_split="test", num_fewshot=1, continuation="{{ answer }}")


def test_a_question_that_a_row_leaves_empty_is_refused(tmp_path):
    rows = [{"q": "first", "answer": "A"}, {"q": " ", "answer": "B"}]
    with pytest.raises(DataError, match="items.jsonl:2: the question is empty"):
        choices(tmp_path, rows)


def test_guessing_and_the_majority_are_averaged_over_subsets_as_the_score_is(tmp_path):
    for name, answers in {"two": "AAAA", "one": "AB", "none": "B"}.items():
        rows = [{"q": str(number), "answer": answer} for number, answer in enumerate(answers)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for average, expected in {"macro": (1 + 0.5 + 0) / 3, "micro": 5 / 7}.items():
        config = BenchmarkConfig(
            language="en",
            path=str(tmp_path),
            local=LocalConfig(files={"test": "{subset}.jsonl"}),
            subsets={"two": "", "one": "", "none": ""},
            output_type=OutputType.multiple_choice,
            question="{{ q }}",
            choices=["A", "B"],
            target="{{ answer }}",
            average=Average[average],
        )
        found = chosen_first(prepare_benchmarks({"own": config}, EvaluateConfig())["own"])["acc"]
        assert found.value == found.majority == pytest.approx(expected)
        assert found.chance == 0.5


IN_THOUGHT = "<think>no</think>\n\nyes\n"
"""A text whose thought has another answer."""


@pytest.mark.parametrize(
    ("rule", "pattern", "answer"),
    [("verbatim", "", "yes"), ("pattern", r"(?s)\A(.*)", "\n\nyes\n"), ("code", "", "\n\nyes\n")],
)
def test_no_rule_reads_thoughts_and_an_open_thought_has_no_answer(tmp_path, rule, pattern, answer):
    rows = [{"q": f"{number}", "answer": "yes"} for number in range(3)]
    config = GenerationConfig(extract=Extract[rule], pattern=pattern)
    benchmark = prepared(tmp_path, rows, generation=config)
    predictions, [score] = judged(benchmark, [IN_THOUGHT, "<think>yes", "yes</think>"])
    assert [each.prediction for each in predictions] == [answer, None, None]
    assert score.value == pytest.approx(1 / 3)


def test_only_the_harness_protocol_reads_thoughts_and_its_scores_are_not_compared(tmp_path):
    rules = []
    for protocol, value in (("default", 1.0), ("lm-eval", 0.0)):
        harness = {"protocol": protocol, "protocols": {"lm-eval": ProtocolConfig()}}
        benchmark = prepared(tmp_path, [{"q": "?", "answer": "yes"}], **harness)
        _, [score] = judged(benchmark, [IN_THOUGHT])
        assert score.value == value
        rules.append(score.rule)
    assert rules[0] != rules[1]


def test_a_list_that_a_cell_holds_as_text_is_told_and_can_be_parsed(tmp_path):
    texts = ['["北京", "北京市"]', "['Paris', \"L'Île\"]"]
    rows = [{"q": str(number), "answer": text} for number, text in enumerate(texts)]
    whole = prepared(tmp_path, rows)
    assert whole.examples[0].reference_texts == (texts[0],)
    [warning] = whole.warnings
    assert warning.startswith("2 right answers are lists written as one text") and "parse_list" in warning
    parsed = prepared(tmp_path, rows, target="{{ answer | parse_list }}")
    assert [example.reference_texts for example in parsed.examples] == [
        ("北京", "北京市"),
        ("Paris", "L'Île"),
    ]
    assert parsed.warnings == []
    refused = refusal(tmp_path, "[__import__('os')]", target="{{ answer | parse_list }}")
    assert "is not a list" in refused
