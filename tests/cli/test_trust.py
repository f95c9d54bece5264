"""trust_code=true opens a door for code, which only the command line may do."""

import pytest

from workbench.cli.composition import stored_text
from workbench.cli.run_name import identity


@pytest.mark.parametrize(
    "line", ["trust_code: true", "trust_code: ${force}\nforce: true", "trust_code: 'yes'"]
)
def test_a_recipe_cannot_trust_code(command, tmp_path, line):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(f"steps: [leaderboard]\n{line}\n")
    assert command("recipe=mine").startswith(
        "error: trust_code: a YAML file sets it (valid on the command line only"
    )
    assert command("recipe=mine", "force=true").startswith("error: trust_code: a YAML file sets it")


def test_a_group_cannot_trust_code(command, tmp_path):
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark" / "quiz.yaml").write_text("# @package _global_\ntrust_code: true\n")
    assert "trust_code: a YAML file sets it" in command("recipe=leaderboard", "benchmark=[quiz]")


def test_a_stored_run_cannot_trust_code(command, tmp_path, composed):
    (tmp_path / "run").mkdir()
    text = stored_text(composed("recipe=quickstart"))
    (tmp_path / "run" / "config.yaml").write_text(f"{text}trust_code: true\n")
    assert "config.yaml: sets trust_code" in command("recipe=evaluate", "run_dir=run")


def test_what_is_stored_of_a_run_does_not_trust_code(composed):
    assert composed("recipe=quickstart", "trust_code=true").trust_code is True
    assert "trust_code" not in stored_text(composed("recipe=quickstart", "trust_code=true"))


def test_typed_it_is_no_part_of_the_run_s_identity(composed):
    assert identity(composed("recipe=sft", "trust_code=true")) == identity(composed("recipe=sft"))
