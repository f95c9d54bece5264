"""pass@1 runs the program that a generated answer makes with its tests."""

import json
import logging
from pathlib import Path

import pytest
from test_targets import judged

from workbench.config.benchmark import BenchmarkConfig, Extract, GenerationConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.errors import ConfigError, DataError
from workbench.evaluation.code_box import sound_box
from workbench.evaluation.extraction.extract import extract
from workbench.evaluation.metrics import program_tests
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.prepare_benchmarks import prepare
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Answer
from workbench.trust import trusting

PROGRAM = "{{ prompt }}{{ answer }}\n{{ test }}\n"
ROWS = [
    {"prompt": "def double(x):\n    'Doubles.'\n", "test": "assert double(2) == 4"},
    {"prompt": "def triple(x):\n    'Triples.'\n", "test": "assert triple(2) == 6"},
]


@pytest.fixture(autouse=True)
def trusted():
    sound = sound_box._search()
    if isinstance(sound, str):
        pytest.skip(f"no sound box here: {sound}")
    with trusting(True):
        yield


def prepared(folder: Path, extract: Extract = Extract.verbatim, **changes) -> PreparedBenchmark:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    settings = {
        "path": str(path),
        "language": "en",
        "output_type": OutputType.generation,
        "question": "{{ prompt }}",
        "target": "{{ test }}",
        "program": PROGRAM,
        "metrics": ["pass@1"],
        "generation": GenerationConfig(extract=extract),
    }
    return prepare("mine", BenchmarkConfig(**(settings | changes)), EvaluateConfig())


def test_the_indentation_of_a_completion_is_part_of_it(tmp_path):
    rows, [score] = judged(prepared(tmp_path), ["<think>so</think>    return 2 * x\n", "    return 2 * x"])
    assert [row.scores for row in rows] == [{"pass@1": 1.0}, {"pass@1": 0.0}]
    assert rows[0].prediction == "    return 2 * x\n"
    assert (score.metric, score.value, score.lower_is_better) == ("pass@1", 0.5, False)


def test_code_is_taken_from_the_block_of_a_chat_answer(tmp_path):
    right = "Sure:\n```python\ndef double(x):\n    return x + x\n```\nIt returns `x + x`."
    cut = "<think>```def```</think>```py\ndef triple(x):\n    return 3 * x\n"
    rows, [score] = judged(prepared(tmp_path, Extract.code), [right, cut])
    assert score.value == 1.0
    assert rows[0].prediction == "def double(x):\n    return x + x\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("    return 1\n", "    return 1\n"),
        ("```\n    return 1\n```", "    return 1\n"),
        ("```bash\npip install x\n```\n```python\nimport x\n```", "import x\n"),
        ("Two:\n```py\na = 1\n```\n```py\na = 2\n```", "a = 1\n"),
        ("1. So:\n   ```Python3 title=x\n   if a:\n     a = 1\n   ```\n", "if a:\n  a = 1\n"),
        ("    return 1\n```\n\nIt works:\n```python\nf()\n```", "    return 1\n"),
        (" Sure:\n```\na = 1\n```\n", "a = 1\n"),
        ("```python\nprint(f(1))\n```\n```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x\n"),
        ("~~~py\na = '```'\n~~~\n", "a = '```'\n"),
        ("Sure: ```python return 1```!", "    return 1"),
        ("Sure:\n```python def f():\n    return 1\n```\nDone", "def f():\n    return 1\n"),
        ("```py\na = 1\n    return a\n```", "    a = 1\n    return a\n"),
        (
            "```py\nfor a in b:\n        c()\n\n    return a\n```",
            "    for a in b:\n        c()\n\n    return a\n",
        ),
        ("```py\nif a:\n    return a\nreturn 1\n```", "    if a:\n        return a\n    return 1\n"),
        ("```py\nf = max(\n    1, 2)\n```", "f = max(\n    1, 2)\n"),
        ("```py\nfor a in b:\n    c()\n```", "for a in b:\n    c()\n"),
        (
            "```py\ndef g(a):\n    return a\n\nreturn g(1)\n```",
            "    def g(a):\n        return a\n\n    return g(1)\n",
        ),
        (
            "```py\nif a:\n    return a\nelse:\n    return b\n```",
            "    if a:\n        return a\n    else:\n        return b\n",
        ),
        ("```py\nif a:\n      b = 1\n  return b\n```", "  if a:\n      b = 1\n  return b\n"),
        ("```py\na = 1\nb = 2\n```", "a = 1\nb = 2\n"),
        ("```py\nimport x\nreturn x.y()\n```", "    import x\n    return x.y()\n"),
        ("```py\nreturn is not code\n```", "return is not code\n"),
        ("return 1, says the model.", "return 1, says the model."),
        ("a = 1\n    return a", "    a = 1\n    return a"),
        ("```python title=a.py\n    return 1\n```", "    return 1\n"),
        ("```python total=0\n    return total\n```", "    total=0\n    return total\n"),
        ("```python main.py numbers\na = 1\n```", "a = 1\n"),
        ("```import math\na = math.pi```", "import math\na = math.pi"),
        ("```c\nint a;\n```", "int a;\n"),
        ("Use ```a``` here.", "Use ```a``` here."),
        ("<think>\n```python\nwrong\n```\n</think>\n```python\nright\n```", "right\n"),
        ("<think> on and on ```python\nwrong\n```", None),
    ],
)
def test_the_first_block_of_python_is_the_code(text, code):
    assert extract(text, GenerationConfig(extract=Extract.code)) == code


@pytest.mark.parametrize(
    "text",
    [
        "```python" * 9000,
        "~" * 80_000,
        "```py x" + " a" * 40_000,
        "```\n" * 20_000,
        "```py\n" * 20_000,
        "(" * 80_000,
        "if a:\n" * 9000,
        "```py " + "".join(f"a{number}=1 " for number in range(9000)) + "\nreturn a\n" * 9000,
    ],
)
def test_code_is_soon_taken_from_hostile_text(text):
    assert len(extract(text, GenerationConfig(extract=Extract.code))) <= len(text)


def test_imports_of_the_future_in_an_answer_come_before_the_prompt(tmp_path):
    future = "from __future__ import annotations\n"
    texts = [
        f"```python\n{future}def {row['prompt'][4:10]}(x):\n    return {times} * x\n```"
        for times, row in zip((2, 3), ROWS, strict=True)
    ]
    _, [score] = judged(prepared(tmp_path, Extract.code), texts)
    assert score.value == 1.0


def test_a_pattern_that_finds_nothing_leaves_no_code(tmp_path):
    benchmark = prepared(
        tmp_path,
        program="{{ answer }}",
        generation=GenerationConfig(extract=Extract.pattern, pattern=r"CODE(.*)"),
    )
    rows, _ = judged(benchmark, ["raise ValueError", "CODE raise ValueError"])
    assert [row.prediction for row in rows] == ["", " raise ValueError"]


def test_programs_run_side_by_side_once_each_and_their_ends_are_counted(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO)
    example = prepared(tmp_path).examples[0]
    texts = ["    return 2 * x", "    return x", "    return x", "    retrun x"]
    items = [Judged(text, Answer(generation=text), example) for text in texts]
    program_tests.run_ahead(items)
    assert len(program_tests._verdicts) == 3
    assert [program_tests.passes(*item) for item in items] == [1.0, 0.0, 0.0, 0.0]
    assert "pass@1: 1 of 4 programs ran to their end, AssertionError 2, SyntaxError 1" in caplog.text


def test_a_program_is_checked_before_any_row_is_read(tmp_path):
    with pytest.raises(ConfigError, match="benchmarks.mine.program: empty, but 'pass@1' runs it"):
        prepared(tmp_path, program="")
    with pytest.raises(ConfigError, match="benchmarks.mine.program: lacks {{ answer }}"):
        prepared(tmp_path, program="{{ test }}")
    with pytest.raises(DataError, match="items.jsonl:1: `program` has the answer 2 times"):
        prepared(tmp_path, program="{{ answer }}{{ answer }}")


def test_a_column_named_answer_is_not_taken_for_the_generated_one(tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS[0], "answer", "return 4")
    with pytest.raises(DataError, match="column 'answer' can't be read as 'answer' in `program`"):
        prepared(tmp_path)


def test_scores_of_other_programs_are_not_compared(tmp_path):
    texts = ["    return 2 * x", "    return 3 * x"]
    _, [score] = judged(prepared(tmp_path), texts)
    _, [other] = judged(prepared(tmp_path, program=PROGRAM + "x = 1"), texts)
    assert score.prompts == other.prompts and score.rule != other.rule
