"""Scores whether generated texts follow the instructions of their prompts, by the checkers of IFEval."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from workbench.config.benchmark import OutputType
from workbench.errors import ConfigError, DataError
from workbench.evaluation.benchmarks.language import language
from workbench.evaluation.checkers.checker import Checker
from workbench.evaluation.extraction.cleaning import without_thoughts
from workbench.evaluation.metrics.metric import Judged, Metric
from workbench.evaluation.records import Answer, Example

IFEVAL = Checker("ifeval", "check_instructions.py", {"LOCAL_RANK": "1", "HF_HUB_OFFLINE": "1"})
_FIELDS = ("prompt", "instruction_id_list", "kwargs")
"""Fields of an item's target."""


def text(answer: Answer, example: Example) -> str:
    """Return the generated text after its last thought."""
    return without_thoughts(answer.generation or "")


def follows_all(prediction: int | str | None, answer: Answer, example: Example, *, kind: str) -> float:
    """Return 1.0 if a text follows all instructions of its prompt, else 0.0.

    Args:
        prediction: The text.
        answer: The answer with the text.
        example: Example with the instructions.
        kind: `strict`, or `loose`: the text may also do so without its first line, last line or asterisks.
    """
    return float(all(_followed(prediction, example, kind)))


def share_followed(prediction: int | str | None, answer: Answer, example: Example, *, kind: str) -> float:
    """Return the share of a prompt's instructions that a text follows; `kind` is `strict` or `loose`."""
    followed = _followed(prediction, example, kind)
    return sum(followed) / len(followed)


def all_instructions(judged: Sequence[Judged], *, kind: str) -> float:
    """Return the share of all instructions of all prompts that the texts follow."""
    followed = [value for item in judged for value in _followed(item.prediction, item.example, kind)]
    return sum(followed) / len(followed)


def check_ahead(judged: Sequence[Judged]) -> None:
    """Check the texts of all items side by side; IFEVAL keeps the verdicts, which scoring then reads.

    All ranks must call this.
    """
    IFEVAL.ask_ahead([_question(item.prediction, item.example) for item in judged])


def check_items(key: str, examples: Sequence[Example]) -> None:
    """Check that the instructions of all items can be checked here.

    Args:
        key: Key of the benchmark, for messages.
        examples: Examples whose target is a JSON object with the fields of `_FIELDS`.

    Raises:
        ConfigError: NLTK's data, which some items need, is absent, or prompts of a benchmark that isn't
            Chinese are Chinese.
        DataError: A target isn't such an object, or has instructions that the checkers don't know.
    """
    chinese = [
        example.id
        for example in examples
        if example.language != "zh" and language([_instructions(example)["prompt"]]) == "zh"
    ]
    if chinese:
        raise ConfigError(
            f"{key}: {len(chinese):,} items, such as {chinese[0]}, are Chinese, and IFEval's checkers know "
            "English words, sentences and punctuation alone (checkers for Chinese, for all items: "
            f"{key}.language=zh)"
        )
    reply = IFEVAL.ask({"items": [_instructions(example) for example in examples]})
    if reply is None:
        raise DataError(f"{key}: the instructions of its items can't be read within {IFEVAL.max_seconds:g} s")
    for index, fault in reply["faults"].items():
        raise DataError(f"{key}: item {examples[int(index)].id}: {fault}")
    if reply["absent"]:
        first = examples[reply["absent"][0]].id
        raise ConfigError(
            f"{key}: {len(reply['absent']):,} items, such as {first}, need NLTK's data punkt_tab, which is "
            "absent (python -m nltk.downloader punkt_tab; or leave these items out, for another score: "
            f"'{key}.keep=not needs_punkt')"
        )


def _followed(prediction: int | str | None, example: Example, kind: str) -> list[bool]:
    """Return for each instruction of a prompt whether a text follows it; a late check counts as no."""
    question = _question(prediction, example)
    reply = IFEVAL.ask(question)
    return [False] * len(question["instruction_id_list"]) if reply is None else list(reply[kind])


def _question(prediction: int | str | None, example: Example) -> dict[str, Any]:
    return {**_instructions(example), "response": "" if prediction is None else str(prediction)}


def _instructions(example: Example) -> dict[str, Any]:
    """Return the instructions of an example, which its target has as a JSON object.

    `language` is added where the benchmark is Chinese.
    """
    try:
        target = json.loads(example.reference_texts[0])
        values = {field: target[field] for field in _FIELDS}
        if example.language == "zh":
            values["language"] = "zh"
        if not (isinstance(values["instruction_id_list"], list) and values["instruction_id_list"]):
            raise TypeError("no instructions")
        return values
    except (ValueError, KeyError, TypeError) as error:
        fields = ", ".join(_FIELDS)
        raise DataError(
            f"item {example.id}: the target is not a JSON object of {fields} ({error})"
        ) from error


METRICS = {
    f"{level}_level_{kind}_acc": Metric(
        output_types=(OutputType.generation,),
        judge=text,
        score=partial(follows_all if level == "prompt" else share_followed, kind=kind),
        right_or_wrong=level == "prompt",
        corpus=None if level == "prompt" else partial(all_instructions, kind=kind),
        needs=("lm_eval", "langdetect", "immutabledict", "nltk", "emoji"),
        extra="ifeval",
        score_ahead=check_ahead,
        check_items=check_items,
    )
    for level in ("prompt", "inst")
    for kind in ("strict", "loose")
}
"""Names of lm-evaluation-harness: a prompt's instructions all at once, or each instruction by itself."""
