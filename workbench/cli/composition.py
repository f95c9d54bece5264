"""Turns what Hydra composes into a typed Config and the run's folder."""

import logging
from dataclasses import asdict, fields
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from workbench.cli.environment import check_environment, register_environment
from workbench.cli.run_name import as_mapping
from workbench.cli.stored_run import continued, near_runs, own_folder, typed_keys
from workbench.cli.yaml_files.recipes import load_recipe, recipe_files
from workbench.config import AdapterConfig, Config, Step, history
from workbench.errors import ConfigError
from workbench.run_dir import RunDir, check_folder
from workbench.shipped import PACKAGE
from workbench.shown import masked

log = logging.getLogger("workbench")

OPEN = (
    *("data.columns", "predict.columns", "data.sources"),
    *("adapter.rank_pattern", "adapter.options", "model.init", "serve.adapters"),
    *("data.template_arguments", "evaluate.template_arguments"),
)
"""Mappings to which a user can add names without Hydra's + before the key."""

PREDICT_KEYS = {
    "data.path": "predict.input",
    "data.columns": "predict.columns",
    "data.limit": "predict.limit",
}
"""Keys about training rows -> the same keys about rows to predict."""


def register() -> None:
    """Register the schema, all recipes (shipped and the user's) and the resolvers of `${...}` with Hydra.

    Raises:
        ConfigError: A recipe file is not a YAML mapping.
    """
    OmegaConf.register_new_resolver("toy", lambda path: str(PACKAGE / "toy" / path), replace=True)
    register_environment()
    store = ConfigStore.instance()
    schema = OmegaConf.structured(Config)
    for key in OPEN:
        OmegaConf.set_struct(OmegaConf.select(schema, key), False)
    store.store(name="schema", node=schema, provider="workbench.config")
    for name, path in recipe_files().items():
        store.store(group="recipe", name=name, node=load_recipe(path), package="_global_", provider=str(path))


def typed(composed: DictConfig, recipe: str | None = None) -> tuple[Config, RunDir, str]:
    """Check a composed configuration; return it as Config, with the run's folder and its config.yaml's text.

    Nothing is written.

    Args:
        composed: The configuration as Hydra composed it; values that depend on the recipe are filled in here.
        recipe: Name of the recipe; None: the one on the command line.

    Raises:
        ConfigError: No recipe is given, a key or value is refused, or the folder holds another run.
    """
    recipe = recipe or HydraConfig.get().runtime.choices.get("recipe")
    if recipe is None:
        raise ConfigError(f"recipe: missing (recipe={'|'.join(sorted(recipe_files()))})")
    check_trust(composed)
    check_environment(composed)
    check_predict_keys(composed)
    check_adapter_keys(composed)
    composed.recipe_name = recipe
    run_dir = RunDir(Path(composed.run_dir) if composed.run_dir else own_folder(recipe, composed))
    check_folder("run_dir", run_dir.path)
    if run_dir.config_yaml.is_file():
        composed = continued(composed, run_dir)
    elif composed.continues and composed.run_dir and not (composed.model.path or composed.model.endpoint):
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
    """Return the text of config.yaml, with a checksum and masked secrets.

    It lacks `trust_code`, which each command must give itself.
    """
    values = as_mapping(composed)
    values.pop("trust_code")
    return history.signed(masked(OmegaConf.to_yaml(OmegaConf.create(values))))


def named_keys(recipe: str) -> set[str]:
    """Return the dotted keys that the user sets: all of the command line, and the recipe's `benchmarks.*`.

    Raises:
        ConfigError: The recipe's file is not a YAML mapping.
    """
    file = recipe_files().get(recipe)  # None: a file `recipe/NAME.yaml` below --config-dir
    benchmarks = load_recipe(file).get("benchmarks") or {} if file else {}
    in_recipe = {f"benchmarks.{name}.{key}" for name, values in benchmarks.items() for key in values or {}}
    return typed_keys() | in_recipe


def check_protocols(config: Config, named: set[str]) -> None:
    """Check that the protocol of no benchmark overrides a value that the user gives (except num_fewshot).

    Args:
        config: The configuration.
        named: Keys that the command line or the recipe sets.

    Raises:
        ConfigError: A protocol overrides such a value.
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


def check_adapter_keys(composed: DictConfig) -> None:
    """Check that the command line doesn't set a key of a new adapter, as adapter.rank, beside `adapter.path`.

    Raises:
        ConfigError: Such a setting is given; it would have no effect on the adapter at that path.
    """
    if not composed.adapter.path:
        return
    settings = {f"adapter.{field.name}" for field in fields(AdapterConfig)} - {"adapter.path", "adapter.base"}
    for key in sorted(typed_keys()):
        if key.split("[")[0] in settings or key.startswith(("adapter.rank_pattern.", "adapter.options.")):
            raise ConfigError(
                f"{key}: has no effect, the adapter at adapter.path={composed.adapter.path!r} has its own "
                "(leave it out)"
            )


def check_predict_keys(composed: DictConfig) -> None:
    """Check that the command line of a run that only predicts sets no key about training rows, as data.path.

    Raises:
        ConfigError: It sets one; the message names the key to use instead.
    """
    if {step.name for step in composed.steps} != {"predict"}:
        return
    for key in sorted(typed_keys()):
        meant = next((name for name in PREDICT_KEYS if key == name or key.startswith(f"{name}.")), None)
        if meant is not None:
            ours = key.replace(meant, PREDICT_KEYS[meant])
            raise ConfigError(f"{key}: is about training rows, and this run only predicts (use {ours}=...)")
