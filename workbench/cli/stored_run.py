"""Finds the run folder of a command, and adapts the command to the run that the folder holds already."""

import logging
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from workbench.api.benchmarks import benchmark_files, load_benchmark
from workbench.cli.run_name import as_mapping, check_same_run, first_difference, identity, run_name
from workbench.cli.yaml_files.recipes import load_mapping
from workbench.config import IDENTITY, Config, history
from workbench.config.benchmark import WHICH_ITEMS, BenchmarkConfig
from workbench.config.evaluate import NOT_SCORED_FROM, EvaluateConfig
from workbench.config.names import MODELS
from workbench.errors import ConfigError, DataError
from workbench.evaluation.records import read_results
from workbench.run_dir import RunDir
from workbench.run_record import SETTINGS, RunRecord
from workbench.shown import MASK

log = logging.getLogger("workbench")


def near_runs(path: Path) -> list[str]:
    """Return up to five run folders beside `path` that it may mean: first PATH-..., then similar names."""
    siblings = [folder for folder in path.parent.glob("*") if RunDir(folder).config_yaml.is_file()]
    longer = sorted(str(folder) for folder in siblings if folder.name.startswith(f"{path.name}-"))
    similar = get_close_matches(path.name, [folder.name for folder in siblings], n=5)
    return list(dict.fromkeys([*longer, *(str(path.parent / name) for name in similar)]))[:5]


def typed_keys() -> set[str]:
    """Return the dotted keys and groups that the command line sets or removes, without those of Hydra."""
    return {word.partition("=")[0].lstrip("+~") for word in HydraConfig.get().overrides.task}


def own_folder(recipe: str, composed: DictConfig) -> Path:
    """Return the run folder of a command without `run_dir`: runs/NAME.

    If it doesn't exist, but an earlier version's folder of the same run does, that folder.

    Raises:
        ConfigError: The config.yaml of the earlier version's folder can't be used, see `stored_config`.
    """
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
    """Read config.yaml of a run folder; return the configuration, completed, and its version.

    A key that its version didn't have gets the value that gives the behaviour of that version.

    Raises:
        ConfigError: The file was changed since the run wrote it, is of a later version of this program, sets
            `trust_code`, or is not a run's configuration.
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
    """Return a copy of a command's configuration, adapted to the run that its folder holds already.

    A recipe with `continues` takes over the stored sections in IDENTITY (model, adapter, data, ...); with any
    other recipe these must be equal (see `check_same_run`). A command that only audits or verifies an
    endpoint takes over how the run was scored, and is not compared with it. Defaults of the version that made
    the run stay in force, and so does the stored `data.validation_fraction` if the command leaves it null.

    Raises:
        ConfigError: The folder holds another run, or its config.yaml is refused by `stored_config`.
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
    if audits(composed):
        return as_scored(composed, stored, named, run_dir)
    check_same_run(composed, stored, run_dir)
    return composed


def adopted(composed: DictConfig, stored: DictConfig, named: set[str]) -> DictConfig:
    """Return a copy of the configuration with the stored sections in IDENTITY, except the keys in `named`.

    Interpolations stay unresolved, because their text identifies a run.

    Args:
        composed: The command's configuration.
        stored: The configuration in the run folder.
        named: Keys that the command line sets.
    """
    merged = composed.copy()
    for section in IDENTITY:
        OmegaConf.update(merged, section, stored[section], merge=True)
    for key in named:
        if key.split(".")[0] in IDENTITY:
            OmegaConf.update(merged, key, as_written(composed, key), merge=False)
    return merged


def audits(composed: DictConfig) -> bool:
    """Return whether the only step is audit or verify_endpoint, which ask recorded items again.

    They ask the model at the command's model.path or endpoint, which may differ from the run's.
    """
    return [step.name for step in composed.steps] in (["audit"], ["verify_endpoint"])


def as_scored(composed: DictConfig, stored: DictConfig, named: set[str], run_dir: RunDir) -> DictConfig:
    """Return a copy of the configuration with the settings that the run's scores were made with.

    run.json records the settings of each score; config.yaml has those of the folder's first command, and is
    used for scores that earlier versions made. The benchmarks are those that the command line chooses, else
    all that the run has stored or scored; those without stored settings are as their files are now. The keys
    in `named`, which the command line sets, keep the command's values.

    Raises:
        ConfigError: The scores were made with different settings.
    """
    scored, sections = composed.copy(), as_mapping(stored)
    models = composed.evaluate.models if "evaluate.models" in named else MODELS
    benchmarks = dict(sections.get("benchmarks") or {})
    written = {f"benchmarks.{name}": values for name, values in benchmarks.items()}
    written["evaluate"] = sections.get("evaluate") or {}
    entries = {
        (model, name): {key: as_yaml(values, written.get(key)) for key, values in settings.items()}
        for (model, name), settings in recorded_settings(run_dir).items()
        if model in models and name in (composed.benchmarks or [name])
    }
    for name in dict.fromkeys(name for _, name in entries):
        key = f"benchmarks.{name}"
        if section := agreed(entries, key, named):
            benchmarks[name] = section
    chosen = {
        name: values for name, values in benchmarks.items() if name in (composed.benchmarks or benchmarks)
    }
    later = [] if composed.benchmarks else scored_later(run_dir, benchmarks)
    evaluate = {**written["evaluate"], **agreed(entries, "evaluate", named)}
    with open_dict(scored):  # the command may have chosen no benchmarks
        scored.merge_with({"evaluate": evaluate, "benchmarks": chosen})
        scored.benchmarks.update({name: load_benchmark(name).config for name in later})
    for key in named:
        if key.startswith(("evaluate.", "benchmarks.")):
            OmegaConf.update(scored, key, as_written(composed, key), merge=False)
    return scored


def recorded_settings(run_dir: RunDir) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (model, benchmark) -> key of a section -> its values, of the scores for which run.json has them.

    The keys are `evaluate` and, but for held-out rows, `benchmarks.NAME`. What doesn't change a score is left
    out of `evaluate`.
    """
    try:
        steps = RunRecord(run_dir.run_json).values["steps"]
    except DataError:  # a step that needs it says so
        return {}
    by_score = {}
    for step, entry in steps.items():
        kind, model, name = (*step.split("/"), "", "")[:3]
        if kind == "evaluate" and (settings := entry.get(SETTINGS)):
            version, key = settings["version"], f"benchmarks.{name}"
            evaluate = history.completed(settings["evaluate"], EvaluateConfig, "evaluate", version)
            scored_from = {k: v for k, v in evaluate.items() if k not in NOT_SCORED_FROM}
            by_score[model, name] = {"evaluate": scored_from}
            if section := settings.get("benchmark"):
                by_score[model, name][key] = history.completed(section, BenchmarkConfig, key, version)
    return by_score


def as_yaml(value: Any, written: Any) -> Any:
    """Return a value of run.json as config.yaml would have it.

    Args:
        value: The value, in which secrets of the environment are masked and texts with `${` are plain.
        written: The value in config.yaml, which has `${oc.env:NAME}` for such a secret.
    """
    if isinstance(value, dict):
        inner = written if isinstance(written, dict) else {}
        return {name: as_yaml(values, inner.get(name)) for name, values in value.items()}
    if isinstance(value, list):
        return [as_yaml(values, None) for values in value]
    if not isinstance(value, str):
        return value
    is_masked = MASK in value and isinstance(written, str) and "${" in written
    return written if is_masked else value.replace("${", "\\${")


def agreed(
    entries: Mapping[tuple[str, str], Mapping[str, dict[str, Any]]], key: str, named: Collection[str]
) -> dict[str, Any]:
    """Return the section `key`, which must be the same for all scores that have one; {} if none has.

    Args:
        entries: (Model, benchmark) -> its sections, as from `recorded_settings`.
        key: Key of the section.
        named: Keys that the command line sets, in which scores may differ.

    Raises:
        ConfigError: Two scores differ in another key that changes a score.
    """
    by_score = {score: sections[key] for score, sections in entries.items() if key in sections}
    free = {*WHICH_ITEMS, *(word.removeprefix(f"{key}.").split(".")[0] for word in named)}

    def compared(section: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in section.items() if name not in free}

    (first, section), *others = by_score.items() or [(("", ""), {})]
    for other, values in others:
        if compared(values) != compared(section):
            at, one, two = first_difference(key, compared(section), compared(values))
            raise ConfigError(
                f"run_dir: its scores were made with different settings, {at}={one!r} ({' on '.join(first)}) "
                f"and {two!r} ({' on '.join(other)}) ('benchmark=[NAME]', 'evaluate.models=[MODEL]')"
            )
    return section


def scored_later(run_dir: RunDir, stored: Collection[str]) -> list[str]:
    """Return the benchmarks with scores in the folder that aren't `stored` but have a YAML file."""
    try:
        scores = read_results(run_dir.results_json)[1]
    except (DataError, OSError):  # none yet; a step that needs them names what is damaged
        return []
    files, names = benchmark_files(), dict.fromkeys(score.benchmark for score in scores)
    return [name for name in names if name not in stored and name in files]


def as_written(config: DictConfig, key: str) -> Any:
    """Return the value of a dotted key: a section as a node, a plain value with its interpolation unresolved.

    None: there is no such key, or it is null.
    """
    value = OmegaConf.select(config, key)
    if OmegaConf.is_config(value):
        return value
    node: Any = as_mapping(config)
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node
