"""CMMLU's questions, or made-up ones in its files' form where its files aren't there."""

import csv
import json
from pathlib import Path
from typing import cast

from card import Day
from omegaconf import OmegaConf

import workbench
from workbench.config.benchmark import BenchmarkConfig

ROOT = Path(__file__).parents[2]
NUMBERS = Path(workbench.__file__).parent / "toy" / "data" / "choice_zh.jsonl"


def benchmark(files: Path, subjects: list[str], limit: int) -> BenchmarkConfig:
    """Return CMMLU with 5 examples a question and lm-evaluation-harness's prompts, for the first items."""
    changes = {
        "path": str(files),
        "limit": limit,
        "protocol": "lm-eval",
        "num_fewshot": 5,
        "fewshot_order": "first",
        "only": subjects,
    }
    shipped = OmegaConf.load(ROOT / "conf/benchmark/cmmlu.yaml")
    merged = OmegaConf.merge(OmegaConf.structured(BenchmarkConfig), shipped, changes)
    return cast(BenchmarkConfig, OmegaConf.to_object(merged))


def subjects(count: int) -> list[str]:
    """Return the names of CMMLU's first subjects."""
    return sorted(OmegaConf.load(ROOT / "conf/benchmark/cmmlu.yaml").subsets)[:count]


def files_of(day: Day, folder: Path, count: int) -> Path:
    """Return `folder`/cmmlu with CMMLU's files, or with questions about numbers where these aren't there."""
    files = folder / "cmmlu"
    if day.cmmlu is not None:
        files.symlink_to(Path(day.cmmlu).resolve())
        return files
    rows = [json.loads(line) for line in NUMBERS.read_text(encoding="utf-8").splitlines()]
    for index, subject in enumerate(subjects(count)):
        for split, begin, end in (("dev", 0, 5), ("test", 5, 65)):
            file = files / split / f"{subject}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", encoding="utf-8", newline="") as opened:
                writer = csv.writer(opened)
                writer.writerow(["", "Question", "A", "B", "C", "D", "Answer"])
                for number in range(begin, end):
                    row = rows[(number + 40 * index) % len(rows)]
                    letter = "ABCD"[row["choices"].index(row["answer"])]
                    question = row["question"].removeprefix("问题：").removesuffix("\n答案：")
                    writer.writerow([number, question, *row["choices"], letter])
    return files
