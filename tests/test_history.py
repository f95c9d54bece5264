"""Runs of earlier versions keep their names and fingerprints, whatever keys and defaults came later."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from workbench import cli
from workbench.cli import composition, run_name, stored_run
from workbench.config import Config, DataConfig, TrainConfig, history
from workbench.config.data import SourceConfig
from workbench.config.history import ChangedDefault
from workbench.errors import ConfigError
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.evaluation.records import Example
from workbench.pipeline import run_results
from workbench.pipeline.merge import merge_inputs
from workbench.pipeline.run import with_validation_fraction
from workbench.pipeline.run_models import model_identities
from workbench.pipeline.run_results import example_values, scoring_fingerprint
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import content, recipe_fingerprint, training_inputs
from workbench.run_dir import RunDir, fingerprint

FIRST = Path(__file__).parent / "fixtures" / "first_version"
"""What version 1 of the configuration gave: names of runs, and the record of `SHORT` without its weights."""

SHORT = ("train.max_steps=4", "train.save_steps=2")
LIMITS = ("benchmarks.toy_choice_en.limit=4", "benchmarks.toy_choice_zh.limit=4")
FIRST_ROWS = ("benchmarks.toy_choice_en.sample=first", "benchmarks.toy_choice_zh.sample=first")
NAMES = json.loads((FIRST / "names.json").read_text())


@pytest.fixture(autouse=True)
def composing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cli.register()
    typed(monkeypatch)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.shipped("conf")), version_base="1.3"):
        yield
    cli.register()  # a test may have stored a schema of its own
    history.changed_default.cache_clear()


def typed(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """Let Hydra say that these overrides were typed."""
    node = OmegaConf.create({"overrides": {"task": list(overrides), "hydra": []}})
    monkeypatch.setattr(composition.HydraConfig, "get", lambda: node)


def composed(*overrides: str) -> DictConfig:
    return compose("config", overrides=list(overrides))


def name(*overrides: str) -> str:
    return run_name.run_name(overrides[0].removeprefix("recipe="), composed(*overrides))


def config(*overrides: str) -> Config:
    made = OmegaConf.to_object(composed(*overrides))
    assert isinstance(made, Config)
    return with_validation_fraction(made, RunDir(Path("nowhere")))


@pytest.mark.parametrize(("expected", "overrides"), NAMES, ids=[name for name, _ in NAMES])
def test_a_run_has_the_name_that_the_first_version_gave_it(expected, overrides):
    assert name(*overrides) == expected


def test_another_seed_is_the_same_recipe_and_other_rows_are_another(tmp_path):
    rows = tmp_path / "rows.jsonl"

    def recipe(content: str, seed: int) -> str:
        rows.write_text(content)
        return recipe_fingerprint(
            training_inputs(config("recipe=quickstart", f"data.path={rows}", f"seed={seed}"))
        )

    assert recipe("one", 1) == recipe("one", 2) != recipe("two", 2)


def test_the_steps_of_a_run_of_the_first_version_have_the_fingerprints_that_it_gave_them(tmp_path):
    recorded = json.loads((FIRST / "inputs.json").read_text())
    ours = config("recipe=quickstart", *SHORT, *LIMITS, *FIRST_ROWS)
    assert fingerprint(training_inputs(ours)) == recorded["steps"]["train"]
    inputs = merge_inputs(ours, recorded["adapter"], content(ours.model.path))
    assert fingerprint(inputs) == recorded["steps"]["merge"]
    base = model_identities(Run(ours, RunDir(tmp_path)))["base"]
    for key, prepared in prepare_benchmarks(ours.benchmarks, ours.evaluate).items():
        is_generated = key.startswith("toy_exact")  # those are scored again: texts are compared otherwise now
        adapter = {**base, "adapter": recorded["adapter"]}
        for name, identity in {"base": base, "adapter": adapter}.items():
            is_same = (
                scoring_fingerprint(identity, prepared, ours) == recorded["steps"][f"evaluate/{name}/{key}"]
            )
            assert is_same is not is_generated


def test_the_language_of_an_item_is_in_the_settings_and_not_in_its_values():
    rotation = Example(id="1", questions=("q",), target=0)
    example = replace(rotation, rotations=(rotation,))
    chinese = replace(example, language="zh", rotations=(replace(rotation, language="zh"),))
    assert example_values(chinese) == example_values(example) != example_values(rotation)


def test_a_score_is_computed_again_where_thoughts_are_no_longer_read(tmp_path, monkeypatch):
    ours = config("recipe=quickstart", *SHORT, *LIMITS)
    base = model_identities(Run(ours, RunDir(tmp_path)))["base"]
    prepared = prepare_benchmarks(ours.benchmarks, ours.evaluate)["toy_exact_zh"]
    as_harness = replace(prepared, config=replace(prepared.config, protocol="lm-eval"))
    rules = []
    monkeypatch.setattr(run_results, "fingerprint", lambda values: rules.append(values[1]))
    for benchmark in (prepared, as_harness):
        run_results.scoring_fingerprint(base, benchmark, ours)
    assert [rule.get("thoughts") for rule in rules] == ["not read", None]


def test_a_stored_key_that_is_a_constant_today_is_dropped_where_it_had_that_value():
    stored = {"merge": {"dtype": "auto", "probe_size": 16, "tolerance": 0.01}}
    merge = history.completed(stored, Config, "", 1)["merge"]
    assert (merge["dtype"], merge["tolerance"]) == ("auto", 0.01)
    assert "probe_size" not in merge


def test_a_run_without_the_kernels_is_another_run_and_scores_anew(tmp_path):
    plain = config("recipe=quickstart", "model.fused=false")
    assert name("recipe=quickstart", "model.fused=true") == name("recipe=quickstart")
    assert name("recipe=quickstart", "model.fused=false") != name("recipe=quickstart")
    base, plain_base = (
        model_identities(Run(ours, RunDir(tmp_path)))["base"] for ours in (config("recipe=quickstart"), plain)
    )
    assert plain_base == {**base, "fused": False}


Train = make_dataclass("TrainConfig", [("warm_restarts", int, 0)], bases=(TrainConfig,), kw_only=True)
Source = make_dataclass("SourceConfig", [("language", str, "any")], bases=(SourceConfig,), kw_only=True)


@dataclass(kw_only=True)
class Data(DataConfig):
    sources: dict[str, Source] = field(default_factory=dict)
    seed: int | None = None


Data.__name__ = "DataConfig"


@dataclass(kw_only=True)
class Later(Config):
    train: Train = field(default_factory=Train)
    data: Data = field(default_factory=Data)


@pytest.fixture
def later() -> None:
    """A later version: the sections have further keys."""
    schema = OmegaConf.structured(Later)
    for key in composition.OPEN:
        OmegaConf.set_struct(OmegaConf.select(schema, key), False)
    ConfigStore.instance().store(name="schema", node=schema, provider="workbench.config")


@pytest.mark.parametrize(("expected", "overrides"), NAMES, ids=[name for name, _ in NAMES])
def test_keys_that_are_added_later_leave_names_as_they_were(later, expected, overrides):
    assert "warm_restarts" in composed(*overrides).train
    assert name(*overrides) == expected


def test_keys_that_are_added_later_make_another_run_of_it_where_they_are_used(later):
    plain = name("recipe=quickstart", *SHORT)
    assert len({plain, *(name("recipe=quickstart", *SHORT, more) for more in LATER_VALUES)}) == 3
    sources = ["recipe=sft", "data.sources={a: {path: x}}", "data.sources={a: {path: x, language: zh}}"]
    assert name(*sources[:2]) != name(sources[0], sources[2])


LATER_VALUES = ("train.warm_restarts=1", "data.seed=3")


def test_keys_that_are_added_later_leave_the_fingerprints_of_steps_as_they_were(later):
    recorded = json.loads((FIRST / "inputs.json").read_text())["steps"]["train"]
    ours = config("recipe=quickstart", *SHORT)
    assert isinstance(ours.train, Train)
    assert fingerprint(training_inputs(ours)) == recorded
    ours.train.warm_restarts = 1
    assert fingerprint(training_inputs(ours)) != recorded


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version in which two defaults are other ones than in version 1, which had no name for one of them."""
    table = (
        *history.CHANGED_DEFAULTS,
        ChangedDefault(version=2, key="train.max_grad_norm", old=0.5),
        ChangedDefault(version=2, key="data.sources.*.weight", old=3.0),
        ChangedDefault(version=2, key="train.warm_restarts", old=7),
    )
    monkeypatch.setattr(history, "CHANGED_DEFAULTS", table)
    history.changed_default.cache_clear()


def test_the_name_counts_a_changed_default_as_the_first_version_did(later, changed):
    section = {"max_steps": 4, "max_grad_norm": 1.0, "warm_restarts": 0}
    assert history.identity_values(section, Train, "train") == {"max_steps": 4, "max_grad_norm": 0.5}
    written_out = history.identity_values({"max_grad_norm": 0.5}, Train, "train")
    assert written_out == {"max_grad_norm": {"given": 0.5}}, "another run than one that leaves the key out"
    assert history.identity_values({"max_grad_norm": 0.5}, Train, "train", as_written=True) == {
        "max_grad_norm": 0.5
    }
    assert history.identity_values({"warm_restarts": 7}, Train, "train") == {"warm_restarts": 7}
    sources = {"sources": {"a": {"path": "x", "weight": 1.0}}}
    assert history.identity_values(sources, Data, "data") == {"sources": {"a": {"path": "x", "weight": 3.0}}}


def test_a_fingerprint_leaves_out_what_does_as_the_first_version_did(later, changed):
    assert "warm_restarts" not in history.hashed(Train(warm_restarts=7), "train")
    assert history.hashed(Train(), "train")["warm_restarts"] == 0
    assert history.hashed(Train(), "train")["max_grad_norm"] == 1.0


def test_a_key_that_a_stored_configuration_lacks_means_what_its_version_did_without_it(later, changed):
    stored = history.completed({"max_steps": 4}, Train, "train", version=1)
    assert (stored["max_steps"], stored["warm_restarts"], stored["max_grad_norm"]) == (4, 7, 0.5)
    assert stored["keep"] == "last" and stored["report_to"] == ["tensorboard"]
    assert history.completed({"max_steps": 4}, Train, "train", version=2)["warm_restarts"] == 0


def test_a_run_goes_on_with_the_defaults_that_it_began_with(later, changed):
    theirs = history.completed({"max_grad_norm": 0.5}, Train, "train", version=1)
    ours = history.completed({}, Train, "train", version=2)
    kept = {"train.max_grad_norm": 0.5, "train.warm_restarts": 7}
    assert history.kept_defaults(ours, theirs, Train, 1, "train") == kept
    assert history.kept_defaults({**ours, "warm_restarts": 1}, theirs, Train, 1, "train") == {
        "train.max_grad_norm": 0.5
    }
    assert history.kept_defaults(ours, theirs, Train, 2, "train") == {}
    other = {**theirs, "max_grad_norm": 0.9}
    assert "train.max_grad_norm" not in history.kept_defaults(ours, other, Train, 1, "train")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A folder that version 1 has written."""
    monkeypatch.chdir(tmp_path)
    run_dir = RunDir(Path("runs") / name("recipe=quickstart", *SHORT, *LIMITS))
    run_dir.path.mkdir(parents=True)
    run_dir.config_yaml.write_bytes((FIRST / "config.yaml").read_bytes())
    return run_dir


def goes_on(folder: RunDir, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> DictConfig:
    """The configuration that a command takes on in a folder."""
    typed(monkeypatch, *overrides)
    return stored_run.continued(composed(*overrides), folder)


def test_the_command_of_the_first_version_finds_its_folder_and_agrees_with_it(folder, monkeypatch):
    overrides = ("recipe=quickstart", *SHORT, *LIMITS)
    assert stored_run.own_folder("quickstart", composed(*overrides)) == folder.path
    ours = goes_on(folder, monkeypatch, *overrides)
    then = ["data.validation_fraction=0.0", *(f"benchmarks.{name}.sample=first" for name in ours.benchmarks)]
    assert ours == composed(*overrides, *then), "as the first version held none out and took the first rows"
    with pytest.raises(ConfigError, match="holds another run, with train.max_steps=4, not 5"):
        goes_on(folder, monkeypatch, "recipe=quickstart", "train.max_steps=5")


def test_a_recipe_that_goes_on_in_a_run_takes_an_interpolation_as_it_was_typed(folder, monkeypatch):
    ours = goes_on(folder, monkeypatch, "recipe=evaluate", "model.path=${toy:base}", "quantization=nf4")
    model = OmegaConf.to_container(ours.model, resolve=False)
    assert model["path"] == "${toy:base}", "as it is stored, so that the same command goes on"


def test_another_quantization_than_the_runs_is_named_by_its_key(folder, monkeypatch):
    with pytest.raises(ConfigError, match="holds another run, with quantization.method='nf4', not 'none'"):
        goes_on(folder, monkeypatch, "recipe=merge", f"run_dir={folder.path}", "quantization=none")


@pytest.mark.parametrize(
    "setting",
    ["device=cpu", "attention=eager", "fused=false", "compile=true", "tf32=true", "loss=liger"],
)
def test_a_key_that_changes_rounding_alone_may_differ_where_nothing_is_trained(setting, folder, monkeypatch):
    overrides = ("recipe=quickstart", *SHORT, *LIMITS, f"run_dir={folder.path}", f"model.{setting}")
    ours = goes_on(folder, monkeypatch, *overrides, "steps=[evaluate]")
    key, _, value = setting.partition("=")
    assert str(getattr(ours.model[key], "value", ours.model[key])).lower() == value
    way_out = r"or none; steps=\[evaluate\], which trains nothing, may set it\)"
    with pytest.raises(ConfigError, match=f"holds another run, with model.{key}=.*{way_out}"):
        goes_on(folder, monkeypatch, *overrides)


@pytest.mark.parametrize(
    "key", ["adapter.alpha", "adapter.rank", "adapter.method", "adapter.rank_pattern.q_proj"]
)
def test_a_key_about_a_new_adapter_has_no_effect_beside_one_that_is_named(key, monkeypatch):
    overrides = ["recipe=merge", "adapter.path=runs/mine/adapter"]
    typed(monkeypatch, *overrides, f"{key}=8")
    with pytest.raises(ConfigError, match=f"{key}: has no effect, the adapter at adapter.path="):
        composition.check_adapter_keys(composed(*overrides))
    typed(monkeypatch, *overrides, "adapter.base=accept")
    composition.check_adapter_keys(composed(*overrides))
    typed(monkeypatch, "recipe=sft", f"{key}=8")
    composition.check_adapter_keys(composed("recipe=sft"))


@pytest.mark.parametrize(
    "line", ["  keep: last\n", "  subset: null\n", "  init: {}\n"], ids=["keep", "subset", "init"]
)
def test_a_folder_whose_configuration_lacks_a_key_is_no_other_run(folder, monkeypatch, line):
    text = folder.config_yaml.read_text()
    assert line in text
    folder.config_yaml.write_text(text.replace(line, ""))
    goes_on(folder, monkeypatch, "recipe=quickstart", *SHORT, *LIMITS)
    merged = goes_on(folder, monkeypatch, "recipe=merge", f"run_dir={folder.path}")
    assert merged.train.max_steps == 4 and merged.quantization.method.name == "nf4"


def test_a_changed_default_of_a_folder_holds_on_in_it_unless_the_command_names_the_key(
    folder, monkeypatch, changed
):
    text = folder.config_yaml.read_text().replace("max_grad_norm: 1.0", "max_grad_norm: 0.5")
    folder.config_yaml.write_text(text)
    overrides = ("recipe=quickstart", *SHORT, *LIMITS)
    assert goes_on(folder, monkeypatch, *overrides).train.max_grad_norm == 0.5
    with pytest.raises(ConfigError, match=r"train.max_grad_norm=0.5, not 1.0"):
        goes_on(folder, monkeypatch, *overrides, "train.max_grad_norm=1.0")
    explicit = composed(*overrides, "train.max_grad_norm=0.5")
    assert run_name.run_name("quickstart", explicit) != folder.name, "a run of its own, elsewhere"
    earlier = RunDir(Path("runs") / run_name.run_name("quickstart", explicit, as_written=True))
    earlier.path.mkdir(exist_ok=True)
    earlier.config_yaml.write_text(text)
    assert stored_run.own_folder("quickstart", explicit) == earlier.path, "the first version's is found"


def test_a_signed_configuration_names_its_version_and_is_refused_when_changed(tmp_path):
    text = history.signed("a: 1\nb: 2\n")
    assert history.version_of(text, "config.yaml") == history.CONFIG_VERSION
    assert history.version_of("a: 1\n", "config.yaml") == 1
    for wrong in (text.replace("b: 2", "b: 3"), text.replace("a: 1\n", ""), text[:-3] + "\n"):
        with pytest.raises(ConfigError, match="config.yaml: was changed since the run wrote it"):
            history.version_of(wrong, "config.yaml")
    with pytest.raises(ConfigError, match="later version"):
        history.version_of(text.replace("version 2", "version 9"), "config.yaml")
