"""Folders as lm-evaluation-harness 0.4.13 and OpenCompass 0.5.4 leave them, with given answers."""

import json
from pathlib import Path

DATE = "2026-01-02T03-04-05.678901"
LETTERS = ("A", "B", "C", "D")


def question(number: int, salt: str = "") -> str:
    return f"Item {number}{salt}: which of the four towns lies furthest to the north of number {number * 7}?"


def sample(number: int, right: float, *, target: int = 0, text: str = "", metrics=None, **doc) -> dict:
    """Return one line of a samples file, as `log_samples` writes it."""
    prompt = f"{text or question(number)}\nAnswer:"
    chosen = target if right else (target + 1) % 4
    likelihoods = [-1.5 if index == chosen else -4.25 for index in range(4)]
    metrics = metrics or {"acc": float(right)}
    return {
        "doc_id": number,
        "doc": {"question": text or question(number), "choices": list(LETTERS), "answer": target, **doc},
        "target": str(target),
        "arguments": {
            f"gen_args_{index}": {"arg_0": prompt, "arg_1": f" {letter}"}
            for index, letter in enumerate(LETTERS)
        },
        "resps": [[[str(value), "False"]] for value in likelihoods],
        "filtered_resps": [[str(value), "False"] for value in likelihoods],
        "filter": "none",
        "metrics": list(metrics),
        "doc_hash": f"{number:064x}",
        "prompt_hash": f"{number:064x}",
        "target_hash": f"{target:064x}",
        **metrics,
    }


def write_harness(folder: Path, tasks: dict, *, model="org/one", date=DATE, groups=None, **more) -> Path:
    """Write a results file and the samples of each task; `tasks` has task -> samples."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, samples in tasks.items():
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in samples)
        (folder / f"samples_{name}_{date}.jsonl").write_text(lines, encoding="utf-8")
        first = [one for one in samples if one["filter"] == samples[0]["filter"]]
        results[name] = {"name": name, "alias": name, "sample_len": len(first)}
        for metric in samples[0]["metrics"]:
            values = [one[metric] for one in first]
            if all(isinstance(value, float) for value in values):
                results[name][f"{metric},none"] = sum(values) / len(values)
    values = {
        "results": results,
        "groups": {name: facts["totals"] for name, facts in (groups or {}).items()},
        "group_subtasks": {name: facts["tasks"] for name, facts in (groups or {}).items()},
        "n-shot": dict.fromkeys(tasks, 0),
        "n-samples": {
            name: {"original": len(samples), "effective": len({one["doc_id"] for one in samples})}
            for name, samples in tasks.items()
        },
        "config": {"model": "hf", "model_args": {"pretrained": model}, "model_dtype": "torch.bfloat16"},
        "lm_eval_version": "0.4.13",
        "model_name": model,
        **more,
    }
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def ppl_entry(number: int, right: float, target: int = 0, text: str = "") -> dict:
    """Return one entry of a predictions file, as the inferencer of perplexities writes it."""
    prompt = f"{text or question(number)}\n答案: "
    chosen = LETTERS[target if right else (target + 1) % 4]
    entry = {"in-context examples": "", "origin_prompt": prompt + "A"}
    for letter in LETTERS:
        entry[f"label: {letter}"] = {
            "testing input": prompt + letter,
            "prompt": prompt + letter,
            "PPL": 1.5 if letter == chosen else 2.5,
            "BPB": 0.5,
        }
    return entry | {"prediction": chosen, "gold": LETTERS[target]}


def write_compass(folder: Path, datasets: dict, *, model="toy-hf", totals=None, details=None) -> Path:
    """Write predictions and results of one model; `datasets` has dataset -> entries."""
    for name, entries in datasets.items():
        path = folder / "predictions" / model / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbered = {str(number): entry for number, entry in enumerate(entries)}
        path.write_text(json.dumps(numbered, indent=4, ensure_ascii=False), encoding="utf-8")
        share = sum(entry["prediction"] == entry["gold"] for entry in entries) / len(entries)
        values = {"accuracy": 100 * share if totals is None else totals[name]}
        if details is not None:
            values["details"] = details[name]
        path = folder / "results" / model / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=4), encoding="utf-8")
    return folder
