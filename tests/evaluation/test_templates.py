"""Templates and expressions of benchmarks: nulls, bounds, and one line for what can't be rendered."""

import pytest

from workbench.config.benchmark import BenchmarkConfig, Extract, GenerationConfig, OutputType
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks import benchmark_templates
from workbench.evaluation.benchmarks.benchmark_files import Row
from workbench.evaluation.benchmarks.benchmark_prompts import Renderer
from workbench.evaluation.extraction.extract import extract
from workbench.patterns import matching as patterns


@pytest.fixture(autouse=True)
def _nothing_used_yet():
    patterns._usage.cache_clear()


def test_a_null_is_empty_where_the_template_says_so_and_refused_elsewhere():
    row = Row({"q": "a", "hint": None, "rest": ["x", None]}, "own.jsonl:3")
    for template in (
        "{{ hint | default('') }}",
        "{{ hint | d }}",
        "{{ hint or '' }}",
        "{% if hint %}x{% endif %}",
    ):
        assert benchmark_templates.render(template, {}, row) == ""
    assert benchmark_templates.render("{{ hint | tojson }}{{ hint is none }}", {}, row) == "nullTrue"
    for template in (
        *(
            "{{ hint }}",
            "{{ q ~ hint }}",
            "{{ hint | trim }}",
            "{{ '%s' % hint }}",
            "{{ '{}'.format(hint) }}",
        ),
        *("{{ hint | string }}", "{{ [q, hint] | join(' ') }}", "{{ hint | int }}", "{{ hint | upper }}"),
        *("{{ '%s %s' | format(q, hint) }}", "{% set x %}{{ hint }}{% endset %}{{ x }}", "{{ row.hint }}"),
    ):
        with pytest.raises(
            DataError, match=r"own.jsonl:3: .*null here: hint \(write `hint \| default\(''\)`\)"
        ):
            benchmark_templates.render(template, {}, row)
    with pytest.raises(DataError, match="own.jsonl:3: .* a null would become the word None"):
        benchmark_templates.render("{{ rest | join }}", {}, row)
    with pytest.raises(DataError, match="own.jsonl:3"):
        benchmark_templates.evaluate("hint | length", {}, row)


def test_a_benchmark_template_that_would_never_end_is_one_line(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    row = Row({"q": "a"}, "own.jsonl:3")
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(
        DataError, match="own.jsonl:3: .* cannot be rendered: it takes more than 100,000 loop"
    ):
        benchmark_templates.render(loops, {}, row)
    for expression in ("'a' * 10**11", "range(99999) | map('center', 10**9) | list", "9 ** (9 ** (9 ** 9))"):
        with pytest.raises(DataError, match="own.jsonl:3: .* cannot be rendered: it makes"):
            benchmark_templates.evaluate(expression, {}, row)
    with pytest.raises(DataError, match=r"own.jsonl:3: .*\(a\|aa\)\+\$.* takes more than 0.2 seconds"):
        benchmark_templates.render("{{ ('a' * 5000 ~ '!') | regex_replace('(a|aa)+$', '') }}", {}, row)


def test_a_null_among_the_choices_is_named():
    config = BenchmarkConfig(
        language="en",
        output_type=OutputType.multiple_choice,
        question="{{ q }}",
        choices_from="options",
        target_index="0",
    )
    row = Row({"q": "a", "options": ["a", None, "b"]}, "own.jsonl:3")
    with pytest.raises(DataError, match="own.jsonl:3: choice 2 of 3 in 'options' is null"):
        Renderer(config, 0).example(row, 0, 0, "", [])


def test_a_pattern_that_takes_too_long_over_an_answer_is_named_by_its_key(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.2)
    how = GenerationConfig(extract=Extract.pattern, pattern="(aa|a)+$")
    with pytest.raises(ConfigError, match=r"generation.pattern: .* takes more than 0.2 seconds on one text"):
        extract("a" * 5000 + "!", how)


def test_a_template_that_does_not_compile_is_named_by_its_key():
    for text in (
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "1" * 5000 + " }}",
        "{% x %}",
        "a" * 10**6 + "{",
    ):
        with pytest.raises(ConfigError, match="benchmarks.own.question: .* does not parse") as caught:
            benchmark_templates.check(text, "benchmarks.own.question")
        assert len(str(caught.value)) < 900


@pytest.mark.parametrize(
    "template",
    ["{{ data.items }}", "{{ q.title }}", "{{ row.get }}", "{{ range }}", "{{ q ~ data.keys }}"]
    + ["{{ data.values | string }}", "{{ '%s' % q.count }}", "{% macro f() %}{% endmacro %}{{ f }}"],
)
def test_a_function_is_refused_where_a_field_of_its_name_was_meant(template):
    row = Row({"q": "a", "data": {"items": "I", "values": [1]}}, "own.jsonl:3")
    with pytest.raises(DataError, match=r"own.jsonl:3: .* is a function here, which would be written as its"):
        benchmark_templates.render(template, {}, row)


@pytest.mark.parametrize(
    "template",
    ["{{ options }}", "{{ data.names }}", "{{ data }}", "{{ 'x' ~ options }}", "{{ options | string }}"]
    + ["{{ '%s' % (options,) }}", "{{ '{}'.format(options) }}", "{{ [options] | join }}"]
    + ["{{ options | map('upper') }}", "{{ options | trim }}", "{{ options | replace('a', 'b') }}"],
)
def test_a_list_or_an_object_that_would_be_written_as_code_is_refused(template):
    row = Row({"options": ["a", "b"], "data": {"names": ["a"]}}, "own.jsonl:3")
    with pytest.raises(DataError, match=r"own.jsonl:3: .* would be written as Python code"):
        benchmark_templates.render(template, {}, row)


def test_the_ways_out_of_a_list_that_would_be_written_as_code_are_rendered():
    row = Row({"options": ["a", "b"], "data": {"n": [1]}}, "own.jsonl:3")
    assert benchmark_templates.render("{{ options | join(', ') }} {{ options[0] }}", {}, row) == "a, b a"
    looped = "{% for option in options %}{{ option }}{% endfor %} {{ data | tojson }}"
    assert benchmark_templates.render(looped, {}, row) == 'ab {"n": [1]}'
    with pytest.raises(DataError, match=r"\['a', 'b'\] \(`\| join\(', '\)` writes its items"):
        benchmark_templates.render("{{ options }}", {}, row)


def test_a_function_is_no_value_of_an_expression_and_can_still_be_called():
    row = Row({"data": {"items": "I", "n": 1}}, "own.jsonl:3")
    with pytest.raises(DataError, match="'items' is a function here"):
        benchmark_templates.evaluate("data.items", {}, row)
    assert benchmark_templates.evaluate("data['items']", {}, row) == "I"
    assert benchmark_templates.render(
        "{{ data['items'] }}{% for k, v in data.items() %}{{ k }}{% endfor %}", {}, row
    ) == ("Iitemsn")
