"""Texts in YAMLs that YAML would read as truth values or as other numbers."""

from pathlib import Path

import pytest

from workbench.cli.hydra_node import check_hydra_node
from workbench.cli.yaml_files.sources import sources_of
from workbench.cli.yaml_files.yaml_texts import check_file
from workbench.errors import ConfigError

BENCHMARK = """# @package benchmarks.own
path: q.jsonl
language: en
output_type: multiple_choice
question: "{{ q }}"
choices: ["A", "B"]
target: "{{ answer }}"
"""


@pytest.mark.parametrize(
    ("line", "key", "read_as"),
    [
        ("choices: [yes, no]", "choices: YAML reads yes as the boolean True", "'yes'"),
        ("choices: [A, off]", "choices: YAML reads off as the boolean False", "'off'"),
        ("choices: [01, 1.50]", "choices: YAML reads 01 as the number 1", "'01'"),
        ("choices: ['01', 1.50]", "choices: YAML reads 1.50 as the number 1.5", "'1.50'"),
        ("choices:\n  - 1_000\n  - 2000", "choices: YAML reads 1_000 as the number 1000", "'1_000'"),
        ("choices: [1e5, 2]", "choices: YAML reads 1e5 as the number 100000.0", "'1e5'"),
        ("choices: [12:30, 13:00]", "choices: YAML reads 12:30 as the number 750", "'12:30'"),
        ("target: yes", "target: YAML reads yes as the boolean True", "'yes'"),
        ("target: 0x1F", "target: YAML reads 0x1F as the number 31", "'0x1F'"),
        ("language: no", "language: YAML reads no as the boolean False", "'no'"),
        ("subsets: {law: on}", "subsets.law: YAML reads on as the boolean True", "'on'"),
        ("generation: {stop: [No]}", "generation.stop: YAML reads No as the boolean False", "'No'"),
    ],
)
def test_a_text_that_yaml_reads_otherwise_is_refused_with_its_line(tmp_path, line, key, read_as):
    file = tmp_path / "own.yaml"
    field = line.partition(":")[0]
    kept = [other for other in BENCHMARK.splitlines() if not other.startswith(f"{field}:")]
    file.write_text("\n".join([*kept, line, ""]), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_file(file, "benchmarks.own")
    where = len(kept) + 1 + line.count("\n  - 1_000")
    message = str(caught.value)
    assert message.startswith(f"{file}:{where}: benchmarks.own.{key}") and message.endswith(f"{read_as})")


@pytest.mark.parametrize(
    "line",
    [
        "choices: ['yes', \"no\"]",
        "choices: [10, 2.5]",
        "limit: 1_000",
        "average: micro",
        "question: 1.0",
        "choices: [null]",
    ],
)
def test_texts_that_stay_as_they_are_and_other_keys_are_taken(tmp_path, line):
    (tmp_path / "own.yaml").write_text(line + "\n", encoding="utf-8")
    check_file(tmp_path / "own.yaml", "benchmarks.own")


def group(folder: Path, text: str) -> None:
    (folder / "conf" / "benchmark").mkdir(parents=True)
    (folder / "conf" / "benchmark" / "own.yaml").write_text(text, encoding="utf-8")


def test_the_command_refuses_such_a_benchmark_where_it_is_chosen(command, tmp_path):
    group(tmp_path, BENCHMARK.replace('["A", "B"]', "[yes, no]"))
    chosen = ["--config-dir", "conf", "recipe=evaluate", "model.path=nowhere"]
    message = command(*chosen, "benchmark=own")
    assert "conf/benchmark/own.yaml:6: benchmarks.own.choices: YAML reads yes as the boolean True" in message
    sources = sources_of(["--config-dir=conf"], [])
    with pytest.raises(ConfigError, match="own.yaml:6: benchmarks.own.choices"):
        check_hydra_node(sources, ["recipe=evaluate", "benchmark=[own,c3]"])
    check_hydra_node(sources, ["recipe=evaluate", "benchmark=c3"])


def test_the_command_refuses_such_a_text_in_a_recipe(command, tmp_path):
    (tmp_path / "recipes").mkdir()
    text = "benchmarks: {own: {language: en, output_type: perplexity, question: no}}\nsteps: [evaluate]\n"
    (tmp_path / "recipes" / "mine.yaml").write_text(text, encoding="utf-8")
    message = command("recipe=mine", "model.path=nowhere")
    assert "recipes/mine.yaml:1: benchmarks.own.question: YAML reads no as the boolean False" in message


def test_no_yaml_of_ours_holds_such_a_text():
    for folder, place in (("conf", None), ("recipes", "")):
        for file in Path(folder).rglob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            named = (
                text.partition("# @package ")[2].split("\n")[0] if "# @package" in text else file.parent.name
            )
            check_file(file, place if place is not None else "" if named in ("_global_", "conf") else named)
