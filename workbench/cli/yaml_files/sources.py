"""Finds the YAML files that Hydra reads, and composes them."""

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
from workbench.cli.yaml_files.recipes import load_mapping, recipe_files
from workbench.cli.yaml_files.unfolding import check_unfolded
from workbench.errors import ConfigError
from workbench.shipped import shipped


@dataclass
class Sources:
    """Places where Hydra finds YAML files: the primary configuration, and folders with options of groups."""

    main: Path = field(default_factory=lambda: shipped("conf"))
    """Folder of the primary configuration."""
    name: str = "config"
    """Name of the primary configuration."""
    searched: list[str] = field(default_factory=list)
    """Further folders of group options, each as `file://FOLDER`."""

    def own_words(self) -> list[str]:
        """Return the override that makes Hydra search the further folders."""
        return [f"hydra.searchpath=[{','.join(map(quoted, self.searched))}]"] if self.searched else []

    def folders(self) -> list[Path]:
        """Return every folder that Hydra searches for YAML files; the shipped conf folder comes last."""
        further = [Path(entry.removeprefix("file://")) for entry in self.searched]
        ours = shipped("conf")
        return [folder for folder in (*further, self.main) if folder != ours] + [ours]

    def is_group(self, override: Override) -> bool:
        """Return whether an override chooses an option of a group, and so a YAML file."""
        name = override.key_or_group
        folders = [folder / name for folder in self.folders()]
        return name == "recipe" or override.package is not None or any(map(Path.is_dir, folders))

    def options(self, group: str) -> list[str]:
        """Return the options of a group: names of recipes, or of YAML files in the group's folders."""
        if group == "recipe":
            return sorted(recipe_files())
        return sorted({file.stem for folder in self.folders() for file in (folder / group).glob("*.yaml")})

    def files(self) -> Iterator[Path]:
        """Yield every YAML file that isn't shipped: the user's recipes, and files in the user's folders."""
        ours = (shipped("conf"), shipped("recipes"))
        yield from (file for file in recipe_files().values() if file.parent != ours[1])
        for folder in self.folders():
            if folder not in ours:
                yield from sorted(folder.rglob("*.yaml")) + sorted(folder.rglob("*.yml"))

    def file_with(self, key: str, config: DictConfig) -> str:
        """Return the user's YAML file that most likely sets a key of the `hydra` node, for an error message.

        Of the files that mention hydra, that is the one with most words of the key; of several, a chosen
        option. If no file mentions hydra, the text `a YAML file` is returned.

        Args:
            key: Dotted key, such as `hydra.launcher.setup`.
            config: The composed configuration, which lists the chosen options.
        """
        words = [word for word in key.split(".") if word]
        chosen = {str(name) for value in config.hydra.runtime.choices.values() for name in as_list(value)}
        best_file, best_match = "a YAML file", (0, False)
        for file in self.files():
            text = f"{file}\n{file.read_text('utf-8', errors='replace')}"
            match = (sum(word in text for word in words), file.stem in chosen)
            if "hydra" in text and match > best_match:
                best_file, best_match = str(file), match
        return best_file

    def check_files(self) -> None:
        """Check that the user's YAML files aren't too large, set no search path, and hide no schema.yaml.

        A search path `pkg://...` would run code.

        Raises:
            ConfigError: A file is refused; the message names it.
        """
        for file in self.files():
            check_unfolded(file)
            if file.name in ("schema.yaml", "schema.yml") and file.parent in self.folders():
                raise ConfigError(f"{file}: hides the workbench's own schema (rename the file)")
        primary = [folder / name for folder in self.folders() for name in (self.name, f"{self.name}.yaml")]
        for file in filter(Path.is_file, primary):
            if OmegaConf.select(load_mapping(file, "configuration"), "hydra.searchpath"):
                raise ConfigError(
                    f"{file}: hydra.searchpath: can't be set in a YAML file (use --config-dir FOLDER)"
                )

    def check_hidden(self, config: DictConfig) -> None:
        """Check that no chosen file of the user's has the name of another file that Hydra reads before it.

        A copy with the same bytes is allowed.

        Args:
            config: The composed configuration, which lists the chosen options.

        Raises:
            ConfigError: Hydra would read the other file, such as the shipped benchmark of that name.
        """
        for group, name in _chosen(config):
            option = f"{group}/{name}.yaml"
            read = self.main / option
            for folder in self.folders() if read.is_file() else ():
                file = folder / option
                if file.is_file() and file.read_bytes() != read.read_bytes():
                    raise ConfigError(
                        f"{_shown(file)}: {name!r} is also a {group} of {_shown(read)}, which would be "
                        "taken (rename the file)"
                    )


def _chosen(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield group and option of each file of a group that was chosen; Hydra doesn't list benchmarks."""
    yield from ((group, name) for group, name in config.hydra.runtime.choices.items() if name)
    yield from (("benchmark", str(name)) for name in config.get("benchmarks") or ())
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.key_or_group == "benchmark" and isinstance(names := override.value(), list | str):
            yield from (("benchmark", str(name)) for name in as_list(names))


def _shown(file: Path) -> Path:
    """Return a file's path, relative to the current folder if the file is in it."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def as_list(value: Any) -> Sequence[Any]:
    """Return a group's choice, one option or a list of options, as a list."""
    return value if isinstance(value, ListConfig | list) else [value]


def sources_of(flags: Sequence[str], overrides: Sequence[str]) -> Sources:
    """Return the places where Hydra finds YAML files for this command line.

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
            searched += [str(entry) for entry in typed] if isinstance(typed, list) else []
    main = Path(values.get("--config-path") or shipped("conf")).absolute()
    return Sources(main, values.get("--config-name") or "config", searched)


def composed(sources: Sources, words: Sequence[str]) -> DictConfig:
    """Compose the configuration from YAML files and overrides, including Hydra's own settings (`hydra`).

    Hydra's global state is cleared before and after.

    Args:
        sources: Where Hydra finds the YAML files.
        words: The overrides.

    Raises:
        ConfigError: A file is not YAML, or includes itself.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(sources.main), version_base="1.3"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Hydra repeats them when it composes
            return compose(sources.name, overrides=[*words, *sources.own_words()], return_hydra_config=True)
    except RecursionError as error:
        raise ConfigError(
            "a YAML file includes itself in its defaults list, or the list is endless"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        for file in sources.files():
            load_mapping(file, "configuration")
        raise ConfigError(f"a YAML file can't be read: {one_line(error)}") from error
    finally:
        GlobalHydra.instance().clear()
