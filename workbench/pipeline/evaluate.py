"""The evaluate step: scores base, adapter, merged and trained model on the same items."""

import logging
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from workbench.api.evaluation import log_warnings
from workbench.config.names import BASE, SERVED, UNTRAINED
from workbench.distributed import is_rank0
from workbench.errors import MissingStepError
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Score
from workbench.evaluation.result_checksums import score_digests
from workbench.log_once import log_once
from workbench.models.loading import has_trained_head
from workbench.models.ops.prepacked_linear import prepacked
from workbench.models.quantization import batch_dependence
from workbench.pipeline.contamination import check_contamination, write_clean_scores
from workbench.pipeline.held_out.benchmarks import held_out_benchmarks
from workbench.pipeline.run_models import Identity, loaded_models, model_identities
from workbench.pipeline.run_results import (
    scored_settings,
    scoring_fingerprint,
    waiting_benchmarks,
    write_scores,
)
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import asks_by_chat, is_classifier, skip_finished
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")


def evaluate(run: Run) -> None:
    """Score the models of the run on the benchmarks and held-out rows, unless they have valid scores already.

    Writes results.json, predictions, and contamination.json, and records each benchmark in run.json. All
    ranks must call this. If there are neither benchmarks nor held-out rows, it only logs a warning.

    Raises:
        MissingStepError: The run has none of the models of `evaluate.models`.
        WorkbenchError: A model, a benchmark or a row can't be read.
    """
    config, run_dir = run.config, run.run_dir
    held_out = held_out_benchmarks(run)
    prepared = run.benchmarks() | held_out
    if not prepared:
        log.warning(
            "evaluate: nothing to score, there is no benchmark and there are no held-out rows "
            "('benchmark=[NAME]' names one; data.validation_fraction=0.2 trains anew on four fifths)"
        )
        return
    identities = model_identities(run)
    if config.evaluate.name is not None and is_rank0():
        RunRecord(run_dir.run_json).note("name", config.evaluate.name)
    if not set(config.evaluate.models) & set(identities):
        raise MissingStepError(
            f"evaluate.models: {str(run_dir.path)!r} has no {' or '.join(config.evaluate.models)} model yet "
            "(run the steps that make them)"
        )
    waiting = waiting_benchmarks(run, identities, prepared)
    for name, benchmarks in waiting.items():
        skip_finished(f"evaluate {name}", not benchmarks, config)
    to_score = {key for benchmarks in waiting.values() for key in benchmarks}
    published = {key: prepared[key] for key in prepared if key in to_score - set(held_out)}
    log_warnings(published)
    check_contamination(run, published)
    untrained = is_classifier(config) and not has_trained_head(config.model)
    is_served = config.model.endpoint is not None
    for name, model in loaded_models(run, [name for name, benchmarks in waiting.items() if benchmarks]):
        note = SERVED if is_served else UNTRAINED if name == BASE and untrained else ""
        if not config.evaluate.invariant and (reason := batch_dependence(model, model.device.type)):
            log_once(f"scores depend on their batch on this GPU ({reason}; evaluate.invariant=true)")
        engine.evaluate(
            model,
            None if asks_by_chat(config) else tokenizer_for(name, run),
            waiting[name],
            config.evaluate,
            model_name=name,
            fingerprint=fingerprint(identities[name]),
            predictions=run_dir.predictions,
            cache=run_dir.cache,
            renew=config.force,
            note=note,
            publish=score_writer(run, identities, name, model),
            decoding=prepacked,
            finished={key: prepared[key] for key in prepared if key not in waiting[name]},
        )
    write_clean_scores(run)


def score_writer(
    run: Run, identities: Mapping[str, Identity], name: str, model: PreTrainedModel
) -> engine.Publish:
    """Return a function that writes a benchmark's scores of the model `name` to results.json and run.json.

    It does nothing on ranks other than 0.
    """
    config, run_dir = run.config, run.run_dir

    def publish(benchmark: PreparedBenchmark, scores: Sequence[Score], measured: Mapping[str, float]) -> None:
        if not is_rank0():
            return
        step = f"evaluate/{name}/{benchmark.name}"
        checksum = write_scores(run, identities, name, model, benchmark, scores)
        record = RunRecord(run_dir.run_json)
        record.values["results"] = checksum
        record.finish(
            step,
            scoring_fingerprint(identities[name], benchmark, config),
            run_dir.predictions(name, benchmark.name),
            measured,
            digests={"scores": score_digests(run_dir.results_json)[name, benchmark.name]} if scores else {},
            settings=scored_settings(benchmark, config),
        )

    return publish
