"""Writes a model card for the Hugging Face Hub: description, scores, and the code that loads the model."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from workbench.config.names import ADAPTER, MERGED, UNTRAINED
from workbench.evaluation.records import Score
from workbench.files import MODEL_CARD, read_json, settle_file, write_atomic
from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Cell, Column, Model
from workbench.leaderboard.outputs import markdown, words
from workbench.leaderboard.outputs.against_parent import against_parent
from workbench.leaderboard.outputs.hub_results import HubDataset
from workbench.leaderboard.outputs.texts import markdown as escaped
from workbench.leaderboard.outputs.texts import one_line

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")
HUB_METRICS = {"acc": "accuracy", "mcc": "matthews_correlation"}
"""Metric of this project -> its name on the Hub, where they differ."""

PACKAGE = "workbench"
TASKS = {
    "causal_lm": ("text-generation", "AutoModelForCausalLM"),
    "sequence_classification": ("text-classification", "AutoModelForSequenceClassification"),
}
BASE_REMARK = "  # folder, .gguf file, or name on the Hub"
MARK = "<!-- Written by the leaderboard step; without this line it is left as it is. -->"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts that a model card needs and the board doesn't have."""

    folder: Path
    """Folder of the model."""
    base: str = ""
    """Path or Hub id of the parent model, as the user wrote it; empty: a new model was trained."""
    base_hub_id: str = ""
    """Hub id of the parent model from the record in its folder; empty if unknown."""
    task: str = "causal_lm"
    """causal_lm or sequence_classification."""
    proof: str = ""
    """Sentences on how close the merged model is to base plus adapter; empty if nothing was merged."""
    datasets: Mapping[str, HubDataset] = field(default_factory=dict)
    """Benchmark -> its data set on the Hub."""
    template_arguments: Sequence[Mapping[str, Any]] = ()
    """Arguments with which the chat template rendered the training rows; several if the data sets differ."""


def write(board: Board, model: Model, facts: CardFacts) -> bool:
    """Write README.md into the model's folder, unless the file there lacks `MARK` and so is the user's.

    Returns:
        Whether the file changed.
    """
    path, card = facts.folder / MODEL_CARD, text(board, model, facts)
    settle_file(path)
    current = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else MARK
    if current == card or MARK not in current:
        return False
    write_atomic(path, card)
    return True


def text(board: Board, model: Model, facts: CardFacts) -> str:
    """Return the model card: metadata as YAML, then Markdown."""
    parts = [
        f"---\n{metadata(board, model, facts).to_yaml()}\n---",
        f"# {escaped(model.name)}",
        _description(model, facts),
        *([escaped(facts.proof)] if facts.proof else []),
        "## Scores",
        "\n".join(_table(board, model)),
        "\n".join(f"- {escaped(remark)}" for remark in model.remarks),
        "## Use",
        "\n".join(["```python", *usage(model, facts), "```"]),
        *([_chats(facts.template_arguments)] if facts.template_arguments else []),
        MARK,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def with_base(card: str, hub_id: str) -> str:
    """Return the text of a model card with another base, in its metadata and in the Python that loads it."""
    changed = ModelCard(card)
    cast(ModelCardData, changed.data).base_model = hub_id
    line = f"base = {_quoted(hub_id)}{BASE_REMARK}"
    return re.sub(rf"^base = .*{re.escape(BASE_REMARK)}$", lambda _: line, str(changed), flags=re.MULTILINE)


def _description(model: Model, facts: CardFacts) -> str:
    base = escaped(facts.base or "a new model")
    kinds = {ADAPTER: f"A PEFT adapter for {base}", MERGED: f"{base} with an adapter merged into it"}
    settings = [f"quantization {model.facts.get('quantization', 'none')}", str(model.facts.get("dtype", ""))]
    settings += [f"{name} {model.facts[name]}" for name in ("rank", "seed") if name in model.facts]
    shown = ", ".join(setting for setting in settings if setting)
    return f"{kinds.get(model.role, f'{base}, trained')}. Scored with {escaped(shown)}."


def _loaded_as(model: Model) -> str:
    """Return the quantization to load a model's base with; facts tell what the base was, too."""
    quantization = str(model.facts.get("quantization", "none"))
    unpacked = f"{model.facts.get('unpacked')}, unpacked"
    return quantization.removeprefix(unpacked).removeprefix(", ") or "none"


def _scored(board: Board, model: Model) -> Iterator[tuple[Column, Cell]]:
    """Yield (column, cell) for each score of the model, except those of an untrained classification head."""
    cells = {cell.column: cell for cell in board.cells if cell.model == model.key}
    for column in board.columns:
        if (cell := cells.get(column.key)) and cell.score.note != UNTRAINED:
            yield column, cell


def _table(board: Board, model: Model) -> list[str]:
    """Return Markdown lines: a table of scores, the parent's scores and the differences, and a legend."""
    parents = {cell.column: cell for cell in board.cells if model.parent and cell.model == model.parent}
    header = ["benchmark", "asked", "items", "metric", "score", "parent", "difference", "verdict"]
    body = []
    for column, cell in _scored(board, model):
        difference = against_parent(board, model, column.key)
        body.append(
            [
                escaped(column.label),
                escaped(formatting.asked(cell.score)),
                escaped(words.num_items(column) if not cell.apart else cell.apart),
                escaped(formatting.metric(column.metric)),
                markdown.score(cell, column, signs=False),
                markdown.score(parents.get(column.key), column, signs=False),
                markdown.change(difference, column.is_share) if difference else "",
                escaped(difference.problem or difference.verdict) if difference else "",
            ]
        )
    if not body:
        return ["No scores."]
    return [*markdown.table(header, body), "", f"{words.coverage(board)} {escaped(words.family(board))}"]


def metadata(board: Board, model: Model, facts: CardFacts) -> ModelCardData:
    """Return the card's metadata for the Hub, with the model's scores as its model-index."""
    task, _ = TASKS.get(facts.task, TASKS["causal_lm"])
    results = [
        _result(score, column, facts, task)
        for column, cell in _scored(board, model)
        for score in (cell.score, *cell.further.values())
    ]
    languages = dict.fromkeys(one_line(column.language) for column, _ in _scored(board, model))
    return ModelCardData(
        library_name="peft" if model.role == ADAPTER else "transformers",
        pipeline_tag=task,
        language=[language for language in languages if LANGUAGE.fullmatch(language)] or None,
        tags=["open-llama", *(["lora"] if model.role in (ADAPTER, MERGED) else [])],
        base_model=next(filter(_is_on_hub, (facts.base, facts.base_hub_id)), None),
        model_name=one_line(model.name) if results else None,
        eval_results=results or None,
    )


def _is_on_hub(base: str) -> bool:
    return bool(HUB_ID.fullmatch(base)) and not Path(base).exists() and not _in_package(base)


def _in_package(base: str) -> bool:
    """Return whether a path is in this package, as `workbench/toy/base` of a shipped model."""
    return Path(base).parts[:1] == (PACKAGE,)


def _result(score: Score, column: Column, facts: CardFacts, task: str) -> EvalResult:
    """Convert a score to the Hub's EvalResult, with interval, number of items and protocol."""
    name, dataset = one_line(column.benchmark), facts.datasets.get(column.benchmark)
    metric = one_line(score.metric)
    args: dict[str, Any] = {"protocol": one_line(score.protocol), "num_fewshot": score.num_fewshot}
    args |= {"num_items": score.num_items, "num_total": column.num_total}
    if score.interval:
        args["interval"] = [round(end, 6) for end in score.interval]
        args["confidence"] = score.confidence
    items = f"{score.num_items:,} of {column.num_total:,} items"
    return EvalResult(
        task_type=task,
        dataset_type=dataset.path if dataset else name,
        dataset_name=name,
        dataset_config=dataset.name or None if dataset else None,
        dataset_split=dataset.split if dataset else None,
        metric_type=HUB_METRICS.get(metric, metric),
        metric_name=f"{formatting.metric(metric)}, {formatting.asked(score)}, {items}",
        metric_value=round(score.value, 6),
        metric_args=args,
    )


def usage(model: Model, facts: CardFacts) -> list[str]:
    """Return lines of Python that load the model, to be run in its folder."""
    _, auto = TASKS.get(facts.task, TASKS["causal_lm"])
    here = 'folder = "."  # this folder, or its name on the Hub'
    if model.role != ADAPTER:
        register = "import workbench.models  # registers Open-Llama"
        return [
            *([register] if _is_open_llama(facts.folder) else []),
            f"from transformers import {auto}, AutoTokenizer",
            "",
            here,
            f"model = {auto}.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
    options = ["adapter=folder", f"quantization={_quoted(_loaded_as(model))}"]
    options += [f"task={_quoted(facts.task)}"] if facts.task != "causal_lm" else []
    return [
        *(["from pathlib import Path", ""] if _in_package(facts.base) else []),
        "import workbench as wb",
        "",
        here,
        f"base = {_base(facts)}{BASE_REMARK}",
        f"model, tokenizer = wb.load_model(base, {', '.join(options)})",
    ]


def _chats(template_arguments: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown on how the chat template rendered the training rows, as Python to render chats with."""
    calls = [
        f"tokenizer.apply_chat_template(messages, add_generation_prompt=True, **{one_line(repr(dict(each)))})"
        for each in template_arguments
    ]
    lead = (
        "It was trained on chats rendered with arguments of the chat template. Render yours in the same way:"
    )
    return "\n".join([lead, "", "```python", *calls, "```"])


def _is_open_llama(folder: Path) -> bool:
    """Return whether a folder's model has this project's architecture; True if config.json is unreadable."""
    try:
        values = read_json(folder / "config.json")
    except (OSError, ValueError):
        return True
    return not isinstance(values, dict) or values.get("model_type") == "open-llama"


def _base(facts: CardFacts) -> str:
    """Return a Python expression for the base: its path relative to the model's folder, or its Hub id."""
    if _in_package(facts.base):
        return f"Path(wb.__file__).parent / {_quoted('/'.join(Path(facts.base).parts[1:]))}"
    is_here = facts.base and Path(facts.base).exists()
    return _quoted(Path(os.path.relpath(facts.base, facts.folder)).as_posix() if is_here else facts.base)


def _quoted(text: str) -> str:
    """Return a text as a Python string literal in one line."""
    return json.dumps(one_line(text), ensure_ascii=False)
