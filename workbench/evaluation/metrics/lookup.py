"""Metrics by the name that a benchmark gives them: this package's own, or any that `evaluate` can load."""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError, first_line
from workbench.evaluation.metrics.table import METRICS, Judged, Metric, is_right, likeliest
from workbench.evaluation.records import Answer, Example, lower_is_better, metric_name
from workbench.trust import check_trusted

MODULES = Path(__file__).parent / "hf_modules"
"""Our own modules for `evaluate.load`, which are as trusted as the rest of this package."""
_OUTPUT_TYPES = tuple(OutputType[name] for name in ("multiple_choice", "generation", "classification"))


def named(name: str, key: str = "metrics") -> Metric:
    """The metric called `name`; one with a slash is a file or hub id for `evaluate.load`.

    Raises:
        ConfigError: there is none, it can't be loaded, it needs a package that isn't installed, or its code
            isn't trusted.
    """
    if "/" in name:
        if not Path(name).resolve().is_relative_to(MODULES):
            check_trusted(key, name)
        return _loaded(name, key)
    if name not in METRICS:
        raise ConfigError(
            f"{key}: unknown metric {name!r} (known: {', '.join(sorted(METRICS))}; with a slash it is a file "
            "or hub id for evaluate.load)"
        )
    needed = METRICS[name].needs
    if needed and util.find_spec(needed) is None:
        raise ConfigError(
            f"{key}: {name!r} needs {needed}, which is not installed "
            "(pip install 'open-llama-workbench[metrics]')"
        )
    return METRICS[name]


@lru_cache(maxsize=16)
def _loaded(name: str, key: str) -> Metric:
    import evaluate  # costs a second, and most benchmarks don't need it

    try:
        module = evaluate.load(name, keep_in_memory=True)
    except (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{key}: {name!r} can't be loaded by evaluate.load: {first_line(error)}") from error
    if getattr(module, "module_type", "metric") != "metric":
        raise ConfigError(f"{key}: {name!r} is a {module.module_type}, no metric")

    def value(judged: Sequence[Judged]) -> float:
        takes_text, takes_lists = _takes_text(module), _takes_lists(module)
        several = takes_text and any(len(_references(one.example)) > 1 for one in judged)
        if several and takes_lists:
            references: list[Any] = [list(_references(one.example)) for one in judged]
        elif several:
            references = [best_reference(one) for one in judged]
        else:
            references = [_reference(one.example, takes_text) for one in judged]
        return computed([_prediction(one, takes_text) for one in judged], references)

    def computed(predictions: list[Any], references: list[Any]) -> float:
        return _number(module.compute(predictions=predictions, references=references) or {}, name, key)

    def best_reference(one: Judged) -> str:
        """The reference that a module which takes a single one gives the highest score."""
        prediction, texts = _prediction(one, True), _references(one.example)
        if len(texts) == 1:
            return texts[0]
        best = min if lower_is_better(name) else max
        return best(texts, key=lambda text: computed([prediction], [text]))

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        if not isinstance(prediction, str):
            return is_right(prediction, answer, example)
        try:
            return value([Judged(prediction, answer, example)])
        except ConfigError:
            return 0.0  # a correlation, for one, has no value for a single answer

    def judge(answer: Answer, example: Example) -> int | str | None:
        return likeliest(answer, example) if answer.loglikelihoods else answer.extracted or ""

    return Metric(output_types=_OUTPUT_TYPES, judge=judge, score=score, corpus=value)


def _features(module: Any) -> list[Any]:
    """The types of predictions and references that a module takes, each a mapping."""
    return list(module.features) if isinstance(module.features, list) else [module.features]


def _takes_text(module: Any) -> bool:
    return str(getattr(_features(module)[0]["predictions"], "dtype", "string")) == "string"


def _takes_lists(module: Any) -> bool:
    """Whether a prediction may have several references."""
    return any(hasattr(features["references"], "feature") for features in _features(module))


def _prediction(one: Judged, takes_text: bool) -> int | str:
    """The prediction as the module wants it."""
    prediction = "" if one.prediction is None else one.prediction
    return str(prediction) if takes_text else prediction


def _references(example: Example) -> tuple[str, ...]:
    """The texts that are right: of a generated answer, all; of a choice, its number, the first of several."""
    generated = example.references or isinstance(example.target, str)
    return example.reference_texts if generated else example.reference_texts[:1]


def _reference(example: Example, takes_text: bool) -> int | str:
    """The one reference as the module wants it."""
    if takes_text:
        return _references(example)[0]
    return example.target[0] if isinstance(example.target, tuple) else example.target


def _number(found: dict[str, Any], name: str, key: str) -> float:
    """The value of the metric's own name, else the first number."""
    numbers = {k: float(v) for k, v in found.items() if isinstance(v, int | float) or hasattr(v, "item")}
    own = metric_name(name)
    if numbers:
        value = numbers.get(own, next(iter(numbers.values())))
        if not math.isfinite(value):
            raise ConfigError(
                f"{key}: {name!r} gives {value} for these answers (leave it out; the answers are kept)"
            )
        return value
    raise ConfigError(f"{key}: {name!r} gives no number but {', '.join(found) or 'nothing'}")
