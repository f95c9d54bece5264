"""What Hydra composes becomes a typed Config and the folder of its run."""

import logging
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from workbench.cli.environment import check_environment, register_environment
from workbench.cli.recipes import load_mapping, load_recipe, recipe_files
from workbench.config import IDENTITY, SAME_RUN, Config, Step, history
from workbench.errors import ConfigError
from workbench.run_dir import RunDir, check_folder, fingerprint
from workbench.shipped import PACKAGE
from workbench.shown import masked

log = logging.getLogger("workbench")

OPEN = ("data.columns", "predict.columns", "data.sources", "adapter.rank_pattern", "model.init")
"""Mappings that a user puts names of their own into, without Hydra's + before the key."""

PREDICT_KEYS = {
    "data.path": "predict.input",
    "data.columns": "predict.columns",
    "data.limit": "predict.limit",
}
"""Keys of training rows -> those that mean the same of rows to be answered."""


def register() -> None:
    """Put the schema and all recipes, ours and the user's own, where Hydra finds them."""
    OmegaConf.register_new_resolver("toy", lambda path: str(PACKAGE / "toy" / path), replace=True)
    register_environment()
    store = ConfigStore.instance()
    schema = OmegaConf.structured(Config)
    for key in OPEN:
        OmegaConf.set_struct(OmegaConf.select(schema, key), False)
    store.store(name="schema", node=schema, provider="workbench.config")
    for name, path in recipe_files().items():
        store.store(group="recipe", name=name, node=load_recipe(path), package="_global_", provider=str(path))


def typed(composed: DictConfig) -> tuple[Config, RunDir, str]:
    """The dataclass Config, the run's folder, and the configuration as text for that folder.

    Raises:
        ConfigError: no recipe, or the folder holds another run.
    """
    recipe = HydraConfig.get().runtime.choices.get("recipe")
    if recipe is None:
        raise ConfigError(f"recipe: none named (recipe={'|'.join(sorted(recipe_files()))})")
    check_trust(composed)
    check_environment(composed)
    check_predict_keys(composed)
    composed.recipe_name = recipe
    run_dir = RunDir(Path(composed.run_dir) if composed.run_dir else own_folder(recipe, composed))
    check_folder("run_dir", run_dir.path)
    if run_dir.config_yaml.is_file():
        composed = continued(composed, run_dir)
    elif composed.continues and composed.run_dir and not composed.model.path:
        near = near_runs(run_dir.path)
        said = (
            f"{', '.join(near)} {'does' if len(near) == 1 else 'do'}" if near else "name one, or model.path"
        )
        raise ConfigError(f"run_dir: {composed.run_dir!r} holds no run, there is no config.yaml ({said})")
    elif composed.data.validation_fraction is None and composed.benchmarks:
        composed.data.validation_fraction = 0.0  # written down: without the benchmark it goes on so
    OmegaConf.merge(
        OmegaConf.structured(Config), as_mapping(composed)
    )  # refuses a key that Hydra's + has put anywhere
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    if not config.steps:
        raise ConfigError(f"steps: none (some of {', '.join(Step.__members__)})")
    check_folder("leaderboard.folder", Path(config.leaderboard.folder))
    check_protocols(config, named_keys(recipe))
    return config, run_dir, stored_text(composed)


def near_runs(path: Path) -> list[str]:
    """The runs beside a folder whose names are like its own, at most five, the likeliest first."""
    beside = [folder for folder in path.parent.glob("*") if RunDir(folder).config_yaml.is_file()]
    begun = sorted(str(folder) for folder in beside if folder.name.startswith(f"{path.name}-"))
    alike = get_close_matches(path.name, [folder.name for folder in beside], n=5)
    return list(dict.fromkeys([*begun, *(str(path.parent / name) for name in alike)]))[:5]


def check_trust(composed: DictConfig) -> None:
    """Refuse `trust_code` that was not typed: no YAML may open this door.

    Raises:
        ConfigError: a recipe, a group or another YAML sets it.
    """
    if composed.trust_code and "trust_code" not in typed_keys():
        raise ConfigError(
            "trust_code: a YAML sets it (valid on the command line only: trust_code=true lets files that the "
            "configuration names run code)"
        )


def stored_text(composed: DictConfig) -> str:
    """The configuration as text for the run's folder, without what the next command must say again itself."""
    values = as_mapping(composed)
    values.pop("trust_code")
    return history.signed(masked(OmegaConf.to_yaml(OmegaConf.create(values))))


def typed_keys() -> set[str]:
    """The keys that the command line gives a value or takes away."""
    return {word.partition("=")[0].lstrip("+~") for word in HydraConfig.get().overrides.task}


def named_keys(recipe: str) -> set[str]:
    """The dotted keys of benchmarks that the command line or the recipe gives a value."""
    file = recipe_files().get(recipe)  # none: a file `recipe/NAME.yaml` below --config-dir
    benchmarks = load_recipe(file).get("benchmarks") or {} if file else {}
    written = {f"benchmarks.{name}.{key}" for name, values in benchmarks.items() for key in values or {}}
    return typed_keys() | written


def check_protocols(config: Config, named: set[str]) -> None:
    """Refuse a value that a benchmark's protocol would overrule in silence.

    Raises:
        ConfigError: names the key.
    """
    for name, benchmark in config.benchmarks.items():
        protocol = benchmark.protocol
        facts = asdict(benchmark.protocols[protocol]) if protocol in benchmark.protocols else {}
        for fact, value in facts.items():
            key = f"benchmarks.{name}.{fact}"
            if key in named and value is not None and fact != "num_fewshot":
                own = f"benchmarks.{name}.protocols.{protocol}.{fact}=..."
                raise ConfigError(
                    f"{key}: protocol {protocol!r} decides it ({own}, or benchmarks.{name}.protocol=default)"
                )


def own_folder(recipe: str, composed: DictConfig) -> Path:
    """The folder of a run that names none: one of the same run by an earlier version, where there is one."""
    folder = Path("runs") / run_name(recipe, composed)
    earlier = Path("runs") / run_name(recipe, composed, as_written=True)
    if earlier != folder and not folder.exists() and RunDir(earlier).config_yaml.is_file():
        stored, version = stored_config(RunDir(earlier))
        kept = history.kept_defaults(as_mapping(composed), as_mapping(stored), Config, version)
        ours = composed.copy()
        for key, value in kept.items():
            OmegaConf.update(ours, key, value)
        if identity(stored) == identity(ours):
            return earlier
    return folder


def stored_config(run_dir: RunDir) -> tuple[DictConfig, int]:
    """The configuration of the run that lies in a folder, and the version that it was written by.

    Keys that this version didn't have are filled with what it did without them.

    Raises:
        ConfigError: it is damaged, or not of a run of ours.
    """
    stored = load_mapping(run_dir.config_yaml, "configuration")
    if stored.get("trust_code"):
        raise ConfigError(f"{run_dir.config_yaml}: sets trust_code (it is valid on the command line only)")
    version = history.version_of(run_dir.config_yaml.read_text("utf-8"), str(run_dir.config_yaml))
    sections = (section for section in IDENTITY if section != "seed")
    if missing := [section for section in sections if not isinstance(stored.get(section), DictConfig)]:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} holds no run of ours, its config.yaml has no {missing[0]!r} "
            "(choose another run_dir, or none)"
        )
    return OmegaConf.create(history.completed(as_mapping(stored), Config, "", version)), version


def continued(composed: DictConfig, run_dir: RunDir) -> DictConfig:
    """The configuration for going on in a folder that holds a run.

    A recipe that continues runs takes over the stored model, adapter, data and seed; any other must agree.
    A default that an earlier version's run was made with goes on to hold in it, and a run that has held rows
    out by itself, or none because benchmarks were named, goes on so.

    Raises:
        ConfigError: the folder's run is another one.
    """
    stored, version = stored_config(run_dir)
    composed, named = composed.copy(), typed_keys()
    kept = history.kept_defaults(as_mapping(composed), as_mapping(stored), Config, version)
    for key, value in kept.items():
        if key not in named:
            OmegaConf.update(composed, key, value)
            log.info("run_dir: %s is of an earlier version: %s=%s, as there", run_dir.path, key, value)
    if composed.data.validation_fraction is None:
        composed.data.validation_fraction = stored.data.validation_fraction
    if composed.continues:
        composed = adopted(composed, stored, named)
    ours, theirs = identity(composed), identity(stored)
    for section in IDENTITY:
        if ours[section] != theirs[section]:
            key, ours_value, theirs_value = first_difference(section, ours[section], theirs[section])
            raise ConfigError(
                f"run_dir: {str(run_dir.path)!r} holds another run, with {key}={theirs_value!r}, "
                f"not {ours_value!r} (choose another run_dir, or none)"
            )
    return composed


def adopted(composed: DictConfig, stored: DictConfig, named: set[str]) -> DictConfig:
    """The configuration with the stored model, adapter, data and seed, but for the keys that were given.

    These keep their interpolations, which belong to what a run is known by.
    """
    merged = composed.copy()
    for section in IDENTITY:
        OmegaConf.update(merged, section, stored[section], merge=True)
    for key in named:
        if key.split(".")[0] in IDENTITY:
            OmegaConf.update(merged, key, as_written(composed, key), merge=False)
    return merged


def as_written(config: DictConfig, key: str) -> Any:
    """A section, or a value with its interpolation as it was written; None where the key is not there."""
    value = OmegaConf.select(config, key)
    if OmegaConf.is_config(value):
        return value
    written: Any = as_mapping(config)
    for name in key.split("."):
        written = written.get(name) if isinstance(written, dict) else None
    return written


def check_predict_keys(composed: DictConfig) -> None:
    """Refuse keys of training rows where rows are only answered, and name those that are meant.

    Raises:
        ConfigError: With the key.
    """
    if {step.name for step in composed.steps} != {"predict"}:
        return
    for key in sorted(typed_keys()):
        meant = next((name for name in PREDICT_KEYS if key == name or key.startswith(f"{name}.")), None)
        if meant is not None:
            ours = key.replace(meant, PREDICT_KEYS[meant])
            raise ConfigError(f"{key}: is of training rows, and nothing is trained here ({ours}=...)")


def first_difference(key: str, ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """The dotted key where two configurations first differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                return first_difference(f"{key}.{name}", ours.get(name), theirs.get(name))
    return key, ours, theirs


def run_name(recipe: str, composed: DictConfig, *, as_written: bool = False) -> str:
    """The recipe's name, with eight hex digits where the user's values make it another run than its own.

    Keys and defaults of later versions don't change it, so that a run of an earlier one is found; with
    `as_written` a former default counts as it did when it was written out then.
    """
    plugins = (word for word in HydraConfig.get().overrides.hydra if word.startswith(("hydra/l", "hydra/s")))
    own = hydra.compose("config", overrides=[f"recipe={recipe}", *plugins])
    if composed.benchmarks and composed.data.validation_fraction == 0:  # as if it were not given
        composed = composed.copy()
        composed.data.validation_fraction = None
    if identity(composed) == identity(own):
        return recipe
    return f"{recipe}-{fingerprint(name_values(composed, as_written))[:8]}"


def name_values(composed: DictConfig, as_written: bool) -> dict[str, Any]:
    """What a run's name is made of, the same in every version."""
    schema, values = get_type_hints(OmegaConf.get_type(composed)), identity(composed)
    return {
        section: history.named(values[section], schema[section], section, as_written=as_written)
        if isinstance(values[section], dict)
        else values[section]
        for section in IDENTITY
    }


def as_mapping(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, interpolations unresolved and options by their names."""
    values = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def identity(config: DictConfig) -> dict[str, Any]:
    """What decides which run this is: the unresolved values of the sections of IDENTITY."""
    values = as_mapping(config)
    chosen = {section: values[section] for section in IDENTITY}
    for section, ignored in SAME_RUN.items():
        chosen[section] = {key: value for key, value in chosen[section].items() if key not in ignored}
    return chosen
