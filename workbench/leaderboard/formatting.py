"""Formats numbers and names in the same way for the terminal, the page and Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.evaluation.metric_directions import lower_is_better, metric_name
from workbench.evaluation.records import Score
from workbench.shown import clean

LANGUAGES = {"zh": "Chinese", "en": "English"}

METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy, per character",
    "acc_bytes": "accuracy, per byte",
    "acc_token": "accuracy, per token",
    "acc_pmi": "accuracy, against the unconditional choice",
}


OF_100 = ("bleu", "chrf")
"""Metrics that lm-evaluation-harness reports on a scale from 0 to 100."""


def language(code: str) -> str:
    """Return the English name of a language code, as Chinese for zh; an unknown code as it is."""
    return LANGUAGES.get(code, clean(code))


def benchmarks(names: Sequence[str]) -> str:
    """Return the number of benchmarks as text: `2 benchmarks`, or `2 benchmarks in 3 columns`.

    Args:
        names: The benchmark of each column.
    """
    count, num_columns = len(set(names)), len(names)
    text = "1 benchmark" if count == 1 else f"{count:,} benchmarks"
    return text if count == num_columns else f"{text} in {num_columns:,} columns"


def number(value: float, is_share: bool) -> str:
    """Return a score as text: a share in percent, without the sign (`51.2`), else four significant digits."""
    return f"{100 * value:z.1f}" if is_share else f"{value:.4g}"


def metric(name: str) -> str:
    """Return a metric's name for readers: "accuracy, per byte" for acc_bytes; others with spaces for `_`."""
    return METRICS.get(name, clean(name.replace("_", " ")))


def change(value: float, is_share: bool) -> str:
    """Return a signed difference as text: shares in percentage points (`+1.2`), others with three digits."""
    text = f"{100 * value:+.1f}" if is_share else f"{value:+.3g}"
    return text.replace("-", "−")


def interval(bounds: Any, is_share: bool, signed: bool = False) -> str:
    """Return an interval as text, as `40.1–45.0`, or signed as `−1.2 to +0.3`; empty for None.

    Shares are in percent, without the sign.

    Args:
        bounds: Lower and upper end, or None.
        is_share: Whether the ends are shares, which are shown in percent.
        signed: Whether it is the interval of a difference.
    """
    if bounds is None:
        return ""
    low, high = (change(end, is_share) if signed else number(end, is_share) for end in bounds)
    return f"{low} to {high}" if signed else f"{low}–{high}"


def p_value(value: float) -> str:
    """Return a p-value as text, as `0.31`, `0.031` or `< 0.001`, never as zero."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def asked(score: Score) -> str:
    """Return a score's protocol and number of few-shot examples as text: `default · 5-shot`.

    Of several answers to an item, also their number: `default · 5-shot · 4 answers an item`.
    """
    answers = f" · {score.num_samples} answers an item" if score.num_samples > 1 else ""
    return f"{clean(score.protocol)} · {score.num_fewshot}-shot{answers}"


def several(score: Score, others: Mapping[str, Score]) -> str:
    """Return the scores of several answers to an item, as `4 answers an item: maj@4 60.0 · pass@2 71.4`.

    Empty with one answer.

    Args:
        score: The main metric's score, the mean over an item's answers.
        others: Other metric -> score; of these, the main metric's majority and pass@k are shown.
    """
    shown = [
        f"{clean(name.rpartition(',')[2])} {number(other.value, True)}"
        for name, other in others.items()
        if name.startswith((f"{score.metric},", "pass@"))
    ]
    told = f"{score.num_samples} answers an item{': ' if shown else ''}{' · '.join(shown)}"
    return told if score.num_samples > 1 else ""


def letters(score: Score) -> str:
    """Return the share of questions answered with each option letter, as `A 25% · B 50%`; empty if none."""
    total = sum(score.letters.values())
    shares = [
        f"{clean(letter)} {100 * count / total:.0f}%" for letter, count in score.letters.items() if total
    ]
    orders = f", over {score.permutations} orders of the options" if score.permutations > 1 else ""
    return " · ".join(shares) + (orders if shares else "")


def too_long(score: Score) -> str:
    """Return what became of items longer than the context, as `2 questions cut, ...`; empty without any."""
    counts = ((score.num_truncated, "cut"), (score.num_skipped, "left out"))
    told = [f"{count:,} question{'s' * (count > 1)} {what}" for count, what in counts if count]
    return " and ".join(told) + ", longer than the model's context" if told else ""


def texts(score: Score) -> str:
    """Return from which share of generated texts nothing was extracted, and how they end badly.

    As `300 texts: no answer in 4.0% · 3.3% cut at the token limit · 0.7% within a thought`. Shares of 0 are
    left out; the result is empty if all are.
    """
    told = {
        "unextracted": "no answer in {}",
        "length": "{} cut at the token limit",
        "in_thought": "{} within a thought",
        "thought_cut": "{} with their thought cut at its budget",
    }
    total = score.texts.get("texts", 0)
    counts = {key: score.texts.get(key, 0) for key in told}
    shares = [told[key].format(f"{100 * count / total:.1f}%") for key, count in counts.items() if count]
    return f"{total:,} texts: " + " · ".join(shares) if shares else ""


def equal(value: float) -> str:
    """Return a p-value with a relation sign, as `= 0.031` or `< 0.001`."""
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def measured(name: str, value: Any) -> str:
    """Return a measured value as text, with the unit that the end of its name tells.

    Names end in seconds, bytes or _per_second; other numbers get no unit, and other values are cleaned texts.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(str(value))
    if name.endswith("_per_second"):
        return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"
    if name.endswith("seconds"):
        return duration(value)
    if name.endswith("bytes"):
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return seconds as `12.3 s`, `4 min 5 s` or `2 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def is_share(metric: str, protocol: str) -> bool:
    """Return whether a metric is a share from 0 to 1, by the names of metric and protocol.

    Metrics where lower is better are not, nor MCC, nor the harness's BLEU and chrF (`OF_100`).
    """
    name = metric_name(metric)
    # The harness's own protocol is followed by its version.
    is_of_100 = name in OF_100 and protocol.startswith("lm-eval ")
    return not (lower_is_better(metric) or name.endswith("mcc") or is_of_100)


def is_shown_as_share(score: Score) -> bool:
    """Return whether a score is a share: its metric is one, and its value is between 0 and 1."""
    return is_share(score.metric, score.protocol) and 0 <= score.value <= 1
