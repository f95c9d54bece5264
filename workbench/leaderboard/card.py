"""A model card for the Hugging Face hub: what a model is made of and what it scored."""

import json
import re
from pathlib import Path
from typing import Any

from workbench.leaderboard import formatting
from workbench.leaderboard.markdown import escaped, table
from workbench.leaderboard.page import merge_proof
from workbench.leaderboard.view_model import ADAPTER, MERGED, UNTRAINED, Row, RunView
from workbench.run_dir import MODEL_CARD, write_atomic
from workbench.shown import clean

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_METRICS = {"acc": "accuracy", "mcc": "matthews_correlation"}
"""The hub's names of metrics, where they differ from ours."""

TASKS = {
    "causal_lm": ("text-generation", "AutoModelForCausalLM"),
    "sequence_classification": ("text-classification", "AutoModelForSequenceClassification"),
}


MARK = "<!-- Written by the leaderboard step; without this line it is left as it is. -->"


def write(view: RunView, model: str, folder: Path) -> bool:
    """Write README.md into the folder of a run's model, unless somebody made it their own; whether it is new.

    Args:
        view: The run.
        model: `adapter`, `merged` or `trained`, as the scores call it.
        folder: Of the model.
    """
    path, card = folder / MODEL_CARD, text(view, model)
    found = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else MARK
    if found == card or MARK not in found:
        return False
    write_atomic(path, card)
    return True


def text(view: RunView, model: str) -> str:
    """The card: metadata as YAML, then what it says in words."""
    lines = ["---", *_yaml(metadata(view, model)), "---", "", f"# {escaped(view.run.label)}", ""]
    base = escaped(view.run.base_model or "a new model")
    facts = view.run.models.get(model, {})
    how = f"quantization {facts.get('quantization', 'none')}, {facts.get('dtype', 'float32')}"
    what = {ADAPTER: f"A PEFT adapter for {base}", MERGED: f"{base} with an adapter merged into it"}
    lines += [f"{what.get(model, f'{base}, trained')} ({escaped(how)})."]
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


def metadata(view: RunView, model: str) -> dict[str, Any]:
    """What the hub reads, model-index included."""
    task, _ = TASKS.get(view.run.task, TASKS["causal_lm"])
    rows = [row for row in view.rows if model in row.scores and row.scores[model].note != UNTRAINED]
    found: dict[str, Any] = {
        "library_name": "peft" if model == ADAPTER else "transformers",
        "pipeline_tag": task,
        "language": list(dict.fromkeys(clean(row.language) for row in rows)),
        "tags": ["open-llama", *(["lora"] if model in (ADAPTER, MERGED) else [])],
    }
    if HUB_ID.fullmatch(view.run.base_model) and not Path(view.run.base_model).exists():
        found["base_model"] = view.run.base_model
    if rows:
        results = [_result(row, model, task) for row in rows]
        found["model-index"] = [{"name": clean(view.run.label), "results": results}]
    return found


def _result(row: Row, model: str, task: str) -> dict[str, Any]:
    name = clean(row.benchmark)
    shown = {row.metric: row.scores[model]}
    shown |= {metric: scores[model] for metric, scores in row.further.items() if model in scores}
    return {
        "task": {"type": task},
        "dataset": {"name": name, "type": name},
        "metrics": [
            {
                "type": HUB_METRICS.get(metric, clean(metric)),
                "value": round(score.value, 6),
                "name": f"{formatting.metric(metric)}, {formatting.protocol(row)}",
            }
            for metric, score in shown.items()
        ],
    }


def _yaml(value: Any, indent: str = "") -> list[str]:
    """A value as lines of YAML; texts and numbers as JSON writes them, which YAML contains."""
    lines: list[str] = []
    if isinstance(value, list):
        for item in value:
            first, *rest = _yaml(item, f"{indent}  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        return lines
    for key, inner in value.items():
        if isinstance(inner, dict) or (isinstance(inner, list) and isinstance(inner[0], dict)):
            lines += [f"{indent}{key}:", *_yaml(inner, f"{indent}  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(inner, ensure_ascii=False)}")
    return lines


def _usage(view: RunView, model: str) -> list[str]:
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
