"""Looks up metrics by name: this package's own, or any metric that `evaluate` can load."""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError, first_line
from workbench.evaluation.code_box.sound_box import check_box
from workbench.evaluation.metric_directions import lower_is_better, metric_name
from workbench.evaluation.metrics.likelihood_scores import is_right, most_likely
from workbench.evaluation.metrics.metric import Judged, Metric
from workbench.evaluation.metrics.table import METRICS
from workbench.evaluation.records import Answer, Example
from workbench.trust import check_trusted

MODULES = Path(__file__).parent / "hf_modules"
"""Folder of this package's modules for `evaluate.load`, which are loaded without `trust_code`."""
_OUTPUT_TYPES = tuple(OutputType[name] for name in ("multiple_choice", "generation", "classification"))


def metric_named(name: str, key: str = "metrics") -> Metric:
    """Return the metric `name`; a name with a slash is a file or Hub id for `evaluate.load`.

    `key` is the configuration key that has the name, for messages.

    Raises:
        ConfigError: The metric is unknown, can't be loaded, needs a package that isn't installed, its code
            isn't trusted, or it runs programs and there is no sound box for them.
    """
    if "/" in name:
        if not Path(name).resolve().is_relative_to(MODULES):
            check_trusted(key, name)
        return _loaded(name, key)
    if name not in METRICS:
        raise ConfigError(
            f"{key}: unknown metric {name!r} (known: {', '.join(sorted(METRICS))}; a name with a slash is "
            "a file or hub id for evaluate.load)"
        )
    if needed := next((package for package in METRICS[name].needs if util.find_spec(package) is None), ""):
        raise ConfigError(
            f"{key}: {name!r} needs {needed}, which is not installed "
            f"(pip install 'open-llama-workbench[{METRICS[name].extra}]')"
        )
    if METRICS[name].runs_programs:
        check_box(key, name)
    return METRICS[name]


@lru_cache(maxsize=16)
def _loaded(name: str, key: str) -> Metric:
    import evaluate  # takes a second, and most benchmarks don't need it

    try:
        module = evaluate.load(name, keep_in_memory=True)
    except (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{key}: {name!r} can't be loaded by evaluate.load: {first_line(error)}") from error
    if getattr(module, "module_type", "metric") != "metric":
        raise ConfigError(f"{key}: {name!r} is a {module.module_type}, not a metric (name a metric)")

    def value(judged: Sequence[Judged]) -> float:
        takes_text, takes_lists = _takes_text(module), _takes_lists(module)
        several = takes_text and any(len(_references(item.example)) > 1 for item in judged)
        if several and takes_lists:
            references: list[Any] = [list(_references(item.example)) for item in judged]
        elif several:
            references = [best_reference(item) for item in judged]
        else:
            references = [_reference(item.example, takes_text) for item in judged]
        return computed([_prediction(item, takes_text) for item in judged], references)

    def computed(predictions: list[Any], references: list[Any]) -> float:
        return _number(module.compute(predictions=predictions, references=references) or {}, name, key)

    def best_reference(item: Judged) -> str:
        """Return the reference that gives the prediction the best score, for a module that takes one only."""
        prediction, texts = _prediction(item, True), _references(item.example)
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
            return 0.0  # a correlation, for example, is undefined for a single answer

    def judge(answer: Answer, example: Example) -> int | str | None:
        return most_likely(answer, example) if answer.loglikelihoods else answer.extracted or ""

    return Metric(output_types=_OUTPUT_TYPES, judge=judge, score=score, corpus=value)


def _features(module: Any) -> list[Any]:
    """Return the input formats that a module of `evaluate` takes: `predictions` and `references` -> type."""
    return list(module.features) if isinstance(module.features, list) else [module.features]


def _takes_text(module: Any) -> bool:
    return str(getattr(_features(module)[0]["predictions"], "dtype", "string")) == "string"


def _takes_lists(module: Any) -> bool:
    """Return whether a module of `evaluate` takes a list of references for each prediction."""
    return any(hasattr(features["references"], "feature") for features in _features(module))


def _prediction(item: Judged, takes_text: bool) -> int | str:
    """Return the prediction as text or as a label's index, whichever the module takes."""
    prediction = "" if item.prediction is None else item.prediction
    return str(prediction) if takes_text else prediction


def _references(example: Example) -> tuple[str, ...]:
    """Return all references of a generation; of other items, the index of the first right choice as text."""
    is_generation = example.references or isinstance(example.target, str)
    return example.reference_texts if is_generation else example.reference_texts[:1]


def _reference(example: Example, takes_text: bool) -> int | str:
    """Return a single reference as text or as a label's index, whichever the module takes."""
    if takes_text:
        return _references(example)[0]
    return example.target[0] if isinstance(example.target, tuple) else example.target


def _number(results: dict[str, Any], name: str, key: str) -> float:
    """Return the result of a module of `evaluate` that has the metric's name, else its first number.

    Raises:
        ConfigError: There is no number, or it is infinite or NaN.
    """
    numbers = {k: float(v) for k, v in results.items() if isinstance(v, int | float) or hasattr(v, "item")}
    own_name = metric_name(name)
    if numbers:
        value = numbers.get(own_name, next(iter(numbers.values())))
        if not math.isfinite(value):
            raise ConfigError(
                f"{key}: {name!r} gives {value} for these answers (remove the metric; the answers are cached)"
            )
        return value
    raise ConfigError(f"{key}: {name!r} gives no number (results: {', '.join(results) or 'none'})")
