"""What a tuned classification head gains on FewCLUE, beside the majority class and a bag of characters.

    python tests/performance/fewclue.py FOLDER_OF_FEWCLUE FILE.gguf --out RUNS

Every run is the product's own command line: trained on train_few_all, scored on test_public, for each
task, quantization and seed. A run that is finished is not repeated, one that was stopped goes on. The bag of
characters is scikit-learn's: TF-IDF of one to three characters, logistic regression, its strength chosen by
cross-validation on the same rows. The rates were chosen with --split dev: on TNEWS's 15 topics LoRA+'s usual
ratio of 16 left one seed of three at the majority class after an epoch.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

SPLITS = {"dev": "dev_few_all.json", "test": "test_public.json"}


@dataclass(frozen=True)
class Recipe:
    """A task, and how it is trained."""

    label: str
    """Its column."""
    epochs: int
    rows: int
    """A batch."""
    rate: float = 3e-4
    lora_plus_ratio: int = 16


TASKS = {"eprstmt": Recipe("label", 4, 8), "tnews": Recipe("label_desc", 3, 8, 1e-3, 1)}


def command(task: str, quantization: str, seed: int, given: argparse.Namespace) -> list[str]:
    """One run, as a user would type it."""
    recipe, benchmark = TASKS[task], f"{task}_head"
    epochs, rate, ratio = (
        given.epochs or recipe.epochs,
        given.rate or recipe.rate,
        given.ratio or recipe.lora_plus_ratio,
    )
    name = f"{task}-{quantization}-{seed}-{epochs}-{rate}-{recipe.rows}-{ratio}"
    return [
        *(sys.executable, "-m", "workbench", "recipe=sft", "steps=[train,evaluate]", f"seed={seed}"),
        *(f"run_dir={given.out / name}", f"model.path={given.model}", "model.task=sequence_classification"),
        *(f"quantization={quantization}", f"data.path={given.fewclue / task / 'train_few_all.json'}"),
        *([f"+data.columns.label={recipe.label}"] if recipe.label != "label" else []),
        "data.max_length=256",
        *(f"train.num_epochs={epochs}", f"train.learning_rate={rate}", "train.warmup_steps=0.1"),
        *(f"train.lora_plus_ratio={ratio}", f"train.per_device_batch_size={recipe.rows}"),
        "train.group_by_length=true",
        *(f"benchmark=[{benchmark}]", f"benchmarks.{benchmark}.path={given.fewclue / task}"),
        *(f"benchmarks.{benchmark}.split={given.split}", "evaluate.models=[adapter]"),
    ]


def accuracy(task: str, quantization: str, seed: int, given: argparse.Namespace) -> float:
    """Of the tuned model, run now unless it was before."""
    line = command(task, quantization, seed, given)
    subprocess.run(line, check=True, stdout=sys.stderr)
    folder = next(word for word in line if word.startswith("run_dir=")).removeprefix("run_dir=")
    scores = json.loads((Path(folder) / "results.json").read_text())["scores"]
    return next(
        score["value"] for score in scores if score["metric"] == "acc" and score["model"] == "adapter"
    )


def rows(path: Path, label: str) -> tuple[list[str], list[str]]:
    """Texts and classes."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["sentence"] for row in found], [row[label] for row in found]


def baselines(task: str, given: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Name and accuracy of what needs no language model."""
    label = TASKS[task].label
    texts, classes = rows(given.fewclue / task / "train_few_all.json", label)
    asked, right = rows(given.fewclue / task / SPLITS[given.split], label)
    most = max(sorted(set(classes)), key=classes.count)
    yield "majority class", right.count(most) / len(right)
    bag = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True),
        LogisticRegression(max_iter=2000),
    )
    chosen = GridSearchCV(bag, {"logisticregression__C": [1, 3, 10, 30, 100]}, cv=5).fit(texts, classes)
    yield "characters, logistic regression", chosen.score(asked, right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fewclue", type=Path, help="the folder of eprstmt and tnews")
    parser.add_argument("model", help="model.path")
    parser.add_argument("--out", type=Path, default=Path("runs/fewclue"), help="where the runs are kept")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--quantizations", nargs="*", default=["none", "int8", "nf4"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--split", choices=SPLITS, default="test", help="dev: to choose epochs and rates")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--ratio", type=int, help="of B matrices' rate to the others'")
    given = parser.parse_args()
    for task in given.tasks:
        for name, value in baselines(task, given):
            print(f"{task:10} {name:34} {value:.3f}", flush=True)
        for quantization in given.quantizations:
            found = [accuracy(task, quantization, seed, given) for seed in given.seeds]
            spread = f" ± {stdev(found):.3f}" if len(found) > 1 else ""
            each = ", ".join(f"{value:.3f}" for value in found)
            print(
                f"{task:10} {'LoRA and head, ' + quantization:34} {mean(found):.3f}{spread}  ({each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
