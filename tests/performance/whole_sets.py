"""The scores of a run beside those of lm-evaluation-harness on the same items, as a Markdown table.

    python tests/performance/harness.py MODEL.gguf DATA OUT openbookqa piqa      # goes on where it stopped
    python -m workbench recipe=evaluate model.path=MODEL.gguf model.dtype=float32 run_dir=RUN \
        'benchmark=[openbookqa,piqa]' benchmarks.openbookqa.protocol=lm-eval ...
    python tests/performance/whole_sets.py RUN OUT

An item counts where both have it. Prompts and continuations are those of each side's own rendering; that they
are the same is checked for every item by its hash.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from workbench.evaluation.records import Prediction, prompt_hash, read_predictions, read_results
from workbench.statistics.intervals import interval, mean

HEAD = [
    "| benchmark | metric | items | score | lm-evaluation-harness | other answers | nats apart |",
    "|---|---|---|---|---|---|---|",
]


def their_rows(file: Path) -> dict[tuple[str, int], dict]:
    rows = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {(row["subset"], row["item"]): row for row in rows}


def our_rows(file: Path) -> dict[tuple[str, int], Prediction]:
    """By subset and number in it."""
    found: dict[tuple[str, int], Prediction] = {}
    counts: dict[str, int] = {}
    for prediction in read_predictions(file):
        number = counts.get(prediction.subset, 0)
        counts[prediction.subset] = number + 1
        found[prediction.subset, number] = prediction
    return found


def hash_of(pairs: Sequence[Sequence[str]]) -> str:
    """Of the harness's prompts, as this workbench hashes its own."""
    contexts = list(dict.fromkeys(context for context, _ in pairs))
    return prompt_hash([*contexts, *(continuation for _, continuation in pairs), ""])[:16]


def answer(metric: str, loglikelihoods: Sequence[float], choices: Sequence[str]) -> int:
    lengths = [len(choice) if metric == "acc_norm" else 1 for choice in choices]
    values = [value / length for value, length in zip(loglikelihoods, lengths, strict=True)]
    return values.index(max(values))


def line(name: str, metric: str, ours: list[Prediction], theirs: list[dict]) -> str:
    """One row of the table."""
    pairs = list(zip(ours, theirs, strict=True))
    other_prompts = sum(mine.prompt_hash != hash_of(row["pairs"]) for mine, row in pairs)
    assert not other_prompts, f"{name}: {other_prompts} of {len(pairs)} items have other prompts"
    gap = max(
        abs(a - b)
        for mine, row in pairs
        for a, b in zip(mine.loglikelihoods, row["loglikelihoods"], strict=True)
    )

    def right(values: Callable[[tuple[Prediction, dict]], Sequence[float]]) -> list[float]:
        return [float(answer(metric, values(pair), pair[0].choices) == pair[0].target) for pair in pairs]

    mine, other = right(lambda pair: pair[0].loglikelihoods), right(lambda pair: pair[1]["loglikelihoods"])
    changed = sum(
        answer(metric, one.loglikelihoods, one.choices) != answer(metric, row["loglikelihoods"], one.choices)
        for one, row in pairs
    )
    low, high = interval(mine)
    score = f"{mean(mine):.2%} ({low:.2%} to {high:.2%})"
    return f"| {name} | {metric} | {len(pairs):,} | {score} | {mean(other):.2%} | {changed} | {gap:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("harness", type=Path, help="folder that harness.py wrote")
    given = parser.parse_args()
    print(*HEAD, sep="\n")
    for score in read_results(given.run / "results.json")[1]:
        file = given.harness / f"{score.benchmark}.jsonl"
        if score.protocol != "lm-eval" or not file.exists():
            continue
        ours = our_rows(given.run / "predictions" / score.model / f"{score.benchmark}.jsonl")
        theirs = their_rows(file)
        both = [key for key in ours if key in theirs]
        print(line(score.benchmark, score.metric, [ours[k] for k in both], [theirs[k] for k in both]))


if __name__ == "__main__":
    main()
