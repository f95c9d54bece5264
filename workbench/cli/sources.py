"""Where Hydra looks for YAMLs, and what it composes of them."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from workbench.cli.messages import one_line
from workbench.cli.quoting import quoted
from workbench.cli.recipes import load_mapping, recipe_files
from workbench.cli.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shipped import shipped


@dataclass
class Sources:
    """The places of YAMLs: a primary configuration, and folders of groups."""

    main: Path = field(default_factory=lambda: shipped("conf"))
    """The folder of the primary configuration."""
    name: str = "config"
    """The primary configuration's name."""
    searched: list[str] = field(default_factory=list)
    """Further places, `file://FOLDER` as Hydra writes them."""

    def own_words(self) -> list[str]:
        """The override that makes a composition look at the further places."""
        return [f"hydra.searchpath=[{','.join(map(quoted, self.searched))}]"] if self.searched else []

    def folders(self) -> list[Path]:
        """Every folder of YAMLs but ours, then ours."""
        others = [Path(place.removeprefix("file://")) for place in self.searched]
        ours = shipped("conf")
        return [folder for folder in (*others, self.main) if folder != ours] + [ours]

    def is_group(self, override: Override) -> bool:
        """Whether an override chooses a YAML of a group."""
        name = override.key_or_group
        folders = [folder / name for folder in self.folders()]
        return name == "recipe" or override.package is not None or any(map(Path.is_dir, folders))

    def options(self, group: str) -> list[str]:
        """The names that can be chosen of a group."""
        if group == "recipe":
            return sorted(recipe_files())
        return sorted({file.stem for folder in self.folders() for file in (folder / group).glob("*.yaml")})

    def files(self) -> Iterator[Path]:
        """Every YAML but ours."""
        ours = (shipped("conf"), shipped("recipes"))
        yield from (file for file in recipe_files().values() if file.parent != ours[1])
        for folder in self.folders():
            if folder not in ours:
                yield from sorted(folder.rglob("*.yaml")) + sorted(folder.rglob("*.yml"))

    def file_with(self, key: str, config: DictConfig) -> str:
        """The file that most likely sets a key of Hydra's node: one that was chosen and has the key's words.

        Args:
            key: Dotted, such as `hydra.launcher.setup`.
            config: What was composed, which says what was chosen.
        """
        words = [word for word in key.split(".") if word]
        chosen = {str(name) for value in config.hydra.runtime.choices.values() for name in as_list(value)}
        likeliest, most = "a YAML", (0, False)
        for file in self.files():
            text = f"{file}\n{file.read_text('utf-8', errors='replace')}"
            likeness = (sum(word in text for word in words), file.stem in chosen)
            if "hydra" in text and likeness > most:
                likeliest, most = str(file), likeness
        return likeliest

    def check_files(self) -> None:
        """Refuse YAMLs that make Hydra look elsewhere (`pkg://` imports packages), hide ours or never end.

        Raises:
            ConfigError: names the file.
        """
        for file in self.files():
            check_unfolded(file)
            if file.name in ("schema.yaml", "schema.yml") and file.parent in self.folders():
                raise ConfigError(f"{file}: would hide the workbench's own schema (rename it)")
        named = [folder / name for folder in self.folders() for name in (self.name, f"{self.name}.yaml")]
        for file in filter(Path.is_file, named):
            if OmegaConf.select(load_mapping(file, "configuration"), "hydra.searchpath"):
                raise ConfigError(f"{file}: hydra.searchpath: not for a YAML to set (--config-dir FOLDER)")


def as_list(value: Any) -> Sequence[Any]:
    """The options of a group: one, several or none."""
    return value if isinstance(value, ListConfig | list) else [value]


def sources_of(flags: Sequence[str], overrides: Sequence[str]) -> Sources:
    """The places that the command line names.

    Args:
        flags: Hydra's flags, each as one word (`--config-dir=FOLDER`).
        overrides: The other words.
    """
    values = dict(flag.split("=", 1) for flag in flags if "=" in flag)
    folder = values.get("--config-dir")
    searched = [f"file://{Path(folder).absolute()}"] if folder else []
    for word in overrides:
        if word.lstrip("+").startswith("hydra.searchpath="):
            typed = OverridesParser.create().parse_override(word).value()
            searched += [str(place) for place in typed] if isinstance(typed, list) else []
    main = Path(values.get("--config-path") or shipped("conf")).absolute()
    return Sources(main, values.get("--config-name") or "config", searched)


def composed(sources: Sources, words: Sequence[str]) -> DictConfig:
    """What Hydra composes, its own node included.

    Raises:
        ConfigError: names a file that is not YAML.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(sources.main), version_base="1.3"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Hydra says them again when it composes for itself
            return compose(sources.name, overrides=[*words, *sources.own_words()], return_hydra_config=True)
    except RecursionError as error:
        raise ConfigError("a YAML names itself in its defaults, or they never end") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        for file in sources.files():
            load_mapping(file, "configuration")
        raise ConfigError(f"a YAML can't be read: {one_line(error)}") from error
    finally:
        GlobalHydra.instance().clear()
