"""Lists within lists become rows, with the columns of everything above them."""

import json

import pytest

from workbench.config.benchmark import BenchmarkConfig, LocalConfig, OutputType
from workbench.config.data import DataConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.data.rows import load_rows
from workbench.errors import DataError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks

SQUAD = {
    "version": "v1.0",
    "data": [
        {
            "id": "D1",
            "title": "甲",
            "paragraphs": [
                {
                    "id": "P1",
                    "context": "一",
                    "qas": [{"id": "Q1", "question": "?"}, {"id": "Q2", "question": "??"}],
                },
                {"id": "P2", "context": "二", "qas": []},
            ],
        },
        {
            "id": "D2",
            "title": "乙",
            "paragraphs": [{"id": "P3", "context": "三", "qas": [{"id": "Q3", "question": "!"}]}],
        },
    ],
}


def benchmark(path: str, **keys) -> BenchmarkConfig:
    about = {"question": "{{ title }} {{ context }} {{ question }}", "target": "{{ qas.id }}"} | keys
    return BenchmarkConfig(
        path=path,
        language="zh",
        output_type=OutputType.generation,
        metrics=["exact_match"],
        local=LocalConfig(unfold="data.paragraphs.qas"),
        **about,
    )


def test_every_question_of_every_paragraph_is_a_row_with_what_stands_above_it(write):
    path = write("a.json", json.dumps(SQUAD, ensure_ascii=False, indent=1))
    items = prepare_benchmarks({"b": benchmark(path)}, EvaluateConfig())["b"].examples
    assert [(item.id, item.questions[0], item.target) for item in items] == [
        ("0", "甲 一 ?", "Q1"),
        ("1", "甲 一 ??", "Q2"),
        ("2", "乙 三 !", "Q3"),
    ]
    rows = load_rows(DataConfig(path=path, unfold="data.paragraphs.qas"))
    assert [row.where.removeprefix(path) for row in rows] == [
        ":1, data 1, paragraphs 1, qas 1",
        ":1, data 1, paragraphs 1, qas 2",
        ":1, data 2, paragraphs 1, qas 1",
    ]


def test_a_name_at_several_levels_is_refused_where_a_template_uses_it(write):
    path = write("a.json", json.dumps(SQUAD, ensure_ascii=False))
    with pytest.raises(DataError) as caught:
        prepare_benchmarks({"b": benchmark(path, id="{{ id }}")}, EvaluateConfig())
    assert "'id' is a column at several levels, use data.id or paragraphs.id or qas.id" in str(caught.value)
    told_apart = prepare_benchmarks(
        {"b": benchmark(path, id="{{ paragraphs.id }}-{{ qas.id }}")}, EvaluateConfig()
    )
    assert [item.id for item in told_apart["b"].examples] == ["P1-Q1", "P1-Q2", "P3-Q3"]


@pytest.mark.parametrize(
    ("unfold", "complaint"),
    [
        (
            "data.paragraph.qas",
            "a.json:1, data 1: column 'paragraph', of data.unfold, is not a list of objects "
            "(columns: id, title, paragraphs)",
        ),
        ("version", "a.json:1: column 'version', of data.unfold, is not a list of objects"),
    ],
)
def test_a_step_that_leads_nowhere_is_told_with_the_columns_there_are(write, unfold, complaint):
    path = write("a.json", json.dumps(SQUAD))
    with pytest.raises(DataError) as caught:
        load_rows(DataConfig(path=path, unfold=unfold))
    assert complaint in str(caught.value)
