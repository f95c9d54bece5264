"""Numbers and names as they are shown, the same in the terminal, on the page and in Markdown."""

from collections.abc import Iterable
from typing import Any

from workbench.evaluation.records import Score
from workbench.leaderboard.view_model import Difference, Mean, Row
from workbench.shown import clean

LANGUAGES = {"zh": "Chinese", "en": "English"}

METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy, per character",
    "acc_bytes": "accuracy, per byte",
    "acc_token": "accuracy, per token",
    "acc_pmi": "accuracy, against the unconditional choice",
}


def language(code: str) -> str:
    """The name of a language."""
    return LANGUAGES.get(code, clean(code))


def number(value: float, is_share: bool) -> str:
    """A score: shares in percent with one digit, the rest with four significant ones."""
    return f"{100 * value:.1f}" if is_share else f"{value:.4g}"


def tick(value: float, is_share: bool, signed: bool = False) -> str:
    """A round number on an axis."""
    shown = 100 * value if is_share else value
    return f"{shown:+g}".replace("-", "−") if signed and value else f"{shown:g}"


def metric(name: str) -> str:
    """What a metric is, in words."""
    return METRICS.get(name, clean(name.replace("_", " ")))


def change(value: float, is_share: bool) -> str:
    """A difference, with its sign; shares in percentage points."""
    text = f"{100 * value:+.1f}" if is_share else f"{value:+.3g}"
    return text.replace("-", "−")


def interval(bounds: Any, is_share: bool, signed: bool = False) -> str:
    """Both ends of an interval; empty where there is none."""
    if bounds is None:
        return ""
    low, high = (change(end, is_share) if signed else number(end, is_share) for end in bounds)
    return f"{low} to {high}" if signed else f"{low}–{high}"


def p_value(value: float) -> str:
    """A p-value, never shown as zero."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def mean(found: Mean, signed: bool = False) -> str:
    """A mean over benchmarks with its interval."""
    value = change(found.value, True) if signed else number(found.value, True)
    bounds = interval(found.interval, True, signed)
    return f"{value} ({bounds})" if bounds else value


def protocol(row: Row) -> str:
    """Protocol and number of examples, as `official · 5-shot`."""
    return asked(row.any_score) if row.same_rule else "different rules"


def asked(score: Score) -> str:
    """Protocol and number of examples of one score."""
    return f"{clean(score.protocol)} · {score.num_fewshot}-shot"


def items(row: Row) -> str:
    """How many items the models of a row were asked: `60`, or `3 to 60` where that differs."""
    counts = sorted({score.num_items for score in row.scores.values()})
    return " to ".join(f"{count:,}" for count in dict.fromkeys([counts[0], counts[-1]]))


def coverage(rows: Iterable[Row]) -> str:
    """The coverage of the intervals, as `95%`; `50% or 95%` where benchmarks differ."""
    found = sorted({score.confidence for row in rows for score in row.scores.values()})
    return " or ".join(f"{100 * share:g}%" for share in found) or "95%"


def letters(score: Score) -> str:
    """How often each letter was the likeliest answer, as `A 25% · B 50%`; empty where options have none."""
    total = sum(score.letters.values())
    shares = [
        f"{clean(letter)} {100 * count / total:.0f}%" for letter, count in score.letters.items() if total
    ]
    orders = f", over {score.permutations} orders of the options" if score.permutations > 1 else ""
    return " · ".join(shares) + (orders if shares else "")


def explanation(difference: Difference, is_share: bool) -> str:
    """What a verdict rests on, in a sentence."""
    test = "exact McNemar test" if difference.test == "mcnemar-exact" else "sign-flip permutation test"
    text = (
        f"{difference.wins} of {difference.num_items} items gained and {difference.losses} lost against the "
        f"{difference.reference}; {test}, p {equal(difference.p_value)} "
        f"({p_value(difference.adjusted_p_value)} after Holm's correction)"
    )
    if difference.detectable is not None and is_share:
        points = f"{100 * difference.detectable:.1f} points"
        text += f"; of so many items a true difference of {points} would be found 4 times out of 5"
    return text


def equal(value: float) -> str:
    """`= 0.031` or `< 0.001`."""
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def measured(name: str, value: Any) -> str:
    """A measured value with the unit that its name ends with."""
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
    """Seconds as `12.3 s`, `4 min 5 s` or `2 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
