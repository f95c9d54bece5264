"""Columns that templates' own names would hide are refused, and choices that can't be told apart."""

import json

import pytest

from workbench.config.benchmark import BenchmarkConfig, HubConfig, LocalConfig, OutputType, ProtocolConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.prepare_benchmarks import prepare

C3 = {"context": ["一段话"], "question": "问？", "choice": ["甲", "乙"], "answer": "乙"}


def benchmark(tmp_path, *rows: dict, **changes) -> BenchmarkConfig:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "language": "zh",
        "path": str(file),
        "output_type": OutputType.multiple_choice,
        "question": "{{ question }}",
        "choices_from": "choice",
        "target_index": "choice.index(answer)",
        "delimiter": "",
    }
    return BenchmarkConfig(**settings | changes)


def prepared(config: BenchmarkConfig):
    return prepare("own", config, EvaluateConfig())


def refused(config: BenchmarkConfig) -> str:
    with pytest.raises(DataError) as caught:
        prepared(config)
    return str(caught.value)


def test_a_column_called_choice_is_refused_in_a_question_and_read_by_row_choice(tmp_path):
    asked = (
        "{{ context[0] }}{{ question }}{% for t in choice %}{{ letters[loop.index0] }}.{{ t }} {% endfor %}"
    )
    own = {"choices_from": "", "choices": ["A", "B"], "target": "{{ letters[row.choice.index(answer)] }}"}
    own |= {"target_index": "", "question": asked}
    message = refused(benchmark(tmp_path, C3, **own))
    assert message.endswith(
        "rows.jsonl:1: column 'choice' can't be read as 'choice' in `question`, where this name means the "
        "choice that is scored (row.choice is the column)"
    )
    own["question"] = asked.replace("in choice", "in row.choice")
    [example] = prepared(benchmark(tmp_path, C3, **own)).examples
    assert example.questions == ("一段话问？A.甲 B.乙 ",) and example.target == 1


def test_a_column_called_choice_is_the_choices_where_nothing_hides_it(tmp_path):
    [example] = prepared(benchmark(tmp_path, C3)).examples
    assert example.choices == example.continuations == ("甲", "乙") and example.target == 1


def test_only_a_template_that_uses_the_name_is_refused(tmp_path):
    row = C3 | {"title": "t", "subset": "s", "letters": "l", "row": 3, "self": "i"}
    [example] = prepared(benchmark(tmp_path, row, subsets={"law": "法律"})).examples
    assert example.questions == ("问？",)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("title", {"question": "{{ title }}", "subsets": {"law": "法律"}}, "question"),
        ("title", {"description": "关于{{ title }}", "subsets": {"law": "法律"}}, "description"),
        ("subset", {"question": "{{ subset }}", "subsets": {"law": "法律"}}, "question"),
        ("letters", {"question": "{{ letters[0] }}"}, "question"),
        ("letters", {"target_index": "letters.index('B')"}, "target_index"),
        ("letters", {"local": LocalConfig(columns={"c": "letters[0]"})}, "local.columns.c"),
        ("subset", {"local": LocalConfig(columns={"c": "subset"}), "subsets": {"a": "b"}}, "local.columns.c"),
        ("row", {"question": "{{ row }}"}, "question"),
        ("row", {"keep": "row > 2"}, "keep"),
        ("choice", {"continuation": "答{{ choice }}"}, "continuation"),
        ("self", {"question": "{{ self }}"}, "question"),
        ("row", {"choices_from": "", "choices": ["{{ row }}", "b"], "target_index": "1"}, "choices"),
    ],
)
def test_every_name_and_template_is_watched(tmp_path, name, changes, field):
    message = refused(benchmark(tmp_path, C3 | {name: C3.get(name, 3)}, **changes))
    assert f"column {name!r} can't be read as {name!r} in `{field}`" in message
    assert f"(row.{name} is the column)" in message


@pytest.mark.parametrize("name", ["title", "subset"])
def test_without_subsets_a_column_called_title_or_subset_is_the_rows_own(tmp_path, name):
    columns = LocalConfig(columns={"c": "subset" if name == "subset" else "title"})
    asked = f"{{{{ {name} }}}}/{{{{ c }}}}"
    [example] = prepared(benchmark(tmp_path, C3 | {name: "T"}, question=asked, local=columns)).examples
    assert example.questions == ("T/T",)


@pytest.mark.parametrize("asked", ["{{ row.row }}", "{{ row['row'] }}{{ row['question'] }}"])
def test_a_column_called_row_is_read_by_row_row(tmp_path, asked):
    [example] = prepared(benchmark(tmp_path, C3 | {"row": 7}, question=asked)).examples
    assert example.questions[0].startswith("7")


def test_a_hidden_column_of_an_example_is_refused_too(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"q": "a", "label": 0}) + "\n")
    (tmp_path / "dev.jsonl").write_text(json.dumps({"q": "b", "label": 1, "letters": "x"}) + "\n")
    config = BenchmarkConfig(
        language="en",
        path=str(tmp_path),
        local=LocalConfig(files={"test": "test.jsonl", "dev": "dev.jsonl"}),
        hub=HubConfig(columns={"c": "letters"}),
        fewshot_split="dev",
        num_fewshot=1,
        output_type=OutputType.multiple_choice,
        question="{{ q }} {{ letters[0] }}",
        choices=["yes", "no"],
        target_index="label",
    )
    assert "dev.jsonl:1: column 'letters' can't be read" in refused(config)


def test_choice_in_a_generated_questions_prompt_is_the_column(tmp_path):
    own = {
        "output_type": OutputType.generation,
        "choices_from": "",
        "target_index": "",
        "target": "{{ answer }}",
    }
    own |= {"question": "{{ choice[1] }}", "metrics": ["exact_match"]}
    assert prepared(benchmark(tmp_path, C3, **own)).examples[0].questions == ("乙",)


@pytest.mark.parametrize("target", [{"target": "{{ answer }}", "target_index": ""}, {}])
def test_equal_choices_are_refused_with_their_row(tmp_path, target):
    row = C3 | {"choice": ["甲", "乙", "甲"]}
    message = refused(benchmark(tmp_path, C3, row, **target))
    assert "rows.jsonl:2: two of the choices are '甲', so neither can be the right one (`keep`" in message


def test_equal_choices_are_scored_and_said_where_the_protocol_is_the_harness(tmp_path):
    config = benchmark(tmp_path, C3, C3 | {"choice": ["甲", "甲", "乙"]}, protocol="lm-eval")
    config.protocols = {"lm-eval": ProtocolConfig(num_fewshot=0)}
    [warning] = prepared(config).warnings
    assert warning.startswith(
        "1 items have two equal choices, the first of which counts, as in lm-evaluation-harness ("
    )


def test_choices_that_are_asked_alike_are_refused(tmp_path):
    row = {"q": "a", "x": "one", "y": "two"}
    config = benchmark(
        tmp_path, row, question="{{ q }}", choices_from="[x, y]", continuation="{{ q }}", target_index="0"
    )
    assert "rows.jsonl:1: choices 'one' and 'two' have the same prompt" in refused(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["acc", "acc"]}, "benchmarks.own.metrics: 'acc' is listed twice in ['acc', 'acc']"),
        ({"only": ["a", "a"], "subsets": {"a": "b"}}, "benchmarks.own.only: 'a' is listed twice"),
        (
            {"subsets": {"a": "b"}, "groups": {"g": ["a", "a"]}},
            "benchmarks.own.groups.g: 'a' is listed twice",
        ),
        (
            {"subsets": {"a": "b"}, "groups": {"g": ["a", "c"]}},
            "benchmarks.own.groups.g: no subset 'c' (known: a)",
        ),
    ],
)
def test_a_name_that_stands_twice_or_names_nothing_is_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError) as caught:
        prepared(benchmark(tmp_path, C3, **changes))
    assert words in str(caught.value)


def test_an_example_of_a_file_that_subsets_share_has_the_title_of_the_question_s_subset(tmp_path):
    for name in ("law", "art", "dev"):
        row = {"question": f"{name}?", "answer": "A"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    config = BenchmarkConfig(
        language="zh",
        path=str(tmp_path),
        local=LocalConfig(files={"test": "{subset}.jsonl", "dev": "dev.jsonl"}),
        subsets={"law": "法学", "art": "艺术"},
        fewshot_split="dev",
        num_fewshot=1,
        output_type=OutputType.multiple_choice,
        question="[{{ title }}] {{ question }}",
        choices=["A", "B"],
        target="{{ answer }}",
    )
    asked = [(example.shots[0].question, example.questions[0]) for example in prepared(config).examples]
    assert asked == [("[法学] dev?", "[法学] law?"), ("[艺术] dev?", "[艺术] art?")]
