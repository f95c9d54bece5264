"""Names the folder of a run by its recipe and by what the user changed."""

from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from workbench.config import IDENTITY, SAME_RUN, history
from workbench.run_dir import fingerprint


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
