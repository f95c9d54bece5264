"""Finds the models of all runs: models with the same weights, adapter, quantization and dtype share a row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.config import QuantizationConfig
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED, UNTRAINED
from workbench.evaluation.result_checksums import RECIPE_DIGEST
from workbench.files import fingerprint
from workbench.leaderboard.board import Model
from workbench.leaderboard.collect import Failure, Run
from workbench.leaderboard.rows.homoglyphs import with_warnings
from workbench.leaderboard.rows.imported_parents import parents_of_imported
from workbench.leaderboard.rows.names import with_names
from workbench.leaderboard.rows.proof import merge_proof
from workbench.leaderboard.rows.roles import IMPORTED, ROLES
from workbench.leaderboard.rows.training import contamination, curves
from workbench.shown import clean, message

PROGRAM = "open-llama-workbench"
OF_TRAINING = ("model", "quantization", "adapter", "data", "train")
"""Sections of config.yaml that determine a training, besides its seed."""

TOLD_OF_TRAINING = ("method", "rank", "learning_rate", "seed", "trained_on")
"""Facts about the training of an adapter from elsewhere, as results.json has them."""

COMBINED = "combined"
"""Key in run.json of the adapters or models that the run's model was combined from."""

UNSCORED = "unscored"
"""Key, in results.json, of a model's benchmarks of which no item fits its context: name -> count."""

KEY_DIGITS = 16


@dataclass(frozen=True)
class Models:
    """The rows of a leaderboard, and which row each model of each run is in."""

    rows: list[Model]
    keys: dict[tuple[str, str], str]
    """(run label, model of the run) -> key of its row."""


def find_models(runs: Sequence[Run], failures: Sequence[Failure] = ()) -> Models:
    """Return one row per distinct scored model, whichever runs have it, then one per failed model.

    A failure in a run that has rows already adds a remark to these rows instead.
    """
    found: dict[str, list[Model]] = {}
    keys: dict[tuple[str, str], str] = {}
    for run in runs:
        scored = {score.model for score in run.scores}
        scored |= {name for name, facts in run.models.items() if _section(facts, UNSCORED)}
        for name in sorted(run.models.keys() & scored, key=_order) + sorted(scored - run.models.keys()):
            model = _model(run, name)
            found.setdefault(model.key, []).append(model)
            keys[run.label, name] = model.key
    parents = parents_of_imported(runs, keys)
    rows = [_joined(models) for models in found.values()]
    rows = [replace(row, parent=row.parent or parents.get(row.key)) for row in rows]
    rows = [row if row.parent in found else replace(row, parent=None) for row in rows]
    for failure in failures:
        rows = _with_failure(rows, failure)
    return Models(rows=with_warnings(with_names(rows)), keys=keys)


def _with_failure(rows: Sequence[Model], failure: Failure) -> list[Model]:
    """Add a row for a model that could not be scored; if its run has rows already, add a remark to these."""
    remark = message("not scored on everything: {reason}", reason=failure.reason)
    if any(failure.label in row.sources for row in rows):
        return [
            replace(row, remarks=(*row.remarks, remark)) if failure.label in row.sources else row
            for row in rows
        ]
    row = Model(
        key=fingerprint([failure.label, "failure"])[:KEY_DIGITS],
        name=" ".join(clean(failure.name).split()),
        role=ADAPTER if failure.facts.get("adapter") else BASE,
        parent=None,
        tool=PROGRAM,
        facts={key: value for key, value in failure.facts.items() if value not in (None, "", {})},
        sources=(failure.label,),
        recipe_key="",
        failure=failure.reason,
    )
    return [*rows, row]


def _order(name: str) -> tuple[int, str]:
    return (ROLES.index(name) if name in ROLES else len(ROLES), name)


def _model(run: Run, name: str) -> Model:
    """Build the row of one model of one run; `name` stays empty unless the user gave a name."""
    facts = run.models.get(name, {})
    role = str(facts.get("role") or (name if name in ROLES else IMPORTED))
    is_own = role in (ADAPTER, TRAINED, MERGED) or not {ADAPTER, TRAINED} & run.models.keys()
    given = str(facts.get("name") or (run.given_name if is_own else ""))
    if given and role == MERGED and ADAPTER in run.models and not facts.get("name"):
        given = f"{given} {MERGED}"
    return Model(
        key=_key(run, name, facts),
        name=" ".join(clean(given).split()),
        role=role,
        parent=_parent(run, role, facts),
        tool=clean(str(facts.get("tool") or _program(run))),
        facts=_facts(run, name, facts, role),
        sources=(run.label,),
        recipe_key=_recipe_key(run, facts, role),
        remarks=(*run.remarks, *_unscored(facts)),
    )


def _unscored(facts: dict[str, Any]) -> list[str]:
    """Return a remark for each benchmark of which no item fits the model's context."""
    return [
        message(
            "{benchmark}: no item fits the model's context ({count} left out)", benchmark=key, count=count
        )
        for key, count in _section(facts, UNSCORED).items()
    ]


def _program(run: Run) -> str:
    version = _section(run.measured, "versions").get(PROGRAM)
    return f"{PROGRAM} {version}" if version else PROGRAM


def _key(run: Run, name: str, facts: dict[str, Any]) -> str:
    """Return the key of a model's row: a hash of weights, adapter, quantization, dtype and other details.

    A model without a checksum of its weights gets a hash of its run and name.
    """
    if not facts.get("weights"):
        return fingerprint([run.label, name])[:KEY_DIGITS]
    identity = [facts.get(fact) for fact in ("weights", "adapter", "quantization", "dtype")]
    details = [] if name == MERGED else _other_settings(run)
    is_untrained = any(score.model == name and score.note == UNTRAINED for score in run.scores)
    seed = [run.config.get("seed")] if is_untrained else []
    return fingerprint([*identity, *details, *seed])[:KEY_DIGITS]


def _other_settings(run: Run) -> list[Any]:
    """Return the quantization settings that differ from the defaults, and `model.tokenizer` if it is set.

    They change answers, so they belong to a row's key. The quantization method is already in the key.
    """
    usual = QuantizationConfig()
    quantization = _section(run.config, "quantization")
    changed = {
        key: value
        for key, value in quantization.items()
        if key != "method" and str(value) != str(_plain(getattr(usual, key, None)))
    }
    tokenizer = _section(run.config, "model").get("tokenizer")
    return [entry for entry in (changed, tokenizer) if entry]


def _plain(value: Any) -> Any:
    return getattr(value, "name", value)


def _parent(run: Run, role: str, facts: dict[str, Any]) -> str | None:
    """Return the row key of the run's base for an adapter, a merged or a trained model; else None."""
    if role not in (ADAPTER, MERGED, TRAINED):
        return None
    if role == ADAPTER:
        return _key(run, BASE, {**facts, "adapter": None})
    base = run.models.get(BASE)
    return None if base is None else _key(run, BASE, base)


def _recipe_key(run: Run, facts: dict[str, Any], role: str) -> str:
    """Return a key that is equal for models whose trainings differ only in the seed; empty if unknown."""
    if role not in (ADAPTER, MERGED, TRAINED):
        return ""
    if not _is_trained_by(run):
        recipe = _section(facts, "training").get("recipe")
        return fingerprint([role, facts.get("weights"), recipe])[:KEY_DIGITS] if recipe else ""
    if learned := _section(run.steps, "train").get(RECIPE_DIGEST):
        return fingerprint([role, learned])[:KEY_DIGITS]
    # A run of an earlier version has no such checksum; its configuration only names the rows.
    sections = [run.config.get(name) for name in OF_TRAINING]
    if not all(sections):
        return ""
    base = run.models.get(BASE, {})
    return fingerprint([role, base.get("weights"), *sections])[:KEY_DIGITS]


def _is_trained_by(run: Run) -> bool:
    """Return whether a run trained its model, rather than take an existing adapter or combine models."""
    is_of_others = _section(run.config, "adapter").get("path") or _section(run.measured, COMBINED)
    return "train" in run.steps or not is_of_others


def _training(run: Run, facts: dict[str, Any], role: str) -> dict[str, Any]:
    """Return method, rank, learning rate, seed and training data of a model, as far as its run tells."""
    if not _is_trained_by(run):
        told = _section(run.measured, COMBINED) or _section(facts, "training")
        return {key: value for key, value in told.items() if key in TOLD_OF_TRAINING}
    train, adapter, data = (_section(run.config, key) for key in ("train", "adapter", "data"))
    return {
        "method": adapter.get("method"),
        "rank": adapter.get("rank") if role != TRAINED else None,
        "learning_rate": train.get("learning_rate"),
        "seed": run.config.get("seed"),
        "trained_on": data.get("path") or ", ".join(map(str, _section(data, "sources"))),
    }


def _quantization(facts: dict[str, Any]) -> Any:
    """Return a model's quantization for display, as `gptq, unpacked` or `gptq, unpacked, nf4`."""
    method, unpacked = facts.get("quantization"), facts.get("unpacked")
    if not unpacked:
        return method
    return ", ".join([f"{unpacked}, unpacked", *([str(method)] if method != "none" else [])])


def _facts(run: Run, name: str, facts: dict[str, Any], role: str) -> dict[str, Any]:
    """Return the facts of a model that its name and the page show, without None and empty ones."""
    told: dict[str, Any] = {
        "path": run.base_model,
        "task": run.task,
        "quantization": _quantization(facts),
        "unpacked": facts.get("unpacked"),
        "dtype": facts.get("dtype"),
        "weights": facts.get("weights"),
        "num_parameters": facts.get("num_parameters"),
        "size_bytes": facts.get("size_bytes"),
        "tokens_per_second": _tokens_per_second(run, name),
    }
    if role in (ADAPTER, MERGED, TRAINED):
        told |= {
            "adapter": facts.get("adapter"),
            **_training(run, facts, role),
            "peak_bytes": _section(run.measured, "train").get("peak_bytes"),
        }
        told |= {
            "recipe": run.recipe if _is_trained_by(run) else "",
            "proof": merge_proof(run) if role == MERGED else "",
        }
        told |= {"curves": curves(run), "contamination": contamination(run, name)}
    return {key: value for key, value in told.items() if value not in (None, "", {})}


def _tokens_per_second(run: Run, name: str) -> float | None:
    """Return the tokens per second that the model computed while it was evaluated; None if unknown."""
    measured = _section(_section(run.measured, "evaluate"), name).values()
    pairs = [(one.get("computed_tokens"), one.get("seconds")) for one in measured if isinstance(one, dict)]
    known = [(tokens, seconds) for tokens, seconds in pairs if tokens and seconds]
    seconds = sum(float(seconds) for _, seconds in known)
    return sum(float(tokens) for tokens, _ in known) / seconds if seconds > 0 else None


def _section(values: Any, name: str) -> dict[str, Any]:
    """Return the mapping at key `name` of a mapping; empty if there is none."""
    section = values.get(name) if isinstance(values, dict) else None
    return section if isinstance(section, dict) else {}


def _joined(models: Sequence[Model]) -> Model:
    """Merge the rows that one model has from several runs into one.

    Where facts differ, the row whose role comes last in `ROLES` wins.
    """
    first, *others = sorted(models, key=lambda model: -_order(model.role)[0])
    facts: dict[str, Any] = {}
    for model in (*reversed(others), first):
        facts |= model.facts
    return replace(
        first,
        name=next((model.name for model in models if model.name), ""),
        parent=next((model.parent for model in (first, *others) if model.parent), None),
        facts=facts,
        sources=tuple(_once(source for model in models for source in model.sources)),
        recipe_key=next((model.recipe_key for model in (first, *others) if model.recipe_key), ""),
        remarks=tuple(_once(remark for model in models for remark in model.remarks)),
    )


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
