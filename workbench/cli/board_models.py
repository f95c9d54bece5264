"""Reads the list of models that a leaderboard scores, and scores each in a run folder of its own."""

import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import chain, count
from pathlib import Path

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from workbench.cli.composition import typed
from workbench.cli.messages import one_line
from workbench.cli.user_errors import users_error
from workbench.cli.yaml_files.unfolding import check_unfolded
from workbench.config import Config
from workbench.config.leaderboard import ModelEntry
from workbench.config.names import ADAPTER, BASE
from workbench.config.quantization import QuantizationMethod
from workbench.errors import ConfigError, FolderInUseError
from workbench.files import locked
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")

RECIPE = "evaluate"
"""Recipe of the runs that score the models."""
MOST_MODELS = 1000
OTHER_FOLDER = re.compile(r"choose another run_dir(, or none)?")
"""Way out of a folder that holds another run, in messages; here an entry's name decides its folder."""


@dataclass(frozen=True)
class Scoring:
    """Functions of the pipeline that score models; they are passed in to avoid an import of torch here."""

    run: Callable[[Config, RunDir, str], None]
    """Runs a configuration in a run folder; the last argument is the text of its config.yaml."""
    record_failure: Callable[[Config, RunDir, str], None]
    """Writes into a run folder why its model could not be scored."""
    agreed_failure: Callable[[str], str]
    """Takes why this rank has failed (empty: it hasn't); returns, on every rank, why any rank has."""


def score_models(composed: DictConfig, scoring: Scoring) -> list[str]:
    """Score the models in the file `leaderboard.models`, each in its own run folder, even if some fail.

    With `leaderboard.entries`, only the models with these names are scored. A model whose folder another
    command is using is scored after the others, once the folder is free.

    Args:
        composed: The leaderboard's configuration.
        scoring: Functions of the pipeline.

    Returns:
        Names of the models that failed.

    Raises:
        ConfigError: The file of models is invalid, or no benchmark is chosen.
    """
    if not composed.benchmarks:
        raise ConfigError(
            "benchmark: none chosen to score the models on (as in 'benchmark=[cmmlu,hellaswag]')"
        )
    entries = chosen(read_entries(Path(composed.leaderboard.models)), list(composed.leaderboard.entries))
    scoring.agreed_failure("")
    queue = deque((entry, False) for entry in entries)
    failed = []
    while queue:
        entry, is_in_use = queue.popleft()
        folder = Path(composed.leaderboard.folder) / str(entry.name)
        if is_in_use:
            wait_for(folder)
        log.info("== model %d of %d: %s", len(entries) - len(queue), len(entries), entry.name)
        try:
            reason = scored(composed, entry, folder, scoring)
        except FolderInUseError:
            log.info("%s: another command is using its folder, so it comes last", entry.name)
            queue.append((entry, True))
            continue
        if reason:
            log.error("error: %s: %s (the other models go on)", entry.name, reason)
            failed.append(str(entry.name))
    return failed


def wait_for(folder: Path) -> None:
    """Wait until no other process is using a run's folder.

    Raises:
        DataError: There is a link or a folder at the path of the lock file.
    """
    with locked(RunDir(folder).lock, wait=True):
        pass


def scored(composed: DictConfig, entry: ModelEntry, folder: Path, scoring: Scoring) -> str:
    """Score one model; return why it could not be scored, in one line, or an empty text after success.

    The reason is also written to failure.json in the model's run folder, unless the model's settings are
    invalid; success deletes that file.

    Args:
        composed: The leaderboard's configuration.
        entry: The model.
        folder: The model's run folder.
        scoring: Functions of the pipeline.

    Raises:
        FolderInUseError: Another process is using the model's folder.
    """
    config: Config | None = None
    reason = ""
    try:
        config, run_dir, text = typed(of_entry(composed, entry, folder), RECIPE)
        scoring.run(config, run_dir, text)
    except FolderInUseError:
        raise
    except BaseException as error:
        if (mistake := users_error(error)) is None:
            raise
        reason = OTHER_FOLDER.sub("give the entry another name, as in {name: NAME}", one_line(mistake))
    reason = scoring.agreed_failure(reason)
    if not reason:
        RunDir(folder).failure_json.unlink(missing_ok=True)
    elif config is not None:  # None: the model's settings are invalid, or the folder holds another run
        scoring.record_failure(config, RunDir(folder), reason)
    return reason


def read_entries(path: Path) -> list[ModelEntry]:
    """Read a YAML list of models, and give names to those without.

    Models with the same base follow one another, the base itself before its adapters; bases keep their order.

    Raises:
        ConfigError: The file is not such a list, or two names are equal; the message names file and entry.
    """
    if not path.is_file():
        raise ConfigError(f"leaderboard.models: no file {str(path)!r} (a YAML list of models)")
    check_unfolded(path)
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, ValueError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not YAML: {one_line(error)}") from error
    if not isinstance(content, ListConfig) or not content or len(content) > MOST_MODELS:
        raise ConfigError(
            f"{path}: not a list of 1 to {MOST_MODELS:,} models (each a path, or a mapping with path, ...)"
        )
    entries = [read_entry(item, f"{path}: entry {number}") for number, item in enumerate(content, 1)]
    give_names(entries)
    names = [entry.name for entry in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{path}: two models are called {twice[0]!r} (give each another name)")
    bases = [base_of(entry) for entry in entries]
    return sorted(entries, key=lambda entry: (bases.index(base_of(entry)), entry.adapter is not None))


def read_entry(item: object, where: str) -> ModelEntry:
    """Read one entry of the list of models: a path, or a mapping with path and other keys.

    Raises:
        ConfigError: A key or value is wrong; the message starts with `where`.
    """
    values = {"path": item} if isinstance(item, str) else item
    known = ", ".join(field.name for field in fields(ModelEntry))
    if not isinstance(values, dict | DictConfig):
        raise ConfigError(f"{where}: neither a path nor a mapping (known keys: {known})")
    try:
        entry = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelEntry), values))
    except (OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{where}: {one_line(error)} (known keys: {known})") from error
    assert isinstance(entry, ModelEntry)
    return entry


def give_names(entries: Sequence[ModelEntry]) -> None:
    """Set the name of each entry without one to `own_name`, with `-2`, `-3`, ... if the name is taken."""
    taken = {entry.name for entry in entries}
    for entry in entries:
        if entry.name is None:
            own = own_name(entry)
            numbered = (f"{own}-{number}" for number in count(2))
            entry.name = next(name for name in chain([own], numbered) if name not in taken)
            taken.add(entry.name)


def own_name(entry: ModelEntry) -> str:
    """Return a model's default name, as in `Qwen3-0.6B-nf4-RUN`: base, quantization and adapter's folder.

    For an adapter at RUN/adapter, the folder is RUN.
    """
    path = named_path(entry.path)
    parts = [path.stem if path.suffix == ".gguf" else path.name]
    if entry.quantization is not QuantizationMethod.none:
        parts.append(entry.quantization.value)
    if entry.adapter is not None:
        adapter = named_path(entry.adapter)
        parts.append(adapter.parent.name if adapter.name == ADAPTER and adapter.parent.name else adapter.name)
    return "-".join(parts)


def named_path(text: str) -> Path:
    """Return a text as a path that ends in a name: `.` and `x/..` become absolute paths."""
    path = Path(text)
    return path.resolve() if path.name in ("", "..") else path


def base_of(entry: ModelEntry) -> tuple[str, ...]:
    """Return the settings that decide which base is loaded and how; models with equal ones share the base."""
    return (
        entry.path,
        entry.quantization.value,
        entry.dtype.value,
        entry.revision or "",
        entry.tokenizer or "",
    )


def chosen(entries: Sequence[ModelEntry], names: Sequence[str]) -> list[ModelEntry]:
    """Return the entries with these names, in the order of `entries`; all entries if `names` is empty.

    Raises:
        ConfigError: No entry has one of the names.
    """
    known = [str(entry.name) for entry in entries]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"leaderboard.entries: no model {unknown[0]!r} (known: {', '.join(known)})")
    return [entry for entry in entries if not names or entry.name in names]


def of_entry(composed: DictConfig, entry: ModelEntry, folder: Path) -> DictConfig:
    """Return a copy of the leaderboard's configuration, changed to that of a run that scores one model.

    Args:
        composed: The leaderboard's configuration.
        entry: The model.
        folder: The model's run folder.
    """
    run = composed.copy()
    run.steps = [RECIPE]
    run.run_dir = str(folder)
    run.leaderboard.models, run.leaderboard.entries = None, []
    for key in ("path", "dtype", "revision", "tokenizer"):
        run.model[key] = getattr(entry, key)
    run.quantization.method = entry.quantization
    run.adapter.path = entry.adapter
    run.evaluate.models = [ADAPTER if entry.adapter else BASE]
    if not re.fullmatch(rf"{re.escape(own_name(entry))}(-\d+)?", str(entry.name)):
        run.evaluate.name = entry.name
    return run
