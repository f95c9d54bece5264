"""Held-out sets of many shapes are read by a few keys: the prompts, choices and targets that they make."""

import json
from pathlib import Path

import datasets
import pytest

from workbench.config.benchmark import BenchmarkConfig, HubConfig, LocalConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.prepare_benchmarks import prepare
from workbench.evaluation.tasks.requests import item

CHOICES, WRITES = OutputType.multiple_choice, OutputType.generation
MESSAGES = [{"role": "user", "content": "I am 7."}, {"role": "assistant", "content": "Noted."}]
SHAPES = {
    "nested references": (
        json.dumps({"v": 1, "data": [{"q": "Where?", "r": {"answers": [{"value": "a"}, {"value": "b"}]}}]}),
        {
            "local": LocalConfig(unfold="data"),
            "output_type": WRITES,
            "question": "{{ q }}",
            "target": "{{ r.answers | map(attribute='value') | list }}",
        },
        ("Where?", (), ("a", "b")),
    ),
    "TSV with quotation marks": (
        'sentence\tlabel\n"Good" isn"t\tpositive\n"open\tnegative\n',
        {
            "local": LocalConfig(quoting=False),
            "output_type": CHOICES,
            "question": "{{ sentence }}:",
            "choices": ["negative", "positive"],
            "target": "{{ label }}",
        },
        ('"Good" isn"t:', ("negative", "positive"), 1),
    ),
    "captions and options in a list": (
        json.dumps({"image": {"bytes": None}, "caption": None, "q": "Which?", "o": ["x", "y"], "a": "B"}),
        {
            "output_type": CHOICES,
            "question": "{{ q }}{% for text in o %} {{ letters[loop.index0] }}. {{ text }}{% endfor %}",
            "choices_from": "letters[:o | length]",
            "target": "{{ a }}",
        },
        ("Which? A. x B. y", ("A", "B"), 1),
    ),
    "Chinese column names": (
        "问题,答案\n一的两倍？,2\n",
        {"output_type": WRITES, "question": "问：{{ 问题 }}", "target": "{{ 答案 }}"},
        ("问：一的两倍？", (), ("2",)),
    ),
    "turns of a chat": (
        json.dumps({"turns": MESSAGES, "reference": "7"}),
        {
            "output_type": WRITES,
            "question": "{% for turn in turns %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}user: Age?",
            "target": "{{ reference }}",
        },
        ("user: I am 7.\nassistant: Noted.\nuser: Age?", (), ("7",)),
    ),
    "number of the choice from 1": (
        json.dumps({"q": "Pick", "texts": ["x", "y", "z"], "answer": 3}),
        {
            "output_type": CHOICES,
            "question": "{{ q }}",
            "choices_from": "texts",
            "target_index": "answer - 1",
        },
        ("Pick", ("x", "y", "z"), 2),
    ),
    "options in one text": (
        json.dumps({"q": "The sky is", "options": "A. blue B. very red", "answer": "B"}),
        {
            "output_type": CHOICES,
            "question": "{{ q }}",
            "choices_from": "(options | regex_replace('^A[.] ', '')"
            " | regex_replace(' [B-Z][.] ', '#')).split('#')",
            "target_index": "letters.index(answer)",
        },
        ("The sky is", ("blue", "very red"), 1),
    ),
    "column names with spaces": (
        "Question Text,Right Answer\nOne and one?,two\n",
        {
            "output_type": WRITES,
            "question": "{{ row['Question Text'] }}",
            "target": "{{ row['Right Answer'] }}",
        },
        ("One and one?", (), ("two",)),
    ),
    "classes and answers in lists": (
        json.dumps({"context": "c", "input": "Which?", "answers": ["no"], "all_classes": ["yes", "no"]}),
        {
            "output_type": CHOICES,
            "question": "{{ context }} {{ input }}",
            "choices_from": "all_classes",
            "target": "{{ answers }}",
        },
        ("c Which?", ("yes", "no"), 1),
    ),
    "cells in JSON": (
        'Q,R\n"{""role"": ""user"", ""content"": ""Who?""}","[""{\\""n\\"": 3}"", ""{}""]"\n',
        {
            "local": LocalConfig(columns={"given": "R | from_json | map('from_json') | list"}),
            "output_type": WRITES,
            "question": "{{ (Q | from_json).content }}",
            "target": "{{ (given | from_json)[0].n }}",
        },
        ("Who?", (), ("3",)),
    ),
}


def prepared(folder: Path, text: str, keys: dict):
    kind = {"{": "json", "问": "csv", "Q": "csv"}.get(text[0], "tsv")
    path = folder / f"rows.{kind}"
    path.write_text(text, encoding="utf-8")
    metrics = ["acc"] if keys["output_type"] == CHOICES else ["exact_match"]
    config = BenchmarkConfig(path=str(path), language="en", metrics=metrics, **keys)
    return prepare("mine", config, EvaluateConfig())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_set_of_this_shape_needs_keys_alone(shape, tmp_path):
    text, keys, (question, choices, target) = SHAPES[shape]
    example = prepared(tmp_path, text, keys).examples[0]
    assert item(example, 0).contexts[0] == question
    assert example.choices == choices
    assert (example.target if choices else example.reference_texts) == target


def test_a_list_of_messages_written_as_one_text_is_refused_with_the_way_out(tmp_path):
    text = json.dumps({"turns": MESSAGES, "reference": "7"})
    keys = {"output_type": WRITES, "target": "{{ reference }}"}
    with pytest.raises(DataError) as error:
        prepared(tmp_path, text, keys | {"question": "{{ turns }}"})
    assert r"`| join('\n', attribute='content')` writes a field of its objects" in str(error.value)
    joined = prepared(tmp_path, text, keys | {"question": r"{{ turns | join('\n', attribute='content') }}"})
    assert item(joined.examples[0], 0).contexts == ("I am 7.\nNoted.",)


def test_a_cell_that_is_not_json_is_refused_with_its_row(tmp_path):
    keys = {"output_type": WRITES, "question": "{{ Q | from_json }}", "target": "{{ R }}"}
    with pytest.raises(DataError) as error:
        prepared(tmp_path, "Q,R\n{'role': 1},3\n", keys)
    assert "rows.csv:2: " in str(error.value) and "from_json: {'role': 1} is not JSON" in str(error.value)
    with pytest.raises(DataError, match="is not JSON"):
        prepared(tmp_path, f"Q,R\n{'[' * 9999},3\n", keys)


def test_rows_of_the_hub_that_do_not_belong_are_left_out_and_not_numbered(monkeypatch):
    rows = [{"q": "Un?", "a": "1", "language": "fr"}, {"q": "一？", "a": "1", "language": "zh"}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    keys = {"output_type": WRITES, "question": "{{ q }}", "target": "{{ a }}", "metrics": ["exact_match"]}

    def of_hub(keep: str):
        config = BenchmarkConfig(dataset="own/set", language="zh", hub=HubConfig(keep=keep), **keys)
        return prepare("mine", config, EvaluateConfig())

    [example] = of_hub("language == 'zh' and split == 'test'").examples
    assert (example.id, example.questions) == ("0", ("一？",))
    with pytest.raises(ConfigError, match=r"^benchmarks\.mine\.hub\.keep: 'language ==' does not parse"):
        of_hub("language ==")
    rows[0]["row"] = "3"
    with pytest.raises(DataError, match="column 'row' can't be read as 'row' in `hub.keep`"):
        of_hub("row == '3'")


def test_a_file_in_gbk_is_refused_with_the_command_that_converts_it(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("问题,答案\n一？,1\n".encode("gbk"))
    keys = {"output_type": WRITES, "question": "{{ 问题 }}", "target": "{{ 答案 }}"}
    with pytest.raises(DataError, match="iconv -f gb18030 -t utf-8"):
        prepare(
            "mine",
            BenchmarkConfig(path=str(path), language="zh", metrics=["exact_match"], **keys),
            EvaluateConfig(),
        )
