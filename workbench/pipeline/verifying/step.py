"""The verify_endpoint step: asks an endpoint recorded items again, and names what differs and why."""

import logging
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from workbench.config.names import ADAPTER, BASE, MERGED, MODELS, TRAINED
from workbench.errors import ConfigError, DataError
from workbench.evaluation import engine
from workbench.evaluation.endpoint.endpoint_lm import EndpointLM
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.endpoint.kept_answers import SIXTEEN_BIT_NATS
from workbench.evaluation.endpoint.replies import UnsuitableError
from workbench.evaluation.records import Prediction, read_predictions
from workbench.files import write_json
from workbench.leaderboard.collect import Run as Recorded
from workbench.pipeline.audit.audit import audited_benchmarks, recorded_run
from workbench.pipeline.audit.sample import Sample, draw, recorded_answers
from workbench.pipeline.run_state import Run
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.pipeline.verifying.behaviour import behaviours, sampling_defaults
from workbench.pipeline.verifying.gaps import Gaps, gaps_between
from workbench.pipeline.verifying.weights import cause_of

log = logging.getLogger("workbench")

SCHEMA_VERSION = 1
FLOAT32_NATS = 5e-4
"""Allowed difference of a log-likelihood. Measured with 135 million parameters in float32: 1.1e-4 between a
served model and the same model scored with shared prefixes."""
LIKELY = (MERGED, TRAINED, ADAPTER, BASE)
"""Models of a run, in the order in which an endpoint is taken for one of them."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of comparing an endpoint's answers with the recorded ones."""

    endpoint: str
    """URL of the endpoint."""
    model: str
    """Name of the model at the endpoint."""
    serves: str
    """Model of the run with whose answers they were compared."""
    tolerance: float | None
    """Allowed difference of a log-likelihood, in nats; None: the recorded model is quantized."""
    gaps: Gaps
    faults: list[str] = field(default_factory=list)
    """Causes of differences, and other faults, each as a line; empty: none."""

    left_out: list[str] = field(default_factory=list)
    """Benchmarks that need log-likelihoods, where the endpoint has none."""

    notes: list[str] = field(default_factory=list)
    """What users of the endpoint should know, each as a line; none is a fault."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs; never if the model is quantized or a benchmark was left out."""
        is_compared = self.tolerance is not None and not self.left_out
        return is_compared and not self.faults and self.gaps.is_within(self.tolerance or 0.0)


def verify_endpoint(run: Run) -> None:
    """Ask an endpoint a sample of a run's recorded items, compare, and write verify_endpoint.json.

    Raises:
        ConfigError: The run has no scores, or not of the model that the endpoint should have.
        EndpointError: The endpoint can't be reached, or its log-probabilities can't be trusted.
        DataError: Something differs; the report is written before.
    """
    config, run_dir, url = run.config, run.run_dir, str(run.config.model.endpoint)
    run = Run(replace(config, model=replace(config.model, endpoint=None)), run_dir)  # with its own weights
    recorded = recorded_run(run_dir)
    benchmarks = audited_benchmarks(run, recorded)
    model = EndpointModel(url, config.endpoint)
    serves = served_model(run, recorded, model.name)
    seed = config.audit.seed if config.audit.seed is not None else secrets.randbits(48)
    names = list(dict.fromkeys(score.benchmark for score in recorded.scores if score.benchmark in benchmarks))
    scored = [
        name for name in names if any((s.model, s.benchmark) == (serves, name) for s in recorded.scores)
    ]
    drawn = draw(recorded_answers(recorded.files, serves, scored), benchmarks, config.audit.items, seed)
    lm = EndpointLM(model, tokenizer_for(serves, run), config.evaluate)
    all_drawn, drawn = drawn, answerable(drawn, lm)
    again = asked(run, serves, model, drawn)
    gaps = gaps_between(drawn.recorded, again)
    tolerance = allowed(run, recorded, serves)
    faults = behaviours(lm, config.data)
    if gaps.num_other_prompts:
        faults.append(
            f"prompts: {gaps.num_other_prompts} of {gaps.num_items} have another text "
            "(another template, or files)"
        )
    if not gaps.is_within(tolerance or 0.0):
        others = {
            name: gaps_between(drawn_of(recorded, name, drawn), again)
            for name in recorded.models
            if name != serves and any(score.model == name for score in recorded.scores)
        }
        faults.append(cause_of(run, serves, lm, drawn, gaps, others, tolerance or SIXTEEN_BIT_NATS))
    result = Verification(
        endpoint=model.client.url.geturl(),
        model=model.name,
        serves=serves,
        tolerance=tolerance,
        gaps=gaps,
        faults=faults,
        left_out=[name for name in all_drawn.recorded if name not in drawn.recorded],
        notes=sampling_defaults(lm),
    )
    report(result, run, seed)


def answerable(drawn: Sample, lm: EndpointLM) -> Sample:
    """Return the drawn items; those that need log-likelihoods only if the endpoint takes token ids.

    An endpoint that takes texts only is compared by its generated texts; the log says so.

    Raises:
        EndpointError: The endpoint fails, or its log-likelihoods are needed and can't be trusted.
    """
    recorded = drawn.recorded
    texts = {name: recorded[name] for name in recorded if not any(a.loglikelihoods for a in recorded[name])}
    if len(texts) == len(recorded):
        return drawn
    try:
        lm.check_likelihoods()
    except UnsuitableError as error:
        if lm.takes_tokens is not False or not any(texts.values()):
            raise
        log.warning("verify_endpoint: only generated texts are compared: %s", error)
        benchmarks = {name: value for name, value in drawn.benchmarks.items() if name in texts}
        return replace(drawn, benchmarks=benchmarks, recorded=texts)
    return drawn


def served_model(run: Run, recorded: Recorded, name: str) -> str:
    """Return the name of the run's model that the endpoint should have.

    It is `endpoint.serves`, else the endpoint's own name of its model if that is one of MODELS, else the
    first of LIKELY that has scores.

    Args:
        run: The run.
        recorded: Its recorded results.
        name: Name of the model at the endpoint.

    Raises:
        ConfigError: The run has no scores of the model.
    """
    scored = {score.model for score in recorded.scores}
    wanted = run.config.endpoint.serves or (name if name in MODELS else None)
    serves = wanted or next(model for model in LIKELY if model in scored)
    if serves not in scored:
        raise ConfigError(
            f"endpoint.serves: the run has no scores of {serves!r} "
            f"(it has those of {', '.join(sorted(scored))})"
        )
    return serves


def allowed(run: Run, recorded: Recorded, serves: str) -> float | None:
    """Return the allowed difference of a log-likelihood, in nats; None if the scored model is quantized.

    `endpoint.tolerance` counts if it is set. `serves` is the scored model.
    """
    if run.config.endpoint.tolerance is not None:
        return run.config.endpoint.tolerance
    facts: Mapping[str, Any] = recorded.models[serves]
    if facts.get("quantization") not in (None, "none"):
        return None
    return FLOAT32_NATS if facts.get("dtype") == "float32" else SIXTEEN_BIT_NATS


def asked(run: Run, serves: str, model: EndpointModel, drawn: Sample) -> dict[str, list[Prediction]]:
    """Ask the endpoint the drawn items; return benchmark -> answers in the order of the items.

    `serves` is the run's model whose tokenizer encodes the prompts.

    Raises:
        WorkbenchError: The endpoint fails or can't answer the items, see `engine.evaluate`.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{number}.jsonl" for number, name in enumerate(drawn.benchmarks)}
        engine.evaluate(
            cast(PreTrainedModel, model),
            tokenizer_for(serves, run),
            drawn.benchmarks,
            run.config.evaluate,
            model_name=serves,
            predictions=lambda _, benchmark: files[benchmark],
        )
        return {name: read_predictions(path) for name, path in files.items()}


def drawn_of(recorded: Recorded, name: str, drawn: Sample) -> dict[str, list[Prediction]]:
    """Return benchmark -> recorded answers of the model `name` to the drawn items, in their order.

    Benchmarks of which it lacks an answer are left out.

    Raises:
        DataError: A predictions file is damaged.
        OSError, UnicodeDecodeError: It can't be read.
    """
    answers_by_benchmark = {}
    for benchmark, answers in drawn.recorded.items():
        path = recorded.files.predictions(name, benchmark)
        by_id = {answer.id: answer for answer in read_predictions(path)} if path.is_file() else {}
        if answers and all(answer.id in by_id for answer in answers):
            answers_by_benchmark[benchmark] = [by_id[answer.id] for answer in answers]
    return answers_by_benchmark


def report(result: Verification, run: Run, seed: int) -> None:
    """Log the result, and write verify_endpoint.json into the run's folder unless it is read-only.

    Raises:
        DataError: There is a fault.
    """
    run_dir, gaps = run.run_dir, result.gaps
    log.info("verify_endpoint: %s, taken for the run's %s: %s", result.model, result.serves, gaps.summary)
    if result.tolerance is None:
        log.info("verify_endpoint: the scored model is quantized, so that the two are never called equal")
    else:
        log.info("verify_endpoint: allowed are %g nats (endpoint.tolerance)", result.tolerance)
    for note in result.notes:
        log.info("verify_endpoint: %s", note)
    for fault in result.faults:
        log.warning("verify_endpoint: %s", fault)
    log.info("verify_endpoint: audit.seed=%d draws the same items again", seed)
    if os.access(run_dir.path, os.W_OK):
        values = {"schema_version": SCHEMA_VERSION, "seed": seed, "equal": result.is_equal, **asdict(result)}
        write_json(run_dir.verify_endpoint_json, values)
        log.info("verify_endpoint: report in %s", run_dir.verify_endpoint_json)
    if result.faults:
        raise DataError(f"{result.endpoint}: is not what was scored: {_first(result.faults)}")


def _first(faults: Sequence[str]) -> str:
    return faults[0] + (f" (and {len(faults) - 1} more, see above)" if len(faults) > 1 else "")
