"""Checks that YAML files give launchers and sweepers of Hydra only settings that run no code."""

import re
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import Container, DictConfig, OmegaConf

from workbench.cli.yaml_files.sources import Sources
from workbench.errors import ConfigError

RUNS_CODE = {
    **dict.fromkeys(("setup", "python", "srun_args", "additional_parameters"), "submitit's shell runs it"),
    "custom_search_space": "optuna imports it",
    **dict.fromkeys(("runtime_env", "ray_cluster", "sync_up", "sync_down"), "ray runs commands of it"),
}
"""Setting of a plugin -> why a YAML file may not set it."""

TEXT_INTERPOLATION = re.compile(r"\$\{(?:hydra[.:][\w.]+|now:[^{}$]*|oc\.env:\w+(?:,[^{}$]*)?)\}")
"""Interpolation that resolves to text, never to a mapping with a `_target_`."""

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def check_plugin(value: Any, key: str, config: DictConfig, sources: Sources) -> None:
    """Check that the settings of a launcher or sweeper run only code that an installed plugin registered.

    Args:
        value: The node of the plugin or a value in it, with unresolved interpolations.
        key: Its dotted key.
        config: The full configuration, to look up interpolations.
        sources: Where the YAML files are, to name the file.

    Raises:
        ConfigError: Other code would run; the message names file and key.
    """
    name = key.rpartition(".")[2]
    if name == "_target_" and value not in registered_targets():
        raise refused(key, f"no installed Hydra plugin has registered {value!r}", config, sources)
    if name in RUNS_CODE and value:
        raise refused(
            key,
            f"can't be set in a YAML file, {RUNS_CODE[name]} (set it on the command line)",
            config,
            sources,
        )
    if key.count(".") == 1 and not isinstance(value, dict):
        raise refused(key, f"{value!r} is not a mapping", config, sources)
    if isinstance(value, dict):
        for child, child_value in value.items():
            check_plugin(child_value, f"{key}.{child}", config, sources)
    elif isinstance(value, list):
        for element in value:
            check_plugin(element, f"{key}.", config, sources)
    elif isinstance(value, str):
        check_text(value, key, config, sources)


def check_text(value: str, key: str, config: DictConfig, sources: Sources) -> None:
    """Check that a text is one line, and that no `${...}` in it can give a mapping or list.

    Allowed are references to a key with a text or number, and the interpolations of TEXT_INTERPOLATION.

    Raises:
        ConfigError: The text has line breaks or another `${...}`; the message names file and key.
    """
    if not value.isprintable():
        raise refused(key, f"{value!r} has line breaks or control characters", config, sources)
    references = TEXT_INTERPOLATION.sub("", value)
    for path in REFERENCE.findall(references):
        if isinstance(OmegaConf.select(config, path), Container):
            raise refused(key, f"{value!r} refers to a mapping or list", config, sources)
    if "${" in REFERENCE.sub("", references):
        raise refused(key, f"{value!r} is not a plain reference to another key", config, sources)


def refused(key: str, reason: str, config: DictConfig, sources: Sources) -> ConfigError:
    """Return the error that refuses a plugin's setting; its message starts with the file and the key."""
    return ConfigError(f"{sources.file_with(key, config)}: {key}: {reason}")


def registered_targets() -> set[str]:
    """Import all installed plugins of Hydra; return every `_target_` in what they have registered."""
    Plugins.instance()  # imports the plugins, which registers them
    return set(targets(ConfigStore.instance().repo.get("hydra", {})))


def targets(stored: Any) -> list[str]:
    """Return all `_target_`s (classes that Hydra calls), at any depth of a ConfigStore folder or mapping."""
    if hasattr(stored, "node"):
        return targets(OmegaConf.to_container(stored.node, resolve=False))
    if not isinstance(stored, dict):
        return []
    own = [stored["_target_"]] if isinstance(stored.get("_target_"), str) else []
    return own + [target for value in stored.values() for target in targets(value)]
