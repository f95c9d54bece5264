"""The command line as a user meets it: one line for each mistake, nothing written before it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import __version__
from workbench.shipped import shipped


def workbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m workbench` in a folder of its own."""
    command = [sys.executable, "-m", "workbench", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_bare_command_lists_the_recipes_with_a_line_each(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("description: my own recipe\nsteps: [leaderboard]\n")
    result = workbench(cwd=tmp_path)
    assert result.returncode == 0
    for line in ("quickstart ", "leaderboard ", "mine "):
        assert any(text.strip().startswith(line) for text in result.stdout.splitlines())
    assert "my own recipe" in result.stdout


HEAVY = {"torch", "transformers", "datasets", "peft", "numpy", "scipy", "sklearn", "pandas", "pyarrow"}
"""Packages that the command line must not import before a run starts: each takes a part of a second."""


@pytest.mark.parametrize("words", [[], ["--keys", "chat"]])
def test_the_bare_command_and_the_keys_load_nothing_heavy(tmp_path, words):
    program = (
        f"import sys; sys.argv = {['workbench', *words]!r}\n"
        "from workbench.cli import main\nmain()\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_asking_for_the_configuration_loads_nothing_heavy(tmp_path):
    program = (
        "import sys; sys.argv = ['workbench', 'recipe=quickstart', '--cfg', 'job']\n"
        "from workbench.cli import main\nmain()\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "method: nf4" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipe=nope"], ["recipe: unknown option 'nope'", "quickstart"]),
        (["train.max_steps=3"], ["recipe: missing", "quickstart"]),
        (
            ["recipe=quickstart", "train.mx_steps=3"],
            ["train.mx_steps: no such key (did you mean train.max_steps"],
        ),
        (["recipe=quickstart", "model.pth=x"], ["(did you mean model.path?)"]),
        (["recipe=quickstart", "+train.max_step=3"], ["(did you mean train.max_steps?)"]),
        (["recipe=quickstart", "modle.path=x"], ["(did you mean model.path?)"]),
        (["recipe=quickstart", "benchmarks.cmmlu.limit=3"], ["choose it: 'benchmark=[...,cmmlu]'"]),
        (["recipe=quickstart", "benchmarks.toy_text_cn.limit=3"], ["did you mean benchmarks.toy_text_en"]),
        (["recipe=quickstart", "data.sources.a.path=x"], ["'data.sources={NAME: {path: FILE}}'"]),
        (["recipe=quickstart", "train.max_steps=many"], ["train.max_steps", "many", "Integer"]),
        (["recipe=quickstart", "train.score_on=toy"], ["as in 'train.score_on=[toy]'"]),
        (["recipe=quickstart", "train.max_steps=-7"], ["train.max_steps", "-7"]),
        (["recipe=sft", "data=a.jsonl"], ["unknown option 'a.jsonl' (known: none; data.path=a.jsonl)"]),
        (
            ["recipe=merge", "merge.adapters=[a,b]"],
            ["merge.adapters: an entry is a mapping with path, weight"],
        ),
        (
            ["recipe=merge", "merge.adapters=[{path: a, wieght: 2}]"],
            ["merge.adapters: no such key ('wieght'; known: path, weight)"],
        ),
        (["recipe=sft", "export=gguf"], ["export: a section, not a value", "export.format=..."]),
        (["recipe=quickstart", "quantization=nf5"], ["quantization: unknown option 'nf5'", "nf4"]),
        (
            ["recipe=plan", "model.path=x", "adapter.method=lroa"],
            ["adapter.method: unknown option 'lroa' (did you mean road or lora or loha?", "conf/README.md"],
        ),
        (["recipe=plan", "quantization.method=nf5"], ["quantization.method: unknown", "none, int8, nf4"]),
        (["recipe=evaluate", "run_dir=nowhere"], ["run_dir", "nowhere"]),
        (["recipe=quickstart", "steps=[train,dance]"], ["steps", "dance", "train, merge"]),
        (["recipe=sft"], ["error: model.path: not given"]),
        (["recipe=sft", "model.path=模型目录", "data.path=数据.jsonl"], ["model.path: ", "'模型目录'"]),
        (["--recipe", "sft"], ["here it is recipe=sft"]),
        (["recipe=quickstart", "benchmark=[quizz]"], ["benchmark/quizz", "(known: afqmc, ", "cmmlu, "]),
    ],
)
def test_a_mistake_ends_in_one_clear_line_and_nothing_written(tmp_path, arguments, words):
    result = workbench(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: "), result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("title: a site\n", "is not a run folder, its config.yaml has no 'model'"),
        ("model: small\n", "is not a run folder, its config.yaml has no 'model'"),
        ("model: {path: [}\n", "config.yaml: not YAML"),
        ("- a\n- b\n", "config.yaml: not a configuration"),
        (None, "run_dir: 'there' is a file, not a folder"),
    ],
)
@pytest.mark.parametrize("recipe", ["quickstart", "evaluate"])
def test_a_folder_of_something_else_is_no_run(tmp_path, recipe, written, words):
    if written is None:
        (tmp_path / "there").write_text("mine")
    else:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "config.yaml").write_text(written)
    result = workbench(f"recipe={recipe}", "run_dir=there", cwd=tmp_path)
    assert result.returncode == 1 and words in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")


def test_a_key_that_a_recipe_of_ones_own_mistypes_is_named_with_the_one_that_is_meant(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("train:\n  lerning_rate: 1\n")
    result = workbench("recipe=mine", cwd=tmp_path)
    assert "In 'recipe/mine'" in result.stderr and "(did you mean train.learning_rate?)" in result.stderr


def test_a_benchmark_of_ones_own_in_conf_needs_one_small_file(tmp_path):
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark" / "quiz.yaml").write_text(OWN)
    (tmp_path / "quiz.csv").write_text("question,A,B,answer\nWhich is larger?,3,7,B\n")
    result = workbench("recipe=quickstart", "benchmark=[quiz,toy_choice_en]", "--cfg", "job", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "quiz:" in result.stdout and "toy_choice_en:" in result.stdout


def test_a_benchmark_of_ones_own_with_the_name_of_a_shipped_one_is_refused_unless_it_is_a_copy(tmp_path):
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    own = tmp_path / "conf" / "benchmark" / "piqa.yaml"
    own.write_text(OWN.replace("quiz", "piqa"))
    result = workbench("recipe=quickstart", "benchmark=[piqa]", "--cfg", "job", cwd=tmp_path)
    assert result.stderr.startswith("error: conf/benchmark/piqa.yaml: 'piqa' is also a benchmark of /")
    assert result.stderr.endswith("piqa.yaml, which would be taken (rename the file)\n")
    own.write_bytes((shipped("conf") / "benchmark" / "piqa.yaml").read_bytes())
    result = workbench("recipe=quickstart", "benchmark=[piqa]", "--cfg", "job", cwd=tmp_path)
    assert result.returncode == 0 and "piqa:" in result.stdout, result.stderr


def test_a_file_of_ones_own_in_conf_data_or_conf_train_is_an_option_of_that_group(tmp_path):
    for group, text in (("data", "truncation: drop\n"), ("train", "max_steps: 5\n")):
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    result = workbench("recipe=sft", "data=mine", "train=mine", "--cfg", "job", cwd=tmp_path)
    assert "truncation: drop" in result.stdout and "max_steps: 5" in result.stdout, result.stderr


OWN = """\
# @package benchmarks.quiz
path: quiz.csv
language: en
output_type: multiple_choice
question: "{{ question }}\\nA. {{ A }}\\nB. {{ B }}\\nAnswer:"
choices: [A, B]
options: [A, B]
target: "{{ answer }}"
"""


def test_a_broken_recipe_file_is_named(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.yaml").write_text("steps: [train\n")
    result = workbench("recipe=quickstart", cwd=tmp_path)
    assert result.returncode == 1
    assert "broken.yaml" in result.stderr and result.stderr.count("\n") == 1


def test_the_version_is_a_number():
    assert __version__[0].isdigit()


@pytest.mark.parametrize("start", [["-m", "workbench"], ["-c", "from workbench.cli import main; main()"]])
def test_a_command_in_a_folder_that_was_deleted_is_one_line(tmp_path, start):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'cd {gone} && rmdir {gone} && exec {sys.executable} "$@"'
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["sh", "-c", script, "sh", *start, "recipe=quickstart"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 1
    assert ended.stderr == "error: the current folder was deleted (cd into another one)\n"


def test_no_line_of_the_help_is_wider_than_80_columns(tmp_path):
    lines = workbench("--help", cwd=tmp_path).stdout.splitlines()
    assert (
        any(re.match("  (.+, )?ceval, chat-zh-en", line) for line in lines)
        and max(map(len, lines)) <= 80
        and lines[-1]
    )
