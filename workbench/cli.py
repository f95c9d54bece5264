"""The command line: recipes and overrides become a typed Config, which goes to the pipeline.

The only file that knows Hydra and OmegaConf. A user's mistake ends in one line and exit status 1.
"""

import logging
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from workbench.config import IDENTITY, SAME_RUN, Config
from workbench.config.mistakes import plainly
from workbench.errors import ConfigError, WorkbenchError
from workbench.run_dir import RunDir, check_folder, fingerprint

PACKAGE = Path(__file__).parent
RANK = int(os.environ.get("RANK", "0"))
"""Which of the processes that torchrun or accelerate has started this is; the first one speaks for all."""

OPEN = ("data.columns", "data.sources", "adapter.rank_pattern", "model.init")
"""Mappings that a user puts names of their own into, without Hydra's + before the key."""

LAST_WORD_SECONDS = 20
"""After an error the first process has so long to say the same; torchrun then ends the others."""

TRACEBACK = "WORKBENCH_TRACEBACK"
"""Environment variable that keeps what the user set HYDRA_FULL_ERROR to, for the processes of a sweep too."""


def main() -> None:
    """Entry point of `python -m workbench` and of the `workbench` command."""
    os.environ.setdefault(TRACEBACK, "0")
    wanted = os.environ["HYDRA_FULL_ERROR"] if "HYDRA_FULL_ERROR" in os.environ else os.environ[TRACEBACK]
    os.environ.update({TRACEBACK: wanted, "HYDRA_FULL_ERROR": "1"})  # Hydra hands us its errors whole
    try:
        register()
        if len(sys.argv) == 1:
            print(recipe_list())
            return
        use_own_groups()
        hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name="config")(job)()
    except (WorkbenchError, HydraException, OmegaConfBaseException) as error:
        end(error)
    except KeyboardInterrupt:
        sys.exit("stopped: the same command continues where this one was")


def job(composed: DictConfig) -> None:
    """Run one job: a single run, or one point of a sweep."""
    try:
        config, run_dir, text = typed(composed)
        set_up_process()
        from workbench import pipeline  # torch and transformers cost seconds: only once a run starts

        pipeline.run(config, run_dir, text)
    except (WorkbenchError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            end(error)
        overrides = " ".join(HydraConfig.get().overrides.task)
        print(f"error: {overrides}: {one_line(error)}", file=sys.stderr)
        raise WorkbenchError("at least one run of the sweep failed (its line stands above)") from error
    except RuntimeError as error:
        if "Connection closed by peer" not in str(error):
            raise
        end(WorkbenchError(f"process {RANK}: another process has stopped (it says why)"))


def end(error: Exception) -> NoReturn:
    """Say a user's error in one line and exit with status 1; HYDRA_FULL_ERROR=1 shows where it came from."""
    if RANK:
        time.sleep(LAST_WORD_SECONDS)
    if os.environ[TRACEBACK] != "0":
        raise error
    sys.exit(f"error: {one_line(error)}")


def register() -> None:
    """Put the schema and all recipes, ours and the user's own, where Hydra finds them."""
    OmegaConf.register_new_resolver("toy", lambda path: str(PACKAGE / "toy" / path), replace=True)
    store = ConfigStore.instance()
    schema = OmegaConf.structured(Config)
    for key in OPEN:
        OmegaConf.set_struct(OmegaConf.select(schema, key), False)
    store.store(name="schema", node=schema, provider="workbench.config")
    for name, path in recipe_files().items():
        store.store(group="recipe", name=name, node=load_recipe(path), package="_global_", provider=str(path))


def use_own_groups() -> None:
    """Let Hydra look for benchmarks and other options in ./conf, too, unless --config-dir names a folder."""
    own, ours = Path("conf").resolve(), shipped("conf").resolve()
    named = any(word.startswith(("--config-dir", "-cd")) for word in sys.argv)
    if not named and own != ours and any((own / group.name).is_dir() for group in ours.iterdir()):
        sys.argv[1:1] = ["--config-dir", str(own)]


def recipe_files() -> dict[str, Path]:
    """Name to file of each recipe; a file in ./recipes comes before a shipped one of the same name."""
    folders = [shipped("recipes"), Path("recipes")]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: Path) -> DictConfig:
    """The content of a recipe file.

    Raises:
        ConfigError: not a YAML mapping.
    """
    return load_mapping(path, "recipe")


def load_mapping(path: Path, kind: str) -> DictConfig:
    """The content of a YAML file that maps keys to values, as one of this kind does.

    Raises:
        ConfigError: it doesn't.
    """
    try:
        found = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not YAML: {one_line(error)}") from error
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{path}: not a {kind} (a {kind} maps keys to values)")
    return found


def recipe_list() -> str:
    """The recipes, a line each, for the bare command."""
    recipes = {
        name: load_recipe(path).get("description", "") for name, path in sorted(recipe_files().items())
    }
    width = max(map(len, recipes), default=0)
    lines = [f"  {name:<{width}}  {description}" for name, description in recipes.items()]
    return "\n".join(["python -m workbench recipe=NAME [KEY=VALUE ...]   (--help says more)", "", *lines])


def shipped(folder: str) -> Path:
    """The package's copy of a top-level folder when installed, the checkout's own otherwise."""
    installed = PACKAGE / f"_{folder}"
    return installed if installed.is_dir() else PACKAGE.parent / folder


def typed(composed: DictConfig) -> tuple[Config, RunDir, str]:
    """The dataclass Config, the run's folder, and the configuration as text for that folder.

    Raises:
        ConfigError: no recipe, or the folder holds another run.
    """
    recipe = HydraConfig.get().runtime.choices.get("recipe")
    if recipe is None:
        raise ConfigError(f"recipe: none named (recipe={'|'.join(sorted(recipe_files()))})")
    composed.recipe_name = recipe
    run_dir = RunDir(Path(composed.run_dir or f"runs/{run_name(recipe, composed)}"))
    check_folder("run_dir", run_dir.path)
    if run_dir.config_yaml.is_file():
        composed = continued(composed, stored_config(run_dir), run_dir)
    elif composed.continues and composed.run_dir and not composed.model.path:
        raise ConfigError(
            f"run_dir: {composed.run_dir!r} holds no run, there is no config.yaml (name one, or model.path)"
        )
    values = OmegaConf.to_container(composed, resolve=False, enum_to_str=True)
    OmegaConf.merge(OmegaConf.structured(Config), values)  # refuses a key that Hydra's + has put anywhere
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    check_protocols(config, named_keys(recipe))
    return config, run_dir, OmegaConf.to_yaml(composed)


def named_keys(recipe: str) -> set[str]:
    """The dotted keys of benchmarks that the command line or the recipe gives a value."""
    found = {override.split("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task}
    benchmarks = load_recipe(recipe_files()[recipe]).get("benchmarks") or {}
    return found | {f"benchmarks.{name}.{key}" for name, values in benchmarks.items() for key in values or {}}


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


def stored_config(run_dir: RunDir) -> DictConfig:
    """The configuration of the run that lies in a folder.

    Raises:
        ConfigError: it is damaged, or not of a run of ours.
    """
    stored = load_mapping(run_dir.config_yaml, "configuration")
    sections = (section for section in IDENTITY if section != "seed")
    if missing := [section for section in sections if not isinstance(stored.get(section), DictConfig)]:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} holds no run of ours, its config.yaml has no {missing[0]!r} "
            "(choose another run_dir, or none)"
        )
    return stored


def continued(composed: DictConfig, stored: Any, run_dir: RunDir) -> DictConfig:
    """The configuration for going on in a folder that holds a run.

    A recipe that continues runs takes over the stored model, adapter, data and seed; any other must agree.

    Raises:
        ConfigError: the folder's run is another one.
    """
    named = {
        override.split("=")[0].split(".")[0].lstrip("+") for override in HydraConfig.get().overrides.task
    }
    adopt = composed.continues and not named & set(IDENTITY)
    if adopt:
        with_stored = composed.copy()
        for section in IDENTITY:
            OmegaConf.update(with_stored, section, stored[section], merge=True)
        return with_stored
    ours, theirs = identity(composed), identity(stored)
    for section in IDENTITY:
        if ours[section] != theirs[section]:
            key, ours_value, theirs_value = first_difference(section, ours[section], theirs[section])
            raise ConfigError(
                f"run_dir: {str(run_dir.path)!r} holds another run, with {key}={theirs_value!r}, "
                f"not {ours_value!r} (choose another run_dir, or none)"
            )
    return composed


def first_difference(key: str, ours: Any, theirs: Any) -> tuple[str, Any, Any]:
    """The dotted key where two configurations first differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                return first_difference(f"{key}.{name}", ours.get(name), theirs.get(name))
    return key, ours, theirs


def run_name(recipe: str, composed: DictConfig) -> str:
    """The recipe's name, with eight hex digits where the user's values make it another run than its own."""
    own = hydra.compose("config", overrides=[f"recipe={recipe}"])
    ours = identity(composed)
    return recipe if ours == identity(own) else f"{recipe}-{fingerprint(ours)[:8]}"


def identity(config: Any) -> dict[str, Any]:
    """What decides which run this is: the unresolved values of the sections of IDENTITY."""
    values = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(values, dict)
    chosen = {section: values[section] for section in IDENTITY}
    for section, ignored in SAME_RUN.items():
        chosen[section] = {key: value for key, value in chosen[section].items() if key not in ignored}
    return chosen


def set_up_process() -> None:
    """A quiet, private process: our log lines plain on the terminal, no telemetry, no third-party chatter."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    log = logging.getLogger("workbench")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.CRITICAL if RANK else logging.INFO)
        log.propagate = False


def one_line(error: BaseException) -> str:
    """An error's message, and its cause's where that says more, without line breaks."""
    parts = [str(error)]
    if isinstance(error, HydraException) and error.__cause__ is not None:
        parts.append(str(error.__cause__))
    if isinstance(error, WorkbenchError):
        return " ".join(parts[0].split())
    return plainly(" ".join(parts), options)


def options(group: str) -> list[str]:
    """The names that can be chosen of a group, such as benchmark."""
    folders = (shipped("conf") / group, Path("conf") / group)
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
