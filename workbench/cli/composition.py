"""Turns what Hydra composes into a typed Config and the run's folder."""

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
"""Mappings to which a user can add names without Hydra's + before the key."""

PREDICT_KEYS = {
    "data.path": "predict.input",
    "data.columns": "predict.columns",
    "data.limit": "predict.limit",
}
"""Keys about training rows -> the same keys about rows to predict."""


def register() -> None:
    """Register the schema and all recipes, shipped and the user's own, with Hydra."""
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
    """Return the dataclass Config, the run's folder, and the text of its config.yaml.

    Raises:
        ConfigError: There is no recipe, or the folder holds another run.
    """
    recipe = HydraConfig.get().runtime.choices.get("recipe")
    if recipe is None:
        raise ConfigError(f"recipe: missing (recipe={'|'.join(sorted(recipe_files()))})")
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
        hint = f"did you mean {' or '.join(near)}?" if near else "name the folder of a run, or model.path"
        raise ConfigError(
            f"run_dir: {composed.run_dir!r} is not a run folder, it has no config.yaml ({hint})"
        )
    elif composed.data.validation_fraction is None and composed.benchmarks:
        composed.data.validation_fraction = 0.0  # stored: it stays so without the benchmark
    OmegaConf.merge(OmegaConf.structured(Config), as_mapping(composed))  # refuses keys that Hydra's + added
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    if not config.steps:
        raise ConfigError(f"steps: empty (name some of {', '.join(Step.__members__)})")
    check_folder("leaderboard.folder", Path(config.leaderboard.folder))
    check_protocols(config, named_keys(recipe))
    return config, run_dir, stored_text(composed)


def near_runs(path: Path) -> list[str]:
    """Return up to five runs in the same parent folder with similar names, the most similar first."""
    siblings = [folder for folder in path.parent.glob("*") if RunDir(folder).config_yaml.is_file()]
    longer = sorted(str(folder) for folder in siblings if folder.name.startswith(f"{path.name}-"))
    similar = get_close_matches(path.name, [folder.name for folder in siblings], n=5)
    return list(dict.fromkeys([*longer, *(str(path.parent / name) for name in similar)]))[:5]


def check_trust(composed: DictConfig) -> None:
    """Check that `trust_code` comes from the command line.

    Raises:
        ConfigError: A recipe or another YAML file sets it.
    """
    if composed.trust_code and "trust_code" not in typed_keys():
        raise ConfigError(
            "trust_code: a YAML file sets it (valid on the command line only, because it lets files that the "
            "configuration names run code)"
        )


def stored_text(composed: DictConfig) -> str:
    """Return the text of config.yaml, without `trust_code`, which each command must give itself."""
    values = as_mapping(composed)
    values.pop("trust_code")
    return history.signed(masked(OmegaConf.to_yaml(OmegaConf.create(values))))


def typed_keys() -> set[str]:
    """Return the keys that the command line sets or removes."""
    return {word.partition("=")[0].lstrip("+~") for word in HydraConfig.get().overrides.task}


def named_keys(recipe: str) -> set[str]:
    """Return the keys that the command line sets, and the keys of benchmarks that the recipe sets."""
    file = recipe_files().get(recipe)  # None: a file `recipe/NAME.yaml` below --config-dir
    benchmarks = load_recipe(file).get("benchmarks") or {} if file else {}
    in_recipe = {f"benchmarks.{name}.{key}" for name, values in benchmarks.items() for key in values or {}}
    return typed_keys() | in_recipe


def check_protocols(config: Config, named: set[str]) -> None:
    """Check that no given value is overridden by the benchmark's protocol.

    Raises:
        ConfigError: A protocol overrides a given value.
    """
    for name, benchmark in config.benchmarks.items():
        protocol = benchmark.protocol
        facts = asdict(benchmark.protocols[protocol]) if protocol in benchmark.protocols else {}
        for fact, value in facts.items():
            key = f"benchmarks.{name}.{fact}"
            if key in named and value is not None and fact != "num_fewshot":
                own = f"benchmarks.{name}.protocols.{protocol}.{fact}=..."
                raise ConfigError(
                    f"{key}: protocol {protocol!r} overrides it ({own} or benchmarks.{name}.protocol=default)"
                )


def own_folder(recipe: str, composed: DictConfig) -> Path:
    """Return the default folder of a run, or the folder in which an earlier version has put it."""
    folder = Path("runs") / run_name(recipe, composed)
    earlier = Path("runs") / run_name(recipe, composed, as_written=True)
    if earlier != folder and not folder.exists() and RunDir(earlier).config_yaml.is_file():
        stored, version = stored_config(RunDir(earlier))
        old_defaults = history.kept_defaults(as_mapping(composed), as_mapping(stored), Config, version)
        ours = composed.copy()
        for key, value in old_defaults.items():
            OmegaConf.update(ours, key, value)
        if identity(stored) == identity(ours):
            return earlier
    return folder


def stored_config(run_dir: RunDir) -> tuple[DictConfig, int]:
    """Return the configuration stored in a run folder, and its version.

    Keys that this version didn't have get the values that it implied.

    Raises:
        ConfigError: The file is damaged, or is not a configuration of this program.
    """
    stored = load_mapping(run_dir.config_yaml, "configuration")
    if stored.get("trust_code"):
        raise ConfigError(f"{run_dir.config_yaml}: sets trust_code (valid on the command line only)")
    version = history.version_of(run_dir.config_yaml.read_text("utf-8"), str(run_dir.config_yaml))
    sections = (section for section in IDENTITY if section != "seed")
    if missing := [section for section in sections if not isinstance(stored.get(section), DictConfig)]:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} is not a run folder, its config.yaml has no {missing[0]!r} "
            "(choose another run_dir, or none)"
        )
    return OmegaConf.create(history.completed(as_mapping(stored), Config, "", version)), version


def continued(composed: DictConfig, run_dir: RunDir) -> DictConfig:
    """Return the configuration for continuing the run in a folder.

    A recipe with `continues` takes over the stored model, adapter, data and seed; any other recipe must have
    equal ones. Defaults of an earlier version stay in force in its run, and so does the stored
    `data.validation_fraction` if the command leaves it null.

    Raises:
        ConfigError: The folder holds another run.
    """
    stored, version = stored_config(run_dir)
    composed, named = composed.copy(), typed_keys()
    old_defaults = history.kept_defaults(as_mapping(composed), as_mapping(stored), Config, version)
    for key, value in old_defaults.items():
        if key not in named:
            OmegaConf.update(composed, key, value)
            log.info("run_dir: %s was made by an earlier version, so %s=%s stays", run_dir.path, key, value)
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
    """Return the configuration with the stored model, adapter, data and seed, except the keys in `named`.

    Those keep their interpolations, because the identity of a run is made of unresolved values.
    """
    merged = composed.copy()
    for section in IDENTITY:
        OmegaConf.update(merged, section, stored[section], merge=True)
    for key in named:
        if key.split(".")[0] in IDENTITY:
            OmegaConf.update(merged, key, as_written(composed, key), merge=False)
    return merged


def as_written(config: DictConfig, key: str) -> Any:
    """Return a section, or a value with its interpolation unresolved; None if there is no such key."""
    value = OmegaConf.select(config, key)
    if OmegaConf.is_config(value):
        return value
    node: Any = as_mapping(config)
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def check_predict_keys(composed: DictConfig) -> None:
    """Check that a run that only predicts has no keys about training rows.

    Raises:
        ConfigError: It has one; the message names the key to use instead.
    """
    if {step.name for step in composed.steps} != {"predict"}:
        return
    for key in sorted(typed_keys()):
        meant = next((name for name in PREDICT_KEYS if key == name or key.startswith(f"{name}.")), None)
        if meant is not None:
            ours = key.replace(meant, PREDICT_KEYS[meant])
            raise ConfigError(f"{key}: is about training rows, and this run only predicts (use {ours}=...)")


def first_difference(key: str, ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """Return the dotted key at which two configurations first differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                return first_difference(f"{key}.{name}", ours.get(name), theirs.get(name))
    return key, ours, theirs


def run_name(recipe: str, composed: DictConfig, *, as_written: bool = False) -> str:
    """Return the recipe's name, with eight hex digits if the user's values differ from the recipe's.

    Keys and defaults of later versions don't change the name, so that runs of earlier versions are found.
    With `as_written`, a given former default counts as it did in the version that had it.
    """
    plugins = (word for word in HydraConfig.get().overrides.hydra if word.startswith(("hydra/l", "hydra/s")))
    own = hydra.compose("config", overrides=[f"recipe={recipe}", *plugins])
    if composed.benchmarks and composed.data.validation_fraction == 0:  # as if it were not set
        composed = composed.copy()
        composed.data.validation_fraction = None
    if identity(composed) == identity(own):
        return recipe
    return f"{recipe}-{fingerprint(name_values(composed, as_written))[:8]}"


def name_values(composed: DictConfig, as_written: bool) -> dict[str, Any]:
    """Return the values that a run's name is computed from, the same in every version."""
    schema, values = get_type_hints(OmegaConf.get_type(composed)), identity(composed)
    return {
        section: history.named(values[section], schema[section], section, as_written=as_written)
        if isinstance(values[section], dict)
        else values[section]
        for section in IDENTITY
    }


def as_mapping(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, with unresolved interpolations and enum names."""
    values = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def identity(config: DictConfig) -> dict[str, Any]:
    """Return the unresolved values that identify a run: those of the sections in IDENTITY."""
    values = as_mapping(config)
    chosen = {section: values[section] for section in IDENTITY}
    for section, ignored in SAME_RUN.items():
        chosen[section] = {key: value for key, value in chosen[section].items() if key not in ignored}
    return chosen
