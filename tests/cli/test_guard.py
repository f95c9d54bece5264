"""A YAML runs no code: what it may say to Hydra is where and how a sweep runs."""

import os
import sys

import pytest
from hydra.core.config_store import ConfigStore

from workbench.cli.plugins import registered_targets

MARK = "_target_: evil.mark"
"""Hydra would import evil.py, which makes a file called marker; mark() makes one called called."""

INIT = "'${model.init}'"

RECIPES = {
    "callback": f"hydra: {{callbacks: {{x: {{{MARK}}}}}}}",
    "callback of the standard library": "hydra: {callbacks: {x: {_target_: os.makedirs, name: marker}}}",
    "nested callback": f"hydra: {{callbacks: {{x: {{_target_: builtins.dict, y: {{{MARK}}}}}}}}}",
    "launcher": f"hydra: {{launcher: {{{MARK}}}}}",
    "inside a launcher": f"hydra: {{launcher: {{x: {{{MARK}}}}}}}",
    "list inside a launcher": f"hydra: {{launcher: {{x: [1, [{{{MARK}}}]]}}}}",
    "sweeper": f"hydra: {{mode: MULTIRUN, sweeper: {{{MARK}}}}}",
    "inside a sweeper": f"hydra: {{mode: MULTIRUN, sweeper: {{params: {{seed: '1'}}, sampler: {{{MARK}}}}}}}",
    "target by interpolation": "description: evil.mark\nhydra: {launcher: {_target_: '${description}'}}",
    "launcher by interpolation": f"model: {{init: {{{MARK}}}}}\nhydra: {{launcher: {INIT}}}",
    "launcher's key by interpolation": f"model: {{init: {{{MARK}}}}}\nhydra: {{launcher: {{x: {INIT}}}}}",
    "a mapping made by a resolver": "hydra: {sweeper: {x: '${oc.create:{_target_: evil.mark}}'}}",
    "a mapping decoded": "hydra: {sweeper: {x: '${oc.decode:\"{_target_: evil.mark}\"}'}}",
    "a sweep of Hydra's keys": "hydra: {sweeper: {params: {+hydra.callbacks.x._target_: evil.mark}}}",
    "a search over Hydra's keys": "hydra: {sweeper: {search_space: {hydra.verbose: {choices: [true]}}}}",
    "a sweep of Hydra's groups": "hydra: {mode: MULTIRUN, sweeper: {params: {hydra/callbacks: mine}}}",
    "a sweep that trusts code": "hydra: {mode: MULTIRUN, sweeper: {params: {trust_code: 'true'}}}",
    "a sweep of recipes": "hydra: {mode: MULTIRUN, sweeper: {params: {recipe: 'leaderboard,callback'}}}",
    "environment": "hydra: {job: {env_set: {MARKED: x}}}",
    "environment copied": "hydra: {job: {env_copy: [HOME]}}",
    "logging": "hydra: {job_logging: {version: 1, handlers: {x: {(): evil.mark}}, root: {handlers: [x]}}}",
    "bad logging": "hydra: {job_logging: {version: nine}}",
    "Hydra's logging": "hydra: {hydra_logging: {version: 1, formatters: {x: {class: evil.mark}}}}",
    "overrides for the jobs": "hydra: {overrides: {hydra: ['hydra.job.env_set.MARKED=x']}}",
    "overrides that trust": "trust_code: true\nhydra: {overrides: {task: ['trust_code=true']}}",
    "output folder": "hydra: {output_subdir: marker}",
    "change of folder": "hydra: {job: {chdir: true}, run: {dir: marker}}",
    "verbose": "hydra: {verbose: true}",
    "help": "hydra: {help: {template: hello}}",
    "search path": "hydra: {searchpath: ['pkg://evil']}",
    "group of callbacks": "defaults: [{override /hydra/callbacks: mine}]",
    "submitit's setup": "hydra: {launcher: {setup: [touch marker]}}",
    "submitit's python": "hydra: {launcher: {python: 'touch marker;'}}",
    "submitit's arguments": "hydra: {launcher: {srun_args: ['--prolog=x'], additional_parameters: {x: y}}}",
    "line of a batch file": 'hydra: {launcher: {comment: "x\\ntouch marker #"}}',
    "optuna's own search": "hydra: {sweeper: {custom_search_space: evil.mark}}",
    "ray's environment": "hydra: {launcher: {ray: {runtime_env: {pip: [evil]}}}}",
}


@pytest.fixture
def plugins():
    """A launcher and a sweeper that take any setting, as those of installed plugins take many."""
    store = ConfigStore.instance()
    names = {"launcher": "basic_launcher.BasicLauncher", "sweeper": "basic_sweeper.BasicSweeper"}
    for group, name in names.items():
        node = {"_target_": f"hydra._internal.core_plugins.{name}"}
        store.store(group=f"hydra/{group}", name="open", node=node)
    yield
    for group in names:
        del store.repo["hydra"][group]["open.yaml"]


@pytest.fixture
def hostile(tmp_path, monkeypatch, command, plugins):
    """A folder with evil.py that Python would import, and what must not have happened there."""
    (tmp_path / "evil.py").write_text(
        "from pathlib import Path\nPath('marker').touch()\ndef mark(*a, **k): Path('called').touch()\n"
    )
    (tmp_path / "conf" / "hydra" / "callbacks").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark").mkdir()
    (tmp_path / "conf" / "hydra" / "callbacks" / "mine.yaml").write_text(f"x: {{{MARK}}}\n")
    (tmp_path / "recipes").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MARKED", raising=False)
    before = {path.name for path in tmp_path.iterdir()}

    def hostile(*words: str) -> str:
        error = command(*words)
        assert {path.name for path in tmp_path.iterdir()} == before, "a file was made"
        assert "evil" not in sys.modules and "MARKED" not in os.environ and os.getcwd() == str(tmp_path)
        return error

    return hostile


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_no_code_and_is_refused_with_its_key(hostile, tmp_path, name):
    (tmp_path / "recipes" / "callback.yaml").write_text(f"steps: [leaderboard]\n{RECIPES['callback']}\n")
    (tmp_path / "recipes" / "mine.yaml").write_text(f"steps: [leaderboard]\n{RECIPES[name]}\n")
    error = hostile("recipe=mine", "hydra/launcher=open", "hydra/sweeper=open")
    named = any(
        file in error for file in ("recipes/mine.yaml", "recipe/mine", "callback.yaml", "callbacks/mine")
    )
    assert error.startswith("error: ") and named and "hydra." in error, error


@pytest.mark.parametrize("package", ["_global_", "hydra", "hydra.callbacks", "hydra.callbacks.x"])
def test_a_group_s_package_is_no_way_round(hostile, tmp_path, package):
    inner = {"_global_": f"hydra: {{callbacks: {{x: {{{MARK}}}}}}}", "hydra": f"callbacks: {{x: {{{MARK}}}}}"}
    text = inner.get(package, f"x: {{{MARK}}}" if package == "hydra.callbacks" else MARK)
    (tmp_path / "conf" / "benchmark" / "quiz.yaml").write_text(f"# @package {package}\n{text}\n")
    error = hostile("recipe=leaderboard", "benchmark=[quiz]")
    assert "conf/benchmark/quiz.yaml: hydra.callbacks" in error
    assert "hydra.callbacks" in hostile("-m", "recipe=leaderboard", "benchmark=[toy_text_en],[quiz]")
    assert "hydra.callbacks" in hostile("-m", "recipe=leaderboard", "benchmark=choice([toy_text_en],[quiz])")


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["--info", "all"], ["-m", "seed=1,2"]])
def test_no_flag_is_a_way_round(hostile, tmp_path, words):
    (tmp_path / "recipes" / "mine.yaml").write_text(f"{RECIPES['logging']}\n")
    assert "recipes/mine.yaml: hydra.job_logging" in hostile("recipe=mine", *words)


def test_a_sweep_over_recipes_is_looked_at_whole(hostile, tmp_path):
    (tmp_path / "recipes" / "callback.yaml").write_text(f"{RECIPES['callback']}\n")
    assert "callback.yaml: hydra.callbacks.x" in hostile("-m", "recipe=leaderboard,callback")
    assert "callback.yaml: hydra.callbacks.x" in hostile("-m", "recipe=glob(call*)")


@pytest.mark.parametrize(
    "text", ["hydra: {searchpath: ['pkg://evil']}", "hydra: ${x}\nx: {searchpath: ['pkg://evil']}"]
)
def test_a_primary_configuration_of_one_s_own_imports_no_package(hostile, tmp_path, text):
    (tmp_path / "conf" / "mine.yaml").write_text(f"defaults: [config, _self_]\n{text}\n")
    error = hostile("--config-name", "mine", "recipe=leaderboard")
    assert "conf/mine.yaml: hydra.searchpath" in error
    assert "mine.yaml: hydra.searchpath" in hostile("--config-path=conf", "--config-name=mine")


def test_what_is_typed_is_the_user_s_own(command):
    assert "A: b" in command("recipe=leaderboard", "+hydra.job.env_set.A=b", "--cfg", "hydra")


def test_a_folder_that_a_yaml_names_is_not_made_before_a_mistake_is_refused(hostile, tmp_path):
    (tmp_path / "recipes" / "mine.yaml").write_text("hydra: {run: {dir: made/by/hydra}}\ncontinues: true\n")
    assert "run_dir: 'nowhere' is not a run folder" in hostile("recipe=mine", "run_dir=nowhere")


def test_a_sweep_s_folder_and_plugins_own_settings_may_stand_in_a_yaml(command, tmp_path):
    (tmp_path / "recipes").mkdir()
    sweeper = "sweeper: {max_batch_size: 2, params: {seed: '1,2'}}"
    text = f"hydra: {{sweep: {{dir: a, subdir: '${{hydra.job.num}}'}}, {sweeper}}}"
    (tmp_path / "recipes" / "mine.yaml").write_text(f"steps: [leaderboard]\n{text}\n")
    shown = command("recipe=mine", "--cfg", "hydra")
    assert "max_batch_size: 2" in shown and "seed: 1,2" in shown and "dir: a" in shown


def test_a_target_counts_where_an_installed_plugin_has_registered_it():
    store = ConfigStore.instance()
    assert "optuna.samplers.TPESampler" not in registered_targets()
    store.store(group="hydra/sweeper/sampler", name="tpe", node={"_target_": "optuna.samplers.TPESampler"})
    try:
        assert "optuna.samplers.TPESampler" in registered_targets()
    finally:
        del store.repo["hydra"]["sweeper"]["sampler"]
    assert "evil.mark" not in registered_targets()


BOMB = "\n".join(["a0: &a0 [1, 2]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}1]" for n in range(1, 12))])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (BOMB, "expands to "),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "{a: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("- " * 3000 + "1", "nested too deeply"),
        ("a: 0x" + "f" * 5000, "a number of 5,002 characters (at most 400)"),
        ("a: " + "9" * 5000, "a number of 5,000 characters (at most 400)"),
        ("# no values\n" * 1_000_000, "12,000,000 bytes (at most 1,048,576 are allowed)"),
    ],
)
@pytest.mark.parametrize("place", ["recipes/mine.yaml", "conf/benchmark/quiz.yaml", "run/config.yaml"])
def test_a_yaml_that_unfolds_without_end_or_is_huge_is_refused(hostile, tmp_path, place, text, answer):
    (tmp_path / "run").mkdir()
    (tmp_path / place).write_text(text)
    (tmp_path / "run").rename(tmp_path / "conf" / "run")
    error = hostile(
        "recipe=evaluate", "benchmark=[quiz]" if "quiz" in place else "seed=1", "run_dir=conf/run"
    )
    assert f"{place}: {answer}" in error


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"a: *x", "found undefined alias 'x'"),
        (b"path: a\npath: b", "found duplicate key path"),
        (b"? [a, b]\n: c", "found unhashable key"),
        (b"a: !!python/name:os.system", "could not determine a constructor"),
        (b"a: !!timestamp 2001-13-45", "month must be in 1..12"),
        (b"a: \xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
@pytest.mark.parametrize("place", ["recipes/mine.yaml", "conf/benchmark/quiz.yaml"])
def test_what_is_no_yaml_is_said_in_one_line_with_its_file(hostile, tmp_path, place, text, answer):
    (tmp_path / place).write_bytes(text)
    error = hostile("recipe=mine" if "mine" in place else "recipe=evaluate", "benchmark=[quiz]")
    assert f"{place}: not YAML: " in error and answer in error


def test_a_pipe_or_device_among_the_yamls_is_refused_and_not_read(hostile, tmp_path):
    os.mkfifo(tmp_path / "conf" / "benchmark" / "quiz.yaml")
    assert "conf/benchmark/quiz.yaml: not a regular file" in hostile("recipe=leaderboard")
    (tmp_path / "conf" / "benchmark" / "quiz.yaml").unlink()
    (tmp_path / "recipes" / "mine.yaml").symlink_to("/dev/zero")
    assert "recipes/mine.yaml: not a regular file" in hostile("recipe=leaderboard")


def test_a_yaml_that_names_itself_in_its_defaults_is_refused(hostile, tmp_path):
    (tmp_path / "conf" / "benchmark" / "quiz.yaml").write_text("defaults: [quiz]\n")
    assert "a YAML file includes itself in its" in hostile("recipe=leaderboard", "benchmark=[quiz]")


def test_a_schema_of_one_s_own_hides_not_ours(hostile, tmp_path):
    (tmp_path / "conf" / "schema.yaml").write_text("trust_code: true\n")
    assert "conf/schema.yaml: hides the workbench's own schema" in hostile("recipe=leaderboard")


def test_a_launcher_of_one_s_own_hides_not_hydra_s(hostile, tmp_path):
    (tmp_path / "conf" / "hydra" / "launcher").mkdir()
    (tmp_path / "conf" / "hydra" / "launcher" / "basic.yaml").write_text(f"{MARK}\n")
    assert "conf/hydra/launcher/basic.yaml: hydra.launcher._target_: no installed" in hostile("recipe=sft")


def test_hydra_s_own_configuration_cannot_be_replaced(hostile, tmp_path):
    (tmp_path / "conf" / "hydra" / "config.yaml").write_text(f"callbacks: {{x: {{{MARK}}}}}\n")
    assert hostile("recipe=leaderboard").startswith("error: ")


def test_a_recipe_below_the_groups_is_looked_at_too(hostile, tmp_path):
    (tmp_path / "conf" / "recipe").mkdir()
    (tmp_path / "conf" / "recipe" / "below.yaml").write_text(f"# @package _global_\n{RECIPES['callback']}\n")
    assert "conf/recipe/below.yaml: hydra.callbacks.x" in hostile("recipe=below")
    (tmp_path / "conf" / "recipe" / "below.yaml").write_text("# @package _global_\nsteps: []\n")
    assert "steps: empty" in hostile("recipe=below")
