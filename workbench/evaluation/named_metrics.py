"""Metrics by the name that a benchmark gives them: this package's own, or any that `evaluate` can load."""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError
from workbench.evaluation.metrics import METRICS, Judged, Metric, is_right, likeliest
from workbench.evaluation.records import Answer, Example

_OUTPUT_TYPES = tuple(OutputType[name] for name in ("multiple_choice", "generation", "classification"))


def named(name: str, key: str = "metrics") -> Metric:
    """The metric called `name`; one with a slash is a file or hub id for `evaluate.load`.

    Raises:
        ConfigError: there is none, it can't be loaded, or it needs a package that isn't installed.
    """
    if "/" in name:
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
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{key}: {name!r} can't be loaded by evaluate.load: {reason}") from error
    if getattr(module, "module_type", "metric") != "metric":
        raise ConfigError(f"{key}: {name!r} is a {module.module_type}, no metric")

    def value(judged: Sequence[Judged]) -> float:
        takes_text = _takes_text(module)
        pairs = [_pair(one, takes_text) for one in judged]
        predictions, references = zip(*pairs, strict=True)
        found = module.compute(predictions=list(predictions), references=list(references))
        return _number(found or {}, name, key)

    def score(prediction: int | str | None, answer: Answer, example: Example) -> float:
        if not isinstance(prediction, str):
            return is_right(prediction, answer, example)
        return value([Judged(prediction, answer, example)])

    def judge(answer: Answer, example: Example) -> int | str | None:
        return likeliest(answer, example) if answer.loglikelihoods else answer.extracted or ""

    return Metric(output_types=_OUTPUT_TYPES, judge=judge, score=score, corpus=value)


def _takes_text(module: Any) -> bool:
    features = module.features[0] if isinstance(module.features, list) else module.features
    return str(getattr(features["predictions"], "dtype", "string")) == "string"


def _pair(one: Judged, takes_text: bool) -> tuple[int | str, int | str]:
    """Prediction and reference as the module wants them."""
    target = one.example.target[0] if isinstance(one.example.target, tuple) else one.example.target
    prediction = "" if one.prediction is None else one.prediction
    return (str(prediction), str(target)) if takes_text else (prediction, target)


def _number(found: dict[str, Any], name: str, key: str) -> float:
    """The value of the metric's own name, else the first number."""
    numbers = {k: float(v) for k, v in found.items() if isinstance(v, int | float) or hasattr(v, "item")}
    own = Path(name).stem
    if own in numbers or numbers:
        value = numbers.get(own, next(iter(numbers.values())))
        return value if math.isfinite(value) else 0.0
    raise ConfigError(f"{key}: {name!r} gives no number but {', '.join(found) or 'nothing'}")
