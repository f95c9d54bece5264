"""Decides whether lower values of a metric are better: by the metric's name, or as its task declares."""

from functools import cache
from pathlib import PurePath

_LOSSES = ("perplexity", "bits_per_byte", "loss")
"""Suffixes of the names of metrics for which lower is better."""
_ERRORS = ("wer", "cer", "ter", "mer", "mae", "mse", "rmse", "mape", "smape", "mase", "brier_score")
"""Names of metrics of `evaluate` and of lm-evaluation-harness for which lower is better."""


@cache
def metric_name(metric: str) -> str:
    """Return a metric's name without owner, folder, `.py` and filter, as `bleu` for `owner/bleu,FILTER`."""
    return PurePath(PurePath(metric).name.partition(",")[0]).stem


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better, judged by its name."""
    name = metric_name(metric)
    return name.endswith(_LOSSES) or name in _ERRORS


def declared_direction(metric: str, higher_is_better: object) -> bool | None:
    """Return whether higher values are better, as a task declares, if the metric's name implies the opposite.

    Otherwise return None. The result is the value of `Score.higher_is_better`.
    """
    is_declared = isinstance(higher_is_better, bool) and higher_is_better == lower_is_better(metric)
    return bool(higher_is_better) if is_declared else None
