"""Every key with values that can't be meant: one line that names the key, never silence."""

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from workbench.cli.key_types import without_none
from workbench.cli.messages import one_line
from workbench.config import BenchmarkConfig, Config, DataConfig
from workbench.config.benchmark import OutputType
from workbench.config.data import SourceConfig
from workbench.config.ranges import RANGE, Range, check_ranges
from workbench.errors import ConfigError, WorkbenchError

START = (
    "recipe=plan",
    "benchmark=[cmmlu]",
    "data.sources={own: {path: a.jsonl}}",
)
NAMES = {"benchmarks": "cmmlu", "protocols": "official", "sources": "own", "rank_pattern": "+q_proj"}
"""A name of the user's in each mapping."""

NUMBERS = ("nan", "inf", "-inf", "-7", "1e30", str(10**25), "words", "[1]", "{a: 1}")
BAD: dict[Any, tuple[str, ...]] = {
    int: (*NUMBERS, "1.5"),
    float: NUMBERS,
    bool: ("words", "[true]", "{a: 1}", "1.5", "nan"),
    Enum: ("words", "[1]", "{a: 1}", "17"),
    list: ("words", "{a: 1}", "3"),
    dict: ("words", "[1]", "3"),
    "section": ("words", "[1]", "3"),
}


def keys(schema: Any = Config, start: str = "") -> list[tuple[str, Any, Any]]:
    """Each dotted key with its type and its field."""
    found = []
    for field in fields(schema):
        key = f"{start}{field.name}"
        declared = without_none(get_type_hints(schema)[field.name])
        found.append((key, declared, field))
        inner = get_args(declared)[1] if get_origin(declared) is dict else declared
        if is_dataclass(inner):
            name = f".{NAMES[field.name]}" if inner is not declared else ""
            found += keys(inner, f"{key}{name}.")
    return found


def kind(declared: Any) -> Any:
    if is_dataclass(declared):
        return "section"
    if get_origin(declared) in (list, dict):
        return get_origin(declared)
    return Enum if isinstance(declared, type) and issubclass(declared, Enum) else declared


CASES = [
    (key, value)
    for key, declared, _ in keys()
    for value in BAD.get(kind(declared), ())
    if key not in ("model.init", "adapter.options")
]


def test_every_number_has_a_range_that_holds_its_default():
    numbers = [
        (key, declared, field)
        for key, declared, field in keys()
        if declared in (int, float)
        or (get_origin(declared) is dict and get_args(declared)[1] in (int, float))
    ]
    assert len(numbers) > 40
    for key, _, field in numbers:
        allowed = field.metadata.get(RANGE)
        assert isinstance(allowed, Range), key
        assert not isinstance(field.default, int | float) or field.default in allowed, key


def refusal(composed, *words):
    """The line by which a command is refused, or None."""
    try:
        OmegaConf.to_object(composed(*START, *words))
    except (WorkbenchError, HydraException, OmegaConfBaseException) as error:
        return one_line(error)
    return None


SAMPLE = 23


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(CASES[::SAMPLE], id="some"),
        pytest.param([c for i, c in enumerate(CASES) if i % SAMPLE], id="all others", marks=pytest.mark.slow),
    ],
)
def test_values_that_cannot_be_meant_are_refused_in_a_line_that_names_the_key(composed, cases):
    assert len(CASES) > 500
    for key, value in cases:
        line = refusal(composed, f"{key}={value}")
        assert line is not None, f"{key}={value} is accepted"
        assert key.replace(".own", "").split(".")[-1] in line, (key, value, line)
        assert "\n" not in line and len(line) < 500, (key, value, line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train.learning_rate=nan"], "train.learning_rate: nan (more than 0, at most 10)"),
        (["train.max_steps=0"], "train.max_steps: 0 (from 1 to 1,000,000,000, or -1)"),
        (["adapter.dropout=1"], "adapter.dropout: 1.0 (at least 0, below 1)"),
        (["+adapter.rank_pattern.q_proj=0"], "adapter.rank_pattern.q_proj: 0 (from 1 to 65,536)"),
        (["benchmarks.cmmlu.limit=0"], "benchmarks.cmmlu.limit: 0 (from 1 to"),
        (["data.sources.own.weight=0"], "data.sources.own.weight: 0.0 (more than 0, at most 10,000)"),
        (["export.max_shard_size=99999999TB"], "export.max_shard_size: '99999999TB' (a size from"),
        (["export.max_shard_size=0.5KB"], "export.max_shard_size: '0.5KB' (a size from"),
    ],
)
def test_the_line_says_what_is_allowed(composed, words, line):
    assert line in refusal(composed, *words)


def test_a_range_is_checked_in_a_section_made_in_python_too():
    with pytest.raises(ConfigError, match=r"seed: -1 \(from 0 to 4,294,967,295\)"):
        Config(seed=-1)
    config = Config()
    config.train.learning_rate = float("inf")
    with pytest.raises(ConfigError, match="train.learning_rate: inf"):
        check_ranges(config)


@pytest.mark.parametrize(
    "name", ["../../esc", "/abs/path", "a/b", "..", ".hidden", "x" * 250, "题" * 60, "a\nb", "a\0b", ""]
)
def test_a_name_that_becomes_a_file_stays_in_the_folder(name):
    benchmark = BenchmarkConfig(language="en", output_type=OutputType.perplexity)
    with pytest.raises(ConfigError, match="^benchmarks: '"):
        Config(benchmarks={name: benchmark})
    with pytest.raises(ConfigError, match="^data.sources: '"):
        Config(data=DataConfig(sources={name: SourceConfig(path="a")}))


def test_names_in_any_writing_are_taken():
    benchmark = BenchmarkConfig(language="en", output_type=OutputType.perplexity)
    Config(benchmarks=dict.fromkeys(["toy_text_zh", "C-Eval 5.1", "中文测验", "lm_eval"], benchmark))


def test_an_error_line_has_an_end():
    line = one_line(ConfigError("rows.csv: unknown column " + "x" * 200_000))
    assert line.startswith("rows.csv: unknown column") and line.endswith("... (200,025 characters)")
    assert len(line) < 2100
