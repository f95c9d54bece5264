"""What a YAML reads from the environment is used and never shown."""

import pytest
from omegaconf import OmegaConf

from workbench import shown
from workbench.cli.composition import stored_text
from workbench.cli.environment import check_environment, register_environment
from workbench.errors import ConfigError


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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run_dir", "runs/${oc.env:MY_TOKEN}"),
        ("run_dir", "runs/${model.revision}"),
        ("leaderboard.folder", "${oc.env:MY_TOKEN}"),
        ("predict.output", "out/${oc.env:MY_TOKEN}.jsonl"),
        ("export.path", "out/${oc.env:MY_TOKEN}"),
        ("benchmarks.toy_exact_en.question", "{{ '${oc.env:MY_TOKEN}' | reverse }}"),
        ("benchmarks.toy_exact_en.generation.pattern", "(${oc.env:MY_TOKEN}).*"),
        ("benchmarks.toy_exact_en.description", "${oc.env:MY_TOKEN}"),
        ("data.columns.text", "{{ '${oc.env:MY_TOKEN}'[:5] }}"),
    ],
)
def test_a_value_that_would_name_a_file_or_go_into_a_template_is_refused(command, key, value):
    said = command("recipe=quickstart", "model.revision=${oc.env:MY_TOKEN}", f"++{key}='{value}'")
    assert said.removeprefix("error: ").startswith(f"{key}: ")
    assert "may hold a secret from the environment" in said and "abcdefg" not in said


def test_where_rows_and_models_are_may_come_from_the_environment(composed, monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/data/not/there/yet")
    config = composed(
        "recipe=quickstart",
        "model.path=${oc.env:DATA_DIR}/m",
        "data.path=${oc.env:DATA_DIR}/x.csv",
        "benchmarks.toy_exact_en.path=${oc.env:DATA_DIR}/items.csv",
    )
    check_environment(config)
    assert config.data.path == "/data/not/there/yet/x.csv"


def test_variables_of_the_system_name_folders_and_are_shown(composed, monkeypatch):
    for name, value in (("USER", "somebody"), ("SLURM_JOB_NAME", "tuning"), ("SLURM_JWT", "eyJhbGciOi")):
        monkeypatch.setenv(name, value)
    check_environment(composed("recipe=quickstart", "run_dir=runs/${oc.env:USER}/${oc.env:SLURM_JOB_NAME}"))
    assert shown.clean("/home/somebody/tuning") == "/home/somebody/tuning"
    with pytest.raises(ConfigError, match="run_dir: names a file or folder"):
        check_environment(composed("recipe=quickstart", "run_dir=runs/${oc.env:SLURM_JWT}"))


def test_a_missing_variable_is_named(command):
    assert "Environment variable 'NOT_THERE' not found" in command(
        "recipe=sft", "model.path=${oc.env:NOT_THERE}"
    )
