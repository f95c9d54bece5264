"""The audit step: asks a run's models again and compares the answers with the recorded ones."""

import logging
import math
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from workbench.config import Config
from workbench.errors import ConfigError
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Prediction, Score, read_predictions
from workbench.leaderboard.collect import Run as Recorded
from workbench.leaderboard.collect import collect
from workbench.models.dtypes import dtype_name
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.audit.differences import Difference, compare_answers
from workbench.pipeline.audit.report import Audit, report
from workbench.pipeline.audit.sample import Sample, draw, other_choices, recorded_answers
from workbench.pipeline.checking.questions import skipped_ids
from workbench.pipeline.held_out.benchmarks import held_out_benchmarks
from workbench.pipeline.run_models import Identity, loaded_models, model_identities
from workbench.pipeline.run_state import Run
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.run_dir import RunDir
from workbench.statistics import intervals
from workbench.statistics.audit import most_that_differ

log = logging.getLogger("workbench")

DIGEST = re.compile("[0-9a-f]{64}")
FLOAT32_NATS, OTHER_NATS = 0.01, 0.5
"""Allowed differences of a log-likelihood between machines. Measured: 0.002 nats between two float32
implementations (texts of 400 characters); 0.12 between batches in 16 bits, and more between kernels."""


def audit(run: Run) -> None:
    """Ask a random sample of a run's items again, compare with the recorded answers, and write audit.json.

    Raises:
        ConfigError: The run has no scores, or the configuration has none of their benchmarks or models.
        DataError: A recorded answer or score differs, or is of other weights; the report is written before.
    """
    config, run_dir = run.config, run.run_dir
    seed = config.audit.seed if config.audit.seed is not None else secrets.randbits(48)
    recorded = recorded_run(run_dir)
    benchmarks = audited_benchmarks(run, recorded)
    identities = model_identities(run)
    samples: dict[str, Sample] = {}
    remarks: dict[str, list[str]] = {}
    for name in audited_models(run, recorded, benchmarks, identities):
        weights = {key: identities[name][key] for key in ("weights", "adapter", "quantization")}
        scores = [score for score in recorded.scores if score.model == name and score.benchmark in benchmarks]
        answers = recorded_answers(
            recorded.files, name, list(dict.fromkeys(score.benchmark for score in scores))
        )
        samples[name] = draw(answers, benchmarks, config.audit.items, seed)
        skipped = skipped_ids(benchmarks, run, tokenizer_for(name, run))
        remarks[name] = [
            *changed_weights(recorded.models[name], weights),
            *wrong_means(scores, answers),
            *other_choices(scores, answers, benchmarks, skipped),
        ]
    audits = [
        audit_model(run, name, model, samples[name], remarks[name])
        for name, model in loaded_models(run, list(samples))
    ]
    report(audits, seed, run_dir)


def recorded_run(run_dir: RunDir) -> Recorded:
    """Read the results of the run in a run folder.

    Raises:
        ConfigError: The folder has no results, or they were changed after they were written.
    """
    collection = collect(run_dir.path)
    if not collection.runs:
        reason = collection.skipped[0].reason if collection.skipped else "it has no results.json"
        raise ConfigError(f"run_dir: {str(run_dir.path)!r} has nothing to audit: {reason}")
    return collection.runs[0]


def audited_benchmarks(run: Run, recorded: Recorded) -> dict[str, PreparedBenchmark]:
    """Prepare the configured benchmarks that the run has scores on, with all their items.

    Scored benchmarks that aren't configured, and tasks of lm-evaluation-harness, are left out with a warning.

    Raises:
        ConfigError, DataError: The run has scores on none of them; held-out rows can't be read.
    """
    config = run.config
    unlimited = {name: replace(benchmark, limit=None) for name, benchmark in config.benchmarks.items()}
    unlimited_run = Run(replace(config, benchmarks=unlimited), run.run_dir)
    prepared = unlimited_run.benchmarks() | held_out_benchmarks(run)
    scored = list(dict.fromkeys(score.benchmark for score in recorded.scores))
    usable = {name: prepared[name] for name in scored if name in prepared and prepared[name].examples}
    for name in scored:
        if name not in prepared:
            log.warning(
                "audit: the run has scores on %s, which are not audited ('benchmark=[%s]')", name, name
            )
        elif name not in usable:
            log.warning("audit: %s is lm-evaluation-harness's own task, whose items are not audited", name)
    if not usable:
        known = ", ".join(scored) or "none"
        raise ConfigError(f"benchmark: none of those that the run has scores on (it has {known})")
    return usable


def audited_models(
    run: Run,
    recorded: Recorded,
    benchmarks: Mapping[str, PreparedBenchmark],
    identities: Mapping[str, Identity],
) -> list[str]:
    """Return the models of `evaluate.models` that have scores on the benchmarks, and that the run still has.

    Models that the run no longer has are logged.

    Args:
        run: The run that audits.
        recorded: The recorded results.
        benchmarks: Name -> benchmark to audit.
        identities: Model -> its identity, for the models that the run has now.

    Raises:
        ConfigError: There is no such model, so nothing would be audited.
    """
    scored = {score.model for score in recorded.scores if score.benchmark in benchmarks}
    names = [name for name in recorded.models if name in scored and name in run.config.evaluate.models]
    for name in names:
        if name not in identities:
            log.warning("audit: the run folder has no %s any more, so its scores are not audited", name)
    present = [name for name in names if name in identities]
    if not present:
        raise ConfigError(
            f"evaluate.models: nothing to audit, {str(run.run_dir.path)!r} has no "
            f"{' or '.join(run.config.evaluate.models)} with scores on {', '.join(benchmarks)} "
            f"(scores are of {', '.join(sorted(scored)) or 'none'})"
        )
    return present


def audit_model(run: Run, name: str, model: PreTrainedModel, drawn: Sample, remarks: Sequence[str]) -> Audit:
    """Ask a model its drawn items again, and compare the answers with the recorded answers.

    Args:
        run: The run that audits.
        name: Name of the model: base, adapter, ...
        model: The loaded model.
        drawn: The items, with the recorded answers.
        remarks: Remarks on the model to report.
    """
    config = run.config
    allowed = tolerance(config, model)
    differences = [
        Difference(
            benchmark=item.partition(" ")[0],
            id=item.partition(" ")[2],
            what="item",
            recorded="",
            again="none",
        )
        for item in drawn.unknown
    ]
    largest = 0.0
    for benchmark, answers in asked_again(run, name, model, drawn.benchmarks).items():
        agreement = compare_answers(benchmark, drawn.recorded[benchmark], answers, allowed)
        differences += agreement.differences
        largest = max(largest, agreement.largest)
    num_equal = drawn.num_items - len(differences)
    return Audit(
        model=name,
        num_total=drawn.num_total,
        num_sampled=drawn.num_items,
        num_equal=num_equal,
        largest_nats=largest,
        allowed_nats=allowed,
        most_that_differ=most_that_differ(
            drawn.num_items, drawn.num_total, len(differences), confidence=config.audit.confidence
        ),
        confidence=config.audit.confidence,
        differences=differences,
        remarks=[*remarks, *same_cause(differences, drawn.num_items)],
    )


def asked_again(
    run: Run, name: str, model: PreTrainedModel, benchmarks: Mapping[str, PreparedBenchmark]
) -> dict[str, list[Prediction]]:
    """Ask a model all items of the benchmarks, without the answer cache.

    Returns benchmark -> answers, in the order of the benchmark's items. Errors: see `engine.evaluate`.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {benchmark: Path(folder) / f"{number}.jsonl" for number, benchmark in enumerate(benchmarks)}
        engine.evaluate(
            model,
            tokenizer_for(name, run),
            benchmarks,
            run.config.evaluate,
            model_name=name,
            predictions=lambda _, benchmark: files[benchmark],
            decoding=prepacked,
        )
        return {benchmark: read_predictions(path) for benchmark, path in files.items()}


def tolerance(config: Config, model: PreTrainedModel) -> float:
    """Return the largest allowed difference of a log-likelihood, in nats: `audit.tolerance` if it is set.

    The default is smaller for an unquantized float32 model than for all others.
    """
    if config.audit.tolerance is not None:
        return config.audit.tolerance
    is_exact = dtype_name(model.dtype) == "float32" and config.quantization.method.value == "none"
    return FLOAT32_NATS if is_exact else OTHER_NATS


def changed_weights(recorded: Mapping[str, Any], weights: Mapping[str, Any]) -> list[str]:
    """Return a remark for each of weights, adapter and quantization that differs from the recorded one.

    Weights from the Hub are recorded by their name, which isn't compared with the SHA-256 of a local copy.

    Args:
        recorded: The model's facts in results.json.
        weights: Its fingerprints now: `weights`, `adapter` and `quantization`.
    """
    return [
        f"another {key}: {str(weights[key])[:12]}, the scores are of {str(recorded[key])[:12]}"
        for key in weights
        if key in recorded and recorded[key] != weights[key] and not _is_name_of(recorded[key], weights[key])
    ]


def _is_name_of(first: Any, second: Any) -> bool:
    """Return whether one of two identities is a model's name and the other the SHA-256 of its files."""
    return (
        None not in (first, second)
        and len({bool(DIGEST.fullmatch(str(each))) for each in (first, second)}) == 2
    )


def same_cause(differences: Sequence[Difference], num_items: int) -> list[str]:
    """Return a list of one remark if the prompts of all items differ from the recorded ones, else [].

    Then one cause, such as another template, explains all differences. `num_items` is the number of items
    that were asked.
    """
    prompts = [difference for difference in differences if difference.what == "prompt"]
    if prompts and len(prompts) == num_items:
        return [
            "every prompt is another one: another template, other examples, or other files of the benchmarks"
        ]
    return []


def wrong_means(scores: Sequence[Score], answers: Mapping[str, Sequence[Prediction]]) -> list[str]:
    """Return a remark for each score in results.json that is not the mean of its recorded item scores.

    If there are more or fewer recorded answers than the score counts, the remark says that instead. Scores
    that aren't means of item scores, such as corpus BLEU, are left out.

    Args:
        scores: The scores of one model.
        answers: Benchmark -> all recorded answers of the model.
    """
    remarks = []
    for score in scores:
        if score.item_score:
            continue
        recorded = answers[score.benchmark]
        if len(recorded) != score.num_items:
            remarks.append(f"{score.benchmark}: {len(recorded)} answers, the score is of {score.num_items}")
        elif not math.isclose(value := mean_score(score, recorded), score.value, abs_tol=1e-9):
            remarks.append(
                f"{score.benchmark}: {score.metric} is {score.value:.6f} in results.json and {value:.6f} "
                "from the recorded answers"
            )
    return remarks


def mean_score(score: Score, answers: Sequence[Prediction]) -> float:
    """Return the mean of the answers' scores by the metric of `score`: over items, or over subsets if macro.

    It is NaN if an answer lacks the metric.
    """
    by_subset: dict[str, list[float]] = {}
    for answer in answers:
        subset = answer.subset if score.average == "macro" else ""
        by_subset.setdefault(subset, []).append(answer.scores.get(score.metric, math.nan))
    return intervals.mean([intervals.mean(values) for values in by_subset.values()])
