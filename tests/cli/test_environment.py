"""What a YAML reads from the environment is used and never shown."""

import pytest
from omegaconf import OmegaConf

from workbench import shown
from workbench.cli.composition import stored_text
from workbench.cli.environment import register_environment


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setattr(shown, "_secrets", set())
    monkeypatch.setenv("MY_TOKEN", "hf_abcdefg")
    register_environment()


def read(expression):
    return OmegaConf.create({"value": expression}).value


def test_the_value_is_used_and_remembered_as_a_secret():
    assert read("${oc.env:MY_TOKEN}") == "hf_abcdefg"
    assert shown.clean("download with hf_abcdefg failed") == "download with *** failed"


def test_defaults_numbers_paths_and_short_words_are_no_secrets(monkeypatch, tmp_path):
    for name, value in (("NUMBER", "123456.5"), ("FOLDER", str(tmp_path)), ("WORD", "main")):
        monkeypatch.setenv(name, value)
        assert read(f"${{oc.env:{name}}}") == value and shown.clean(value) == value
    assert read("${oc.env:NOT_THERE,default_value}") == "default_value"
    assert read("${oc.env:NOT_THERE,null}") is None and shown.clean("default_value") == "default_value"


def test_what_is_stored_of_a_run_holds_the_interpolation(composed):
    text = stored_text(composed("recipe=quickstart", "model.revision=${oc.env:MY_TOKEN}"))
    assert "revision: ${oc.env:MY_TOKEN}" in text and "hf_abcdefg" not in text


def test_no_error_and_no_shown_configuration_holds_the_value(command, tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(
        "steps: [train]\nevaluate: {models: ['${oc.env:MY_TOKEN}']}\n"
    )
    assert "unknown model '***'" in command("recipe=mine")
    printed = command("recipe=mine", "--cfg", "job", "--resolve")
    assert "- '***'" in printed or "- ***" in printed
    assert "hf_abcdefg" not in printed


def test_a_missing_variable_is_named(command):
    assert "Environment variable 'NOT_THERE' not found" in command(
        "recipe=sft", "model.path=${oc.env:NOT_THERE}"
    )
