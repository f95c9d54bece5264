"""Writes a model card for the Hugging Face Hub: what a model consists of and its scores."""

import json
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from workbench.config.names import ADAPTER, MERGED, UNTRAINED
from workbench.leaderboard import formatting
from workbench.leaderboard.markdown import escaped, table
from workbench.leaderboard.run_page import merge_proof
from workbench.leaderboard.view_model import Row, RunView
from workbench.run_dir import MODEL_CARD, write_atomic
from workbench.shown import clean

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_METRICS = {"acc": "accuracy", "mcc": "matthews_correlation"}
"""Our metric names -> the Hub's, where they differ."""

TASKS = {
    "causal_lm": ("text-generation", "AutoModelForCausalLM"),
    "sequence_classification": ("text-classification", "AutoModelForSequenceClassification"),
}


MARK = "<!-- Written by the leaderboard step; without this line it is left as it is. -->"


def write(view: RunView, model: str, folder: Path) -> bool:
    """Write README.md into the folder of a run's model, unless the user edited it; return if it changed.

    Args:
        view: The run.
        model: `adapter`, `merged` or `trained`.
        folder: Folder of the model.
    """
    path, card = folder / MODEL_CARD, text(view, model)
    current = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else MARK
    if current == card or MARK not in current:
        return False
    write_atomic(path, card)
    return True


def text(view: RunView, model: str) -> str:
    """Return the card: metadata as YAML, then Markdown."""
    lines = ["---", metadata(view, model).to_yaml(), "---", "", f"# {escaped(view.run.label)}", ""]
    base = escaped(view.run.base_model or "a new model")
    facts = view.run.models.get(model, {})
    precision = f"quantization {facts.get('quantization', 'none')}, {facts.get('dtype', 'float32')}"
    descriptions = {ADAPTER: f"A PEFT adapter for {base}", MERGED: f"{base} with an adapter merged into it"}
    lines += [f"{descriptions.get(model, f'{base}, trained')} ({escaped(precision)})."]
    if model == MERGED and (proof := merge_proof(view.run)):
        lines += ["", proof]
    lines += [
        "",
        "## Scores",
        "",
        *table(view),
        "",
        f"{formatting.coverage(view.rows)} intervals; p of paired items after Holm's correction.",
        "",
    ]
    return "\n".join([*lines, "## Use", "", "```python", *_usage(view, model), "```", "", MARK]) + "\n"


def metadata(view: RunView, model: str) -> ModelCardData:
    """Return the card's metadata for the Hub, model-index included."""
    task, _ = TASKS.get(view.run.task, TASKS["causal_lm"])
    base = view.run.base_model
    rows = [row for row in view.rows if model in row.scores and row.scores[model].note != UNTRAINED]
    results = [result for row in rows for result in _results(row, model, task)]
    return ModelCardData(
        library_name="peft" if model == ADAPTER else "transformers",
        pipeline_tag=task,
        language=list(dict.fromkeys(_one_line(row.language) for row in rows)),
        tags=["open-llama", *(["lora"] if model in (ADAPTER, MERGED) else [])],
        base_model=base if HUB_ID.fullmatch(base) and not Path(base).exists() else None,
        model_name=_one_line(view.run.label) if results else None,
        eval_results=results or None,
    )


def _results(row: Row, model: str, task: str) -> list[EvalResult]:
    """Return a model's scores on one benchmark, the main metric first."""
    name = _one_line(row.benchmark)
    scores = {row.metric: row.scores[model]}
    scores |= {metric: by_model[model] for metric, by_model in row.further.items() if model in by_model}
    return [
        EvalResult(
            task_type=task,
            dataset_type=name,
            dataset_name=name,
            metric_type=HUB_METRICS.get(metric, _one_line(metric)),
            metric_name=f"{formatting.metric(metric)}, {formatting.protocol(row)}",
            metric_value=round(score.value, 6),
        )
        for metric, score in scores.items()
    ]


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())


def _usage(view: RunView, model: str) -> list[str]:
    """Return the lines of Python that load the model."""
    _, auto = TASKS.get(view.run.task, TASKS["causal_lm"])
    lines = [
        "import workbench.models  # registers Open-Llama",
        f"from transformers import {auto}, AutoTokenizer",
        "",
    ]
    if model == ADAPTER:
        lines.insert(1, "from peft import PeftModel")
        base = json.dumps(clean(view.run.base_model), ensure_ascii=False)
        lines += [
            f"model = {auto}.from_pretrained({base})",
            'model = PeftModel.from_pretrained(model, "this folder")',
        ]
        return [*lines, f"tokenizer = AutoTokenizer.from_pretrained({base})"]
    lines += [f'model = {auto}.from_pretrained("this folder")']
    return [*lines, 'tokenizer = AutoTokenizer.from_pretrained("this folder")']
