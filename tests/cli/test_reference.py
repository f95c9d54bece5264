"""The reference of all keys: complete, true, readable in a terminal, and conf/README.md is made of it."""

import re
import shlex
import subprocess
import sys

import pytest
from rich.cells import cell_len

from workbench.cli.composition import register
from workbench.cli.messages import in_80_columns
from workbench.cli.reference import keys_text, sections
from workbench.cli.reference.page import page
from workbench.cli.unknown_keys import known_keys
from workbench.shipped import options, shipped

register()
KEYS = {key.name: key for section in sections() for key in section.keys}
MADE_BY = "python -m workbench.cli.reference.page"


def test_conf_readme_is_what_docstrings_and_yamls_say_now():
    written = (shipped("conf") / "README.md").read_text("utf-8")
    assert written == page(), f"conf/README.md is not up to date: run `{MADE_BY}`"
    assert MADE_BY in written


def test_every_key_is_told_with_what_it_does():
    every = {key for key, _ in known_keys()}
    inner = {key.rpartition(".")[0].removesuffix(".NAME") for key in every}
    assert every - inner <= set(KEYS) <= every
    assert [name for name, key in KEYS.items() if not key.text.endswith(".")] == []


def test_every_shipped_benchmark_and_option_is_on_the_page():
    made = page()
    for group in ("model", "quantization", "adapter"):
        assert all(f"| `{group}={option}` |" in made for option in options(group))
    for name in options("benchmark"):
        assert f"| `{name}` |" in made or f"| `benchmark={name}` |" in made
    assert "| `recipe=sft` | Fine-tune" in made
    assert re.search(r"\| `cmmlu` \| zh \| .*CC BY-NC-SA 4.0 \| 11,582 \| official, default, lm-eval", made)


def test_a_default_is_the_composed_one_and_recipes_that_differ_are_named(composed):
    effective = composed()
    assert KEYS["adapter.method"].default == effective.adapter.method.name == "lora"
    assert KEYS["train.learning_rate"].default == "0.0002"
    assert KEYS["data.max_length"].recipes["512"] == ["plan", "sft"]
    assert "quickstart" in KEYS["quantization.method"].recipes["nf4"]
    assert KEYS["train.learning_rate"].recipes.keys() == {"0.003"}
    assert KEYS["benchmarks.NAME.language"].default == "required"
    assert "quickstart" not in str(KEYS["adapter.alpha"].recipes), "32 is 32.0"


def test_a_default_with_a_line_break_stays_on_one_line():
    assert KEYS["benchmarks.NAME.generation.stop"].default == r'["\n"]'
    assert KEYS["benchmarks.NAME.fewshot_delimiter"].default == r'"\n\n"'
    assert all(row.endswith(" |") for row in page().splitlines() if row.startswith("| "))


def test_options_and_ranges_are_told():
    assert KEYS["train.max_steps"].values == "integer from 1 to 1,000,000,000, or -1"
    assert KEYS["train.keep"].values == "last, best"
    assert KEYS["plan.memory_gib"].values == "number more than 0, at most 1,000,000, or null"
    assert KEYS["data.columns"].values == "mapping of a name to text"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.name)
def test_the_example_of_a_section_is_a_command_that_can_be_composed(composed, section):
    program, dash_m, package, *words = shlex.split(section.example.replace("\\\n", ""))
    assert (program, dash_m, package) == ("python", "-m", "workbench")
    composed(*words)
    assert section.name == "run" or any(word.startswith(section.name.removesuffix("s")) for word in words)


def test_in_the_terminal_no_line_is_wider_than_80_columns():
    assert [line for line in keys_text([]).splitlines() if cell_len(line) > 80] == []


def test_a_chinese_character_takes_two_columns():
    lines = in_80_columns(f"{'量化' * 15} {'合并' * 15} {'模型' * 30}", "    ")
    assert [cell_len(line) for line in lines] == [64, 64, 80, 48]
    assert "".join("".join(lines).split()) == "量化" * 15 + "合并" * 15 + "模型" * 30


def test_one_section_or_one_key_is_shown_alone(command):
    told = command("--keys", "plan")
    assert told.startswith("PLAN\n") and "plan.gpu\n" in told and "train.max_steps" not in told
    assert command("--keys", "benchmarks.cmmlu.limit").splitlines()[0] == "benchmarks.NAME.limit"
    assert "data.sources.NAME.weight\n" in command("--keys=data.sources")


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("trian", "did you mean train?"),
        ("benchmark", "did you mean benchmarks?"),
        ("zz", "known: run, model, "),
    ],
)
def test_an_unknown_section_is_one_line_with_the_near_name(command, word, way_out):
    assert command("--keys", word).startswith(f"error: --keys: unknown section {word!r} ({way_out}")


def test_the_reference_loads_no_torch_and_a_reader_that_stops_early_sees_no_error(tmp_path):
    program = (
        "import sys; sys.argv = ['workbench', '--keys']\n"
        "from workbench.cli import main\nmain()\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), 'heavy import'\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, **pipes) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)
