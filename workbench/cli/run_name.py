"""Names the folder of a run by its recipe and by what the user changed, and compares two runs by that."""

from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from workbench.config import HOW_COMPUTED, IDENTITY, SAME_RUN, history
from workbench.errors import ConfigError
from workbench.run_dir import RunDir, fingerprint


def run_name(recipe: str, composed: DictConfig, *, as_written: bool = False) -> str:
    """Return a run's default name: that of the recipe, or RECIPE-XXXXXXXX if the user changed `identity`.

    The eight hex digits are of a hash of the identity's values. Keys and defaults of later versions don't
    change the name, so that runs of earlier versions are found. With benchmarks,
    `data.validation_fraction=0` counts as not set.

    Args:
        recipe: Name of the recipe.
        composed: The command's configuration.
        as_written: Whether a key that the user sets to its former default gets the same hash as the default,
            as in names that an earlier version gave.
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
    """Return section -> the values that a run's name is a hash of, the same in every version of this program.

    `as_written` is that of `run_name`.
    """
    schema, values = get_type_hints(OmegaConf.get_type(composed)), identity(composed)
    return {
        section: history.identity_values(values[section], schema[section], section, as_written=as_written)
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
    """Return section -> values that tell runs apart: the sections in IDENTITY, without the keys in SAME_RUN.

    Interpolations are unresolved.
    """
    values = as_mapping(config)
    chosen = {section: values[section] for section in IDENTITY}
    for section, ignored in SAME_RUN.items():
        chosen[section] = {key: value for key, value in chosen[section].items() if key not in ignored}
    return chosen


def check_same_run(composed: DictConfig, stored: DictConfig, run_dir: RunDir) -> None:
    """Check that a command's sections in IDENTITY are those of the run in its folder.

    The keys in HOW_COMPUTED may differ if the command trains nothing.

    Raises:
        ConfigError: The folder holds another run.
    """
    ours, theirs = identity(composed), identity(stored)
    trains = bool({"train", "resume_check"} & {step.name for step in composed.steps})
    if not trains:
        for section, keys in HOW_COMPUTED.items():
            theirs[section] |= {key: ours[section][key] for key in keys}
    for section in IDENTITY:
        if ours[section] != theirs[section]:
            key, ours_value, theirs_value = first_difference(section, ours[section], theirs[section])
            is_free = key.removeprefix(f"{section}.") in HOW_COMPUTED.get(section, ())
            free = "; steps=[evaluate], which trains nothing, may set it" if is_free else ""
            raise ConfigError(
                f"run_dir: {str(run_dir.path)!r} holds another run, with {key}={theirs_value!r}, "
                f"not {ours_value!r} (choose another run_dir, or none{free})"
            )


def first_difference(key: str, ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """Return the first dotted key, in alphabetical order, at which two values differ, and the values there.

    Args:
        key: Dotted key of both values, which `ours` and `theirs` are below.
        ours: A value, or a nested mapping of values.
        theirs: Another one, which differs.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                return first_difference(f"{key}.{name}", ours.get(name), theirs.get(name))
    return key, ours, theirs
