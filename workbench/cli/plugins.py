"""What a YAML may say to a launcher or sweeper of Hydra: their own settings, and no code to run."""

import re
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import Container, DictConfig, OmegaConf

from workbench.cli.sources import Sources
from workbench.errors import ConfigError

RUNS_CODE = {
    **dict.fromkeys(("setup", "python", "srun_args", "additional_parameters"), "submitit's shell runs it"),
    "custom_search_space": "optuna imports it",
    **dict.fromkeys(("runtime_env", "ray_cluster", "sync_up", "sync_down"), "ray runs commands of it"),
}
"""Settings of plugins -> why a YAML may not give them a value."""

TEXT_INTERPOLATION = re.compile(r"\$\{(?:hydra[.:][\w.]+|now:[^{}$]*|oc\.env:\w+(?:,[^{}$]*)?)\}")
"""An interpolation that gives text, never a mapping with a `_target_` of its own."""

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def check_plugin(value: Any, key: str, config: DictConfig, sources: Sources) -> None:
    """Refuse settings of a launcher or sweeper that would run code that no installed plugin has registered.

    Args:
        value: The setting as written, its interpolations unresolved.
        key: Its dotted key.
        config: Everything, to look up what an interpolation refers to.
        sources: Where the YAMLs are, to name the file.

    Raises:
        ConfigError: names file and key.
    """
    name = key.rpartition(".")[2]
    if name == "_target_" and value not in registered_targets():
        raise refused(key, f"{value!r} is registered by no installed plugin of Hydra", config, sources)
    if name in RUNS_CODE and value:
        raise refused(key, f"not for a YAML to set, {RUNS_CODE[name]} (it can be typed)", config, sources)
    if key.count(".") == 1 and not isinstance(value, dict):
        raise refused(key, f"no mapping, {value!r}", config, sources)
    if isinstance(value, dict):
        for inner, inner_value in value.items():
            check_plugin(inner_value, f"{key}.{inner}", config, sources)
    elif isinstance(value, list):
        for inner_value in value:
            check_plugin(inner_value, f"{key}.", config, sources)
    elif isinstance(value, str):
        check_text(value, key, config, sources)


def check_text(value: str, key: str, config: DictConfig, sources: Sources) -> None:
    """Refuse a text that could be more than a text: several lines, or an interpolation of a mapping.

    Raises:
        ConfigError: names file and key.
    """
    if not value.isprintable():
        raise refused(key, f"{value!r} holds line breaks or control characters", config, sources)
    rest = TEXT_INTERPOLATION.sub("", value)
    for path in REFERENCE.findall(rest):
        if isinstance(OmegaConf.select(config, path), Container):
            raise refused(key, f"{value!r} refers to a mapping or list", config, sources)
    if "${" in REFERENCE.sub("", rest):
        raise refused(key, f"{value!r} is no plain reference to another key", config, sources)


def refused(key: str, reason: str, config: DictConfig, sources: Sources) -> ConfigError:
    """The error of a setting, with the file that has it."""
    return ConfigError(f"{sources.file_with(key, config)}: {key}: {reason}")


def registered_targets() -> set[str]:
    """The `_target_` of every launcher, sweeper and part of them that an installed plugin has registered."""
    Plugins.instance()  # importing the plugins is what registers them
    return set(targets(ConfigStore.instance().repo.get("hydra", {})))


def targets(stored: Any) -> list[str]:
    """Every `_target_` below a folder of the ConfigStore, at any depth."""
    if hasattr(stored, "node"):
        return targets(OmegaConf.to_container(stored.node, resolve=False))
    if not isinstance(stored, dict):
        return []
    own = [stored["_target_"]] if isinstance(stored.get("_target_"), str) else []
    return own + [target for value in stored.values() for target in targets(value)]
