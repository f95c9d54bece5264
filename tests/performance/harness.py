"""lm-evaluation-harness on local files of benchmarks: its tasks, its prompts, its model class, a row an item.

    python tests/performance/harness.py MODEL.gguf DATA OUT openbookqa piqa ceval

appends to OUT/TASK.jsonl the log-likelihoods of every item, in float32, and goes on where it was stopped.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

LETTERS = "ABCD"
FILES = {
    "openbookqa": "openbookqa/test.jsonl",
    "winogrande": "winogrande/dev.jsonl",
    "piqa": "piqa/valid.jsonl",
    "arc_challenge": "arc/ARC-Challenge-Test.jsonl",
    "arc_easy": "arc/ARC-Easy-Test.jsonl",
    "hellaswag": "hellaswag/hellaswag_val.jsonl",
    "gsm8k": "gsm8k/test.jsonl",
    "cmmlu": "cmmlu/test/{}.csv",
    "ceval": "ceval/val/{}_val.csv",
    "mmlu": "mmlu/test/{}_test.csv",
}
"""The items; with a name for the subset."""
SHOTS = {
    "cmmlu": "cmmlu/dev/{}.csv",
    "ceval": "ceval/dev/{}_dev.csv",
    "mmlu": "mmlu/dev/{}_dev.csv",
    "gsm8k": "gsm8k/train_1500.jsonl",
}
TASKS = {
    "openbookqa": "openbookqa/openbookqa",
    "winogrande": "winogrande/default",
    "piqa": "piqa/piqa",
    "arc_challenge": "arc/arc_challenge",
    "arc_easy": "arc/arc_easy",
    "hellaswag": "hellaswag/hellaswag",
    "gsm8k": "gsm8k/gsm8k",
    "cmmlu": "cmmlu/cmmlu_{}",
    "ceval": "ceval/ceval-valid_{}",
    "mmlu": "mmlu/default/mmlu_{}",
}
"""The harness's own definitions."""
PIECE = 100
"""Items between two notes of how far it came."""


def subsets(name: str, data: Path) -> list[str]:
    """Subjects, by their files."""
    if "{}" not in FILES[name]:
        return [""]
    pattern = FILES[name].replace("{}", "*")
    start, end = FILES[name].rsplit("/", 1)[1].split("{}")
    return sorted(path.name[len(start) : -len(end)] for path in data.glob(pattern))


def hub_rows(name: str, file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a local file in the layout of the hub, which the harness reads."""
    with file.open(encoding="utf-8", newline="") as opened:
        if name == "mmlu":
            for question, *choices, letter in csv.reader(opened):
                yield {"question": question, "choices": choices, "answer": LETTERS.index(letter)}
        elif file.suffix == ".csv":
            yield from csv.DictReader(opened)
        else:
            rows = [json.loads(line) for line in opened]
            labels = file.with_name("valid-labels.lst").read_text().split() if name == "piqa" else []
            for number, row in enumerate(rows):
                yield hub_row(name, row, labels[number] if labels else "")


def hub_row(name: str, row: dict[str, Any], label: str) -> dict[str, Any]:
    if name == "piqa":
        return row | {"label": int(label)}
    if name == "hellaswag":  # this copy has the two parts of the beginning as one
        return row | {"ctx_a": row["ctx"], "ctx_b": ""}
    if name in ("openbookqa", "arc_easy", "arc_challenge"):
        choices = row["question"]["choices"]
        stem = "question_stem" if name == "openbookqa" else "question"
        columns = {key: [choice[key] for choice in choices] for key in ("text", "label")}
        return {
            "id": row["id"],
            "answerKey": row["answerKey"],
            stem: row["question"]["stem"],
            "choices": columns,
        }
    return row


def instances(name: str, subset: str, data: Path, limit: int | None = None, shots: int = 0) -> list[Any]:
    """The harness's requests for the first items of a subset, after its first examples."""
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(Path(lm_eval.tasks.__file__).parent / f"{TASKS[name].format(subset)}.yaml")
    dropped = ("group", "tag", "dataset_name", "fewshot_split", "training_split", "task_alias")
    splits = {key: "test" for key in ("test_split", "validation_split") if config.get(key)}
    files = {"test": FILES[name]} | ({"dev": SHOTS[name]} if shots else {})
    with tempfile.TemporaryDirectory() as folder:
        for split, file in files.items():
            rows = hub_rows(name, data / file.format(subset))
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            Path(folder, f"{split}.jsonl").write_text(text, encoding="utf-8")
        config = {key: value for key, value in config.items() if key not in dropped} | splits
        config |= {"task": name, "dataset_path": "json", "num_fewshot": shots}
        if shots:
            config |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
        config["dataset_kwargs"] = {
            "data_files": {split: f"{folder}/{split}.jsonl" for split in files},
            "cache_dir": f"{folder}/cache",
        }
        task = ConfigurableTask(config=config)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def language_model(gguf: Path, dtype: torch.dtype, batch_size: int, tokenizer: Any = None) -> Any:
    """The harness's model, with the tokenizer that transformers reads from the file unless one is given."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=dtype)
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    return HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=batch_size, device="cpu")


def rows(found: list[tuple[float, bool]], asked: list[Any], subset: str) -> Iterator[dict[str, Any]]:
    """One row an item: its prompts and log-likelihoods."""
    by_item: dict[int, list[int]] = {}
    for place, instance in enumerate(asked):
        by_item.setdefault(instance.doc_id, []).append(place)
    for number, places in sorted(by_item.items()):
        places.sort(key=lambda place: asked[place].idx)
        yield {
            "subset": subset,
            "item": number,
            "pairs": [list(asked[place].args) for place in places],
            "loglikelihoods": [float(found[place][0]) for place in places],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("tasks", nargs="+", choices=FILES)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--limit", type=int, help="items of each subset")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lm = language_model(arguments.gguf, torch.float32, arguments.batch_size)
    for name in arguments.tasks:
        file = arguments.out / f"{name}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        done = {(row["subset"], row["item"]) for row in map(json.loads, lines)}
        for subset in subsets(name, arguments.data):
            asked = instances(name, subset, arguments.data, arguments.limit)
            for start in range(0, asked[-1].doc_id + 1, PIECE):
                piece = [one for one in asked if start <= one.doc_id < start + PIECE]
                piece = [one for one in piece if (subset, one.doc_id) not in done]
                if piece:
                    append(file, rows(lm.loglikelihood(piece, disable_tqdm=True), piece, subset))


def append(file: Path, found: Iterator[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(text)
    print(f"{time.strftime('%H:%M:%S')} {file.stem}: {len(text.splitlines())} items more", flush=True)


if __name__ == "__main__":
    main()
