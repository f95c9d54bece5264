"""5-shot CMMLU, 20 subjects x 60 questions: our engine beside lm-evaluation-harness, item by item."""

import json
import sys
import tempfile
from pathlib import Path

from card import Day, arguments, clear, clock, day_of, our_model, peak_gib, their_model, tokenizer
from cmmlu import ROOT, benchmark, files_of, subjects

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation import engine
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks

sys.path.append(str(ROOT / "tests" / "performance"))

HARNESS_BATCH = 16
Likelihoods = list[list[float]]
"""For each item the log-likelihood of each choice."""


def by_workbench(day: Day, files: Path, names: list[str], limit: int) -> Likelihoods:
    """Score with our engine and class; record seconds and peak memory."""
    model, tokens = our_model(day), tokenizer(day)
    config = EvaluateConfig()
    prepared = prepare_benchmarks({"cmmlu": benchmark(files, names, limit)}, config)
    clear()
    with tempfile.TemporaryDirectory() as folder:
        begin = clock()
        evaluation = engine.evaluate(
            model, tokens, prepared, config, model_name="base", predictions=lambda _, name: Path(folder, name)
        )
        seconds = clock() - begin
        lines = Path(folder, "cmmlu").read_text(encoding="utf-8").splitlines()
    computed = evaluation.measured["cmmlu"]["computed_tokens"]
    day.record(
        "scores",
        side="workbench",
        items=len(lines),
        seconds=round(seconds, 2),
        computed_tokens=computed,
        is_cmmlu=day.cmmlu is not None,
        peak_gib=peak_gib(),
    )
    return [json.loads(line)["loglikelihoods"] for line in lines]


def by_harness(day: Day, files: Path, names: list[str], limit: int) -> Likelihoods:
    """Score with lm-evaluation-harness and transformers' class."""
    import harness
    from lm_eval.models.huggingface import HFLM

    requests = [harness.instances("cmmlu", name, files.parent, limit, 5) for name in names]
    lm = HFLM(
        pretrained=their_model(day), tokenizer=tokenizer(day), batch_size=HARNESS_BATCH, device=day.device
    )
    clear()
    begin = clock()
    values = lm.loglikelihood([request for subject in requests for request in subject], disable_tqdm=True)
    seconds = clock() - begin
    likelihoods: Likelihoods = []
    for subject in requests:
        own, values = values[: len(subject)], values[len(subject) :]
        likelihoods += [row["loglikelihoods"] for row in harness.rows(own, subject, "")]
    day.record(
        "scores", side="harness", items=len(likelihoods), seconds=round(seconds, 2), peak_gib=peak_gib()
    )
    return likelihoods


def compare(day: Day, ours: Likelihoods, theirs: Likelihoods) -> None:
    """Record how many items have another answer, and the largest difference in nats."""
    pairs = list(zip(ours, theirs, strict=True))
    gaps = [abs(a - b) for item in pairs for a, b in zip(*item, strict=True)]
    others = sum(a.index(max(a)) != b.index(max(b)) for a, b in pairs)
    day.record("scores", side="both", items=len(pairs), other_answers=others, nats_apart=max(gaps))


def main() -> None:
    day = day_of(arguments(__doc__).parse_args())
    count, limit = (2, 3) if day.is_dry else (20, 60)
    with tempfile.TemporaryDirectory() as folder:
        files, names = files_of(day, Path(folder), count), subjects(count)
        ours = by_workbench(day, files, names, limit)
        clear()
        compare(day, ours, by_harness(day, files, names, limit))


if __name__ == "__main__":
    main()
