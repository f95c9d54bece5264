"""The evaluate step: base, adapter and merged model on the same items."""

import logging
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from workbench.config.names import BASE, UNTRAINED
from workbench.data.contamination import contamination
from workbench.data.streaming import streamed_rows
from workbench.distributed import is_rank0
from workbench.errors import MissingStepError
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Score
from workbench.evaluation.result_checksums import score_digests
from workbench.models.loading import has_trained_head
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.held_out.benchmarks import held_out_benchmarks
from workbench.pipeline.run_models import Identity, loaded_models, model_identities
from workbench.pipeline.run_results import scored_from, waiting_benchmarks, write_scores
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier, skipped
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")


def evaluate(run: Run) -> None:
    """Score the models of this run on the benchmarks; what has been scored before is left as it is.

    Raises:
        MissingStepError: none of the models is there.
    """
    config, run_dir = run.config, run.run_dir
    held_out = held_out_benchmarks(run)
    prepared = run.benchmarks() | held_out
    if not prepared:
        log.warning("evaluate: nothing to score, no benchmark is named and no rows are held out")
        return
    identities = model_identities(run)
    if not set(config.evaluate.models) & set(identities):
        raise MissingStepError(
            f"evaluate.models: {str(run_dir.path)!r} has none of {', '.join(config.evaluate.models)} yet "
            "(run the steps that make them)"
        )
    waiting = waiting_benchmarks(run, identities, prepared)
    for name, benchmarks in waiting.items():
        skipped(f"evaluate {name}", not benchmarks, config)
    say_warnings(
        run, {key: prepared[key] for some in waiting.values() for key in some if key not in held_out}
    )
    untrained = is_classifier(config) and not has_trained_head(config.model)
    for name, model in loaded_models(run, [name for name, benchmarks in waiting.items() if benchmarks]):
        engine.evaluate(
            model,
            tokenizer_for(name, run),
            waiting[name],
            config.evaluate,
            model_name=name,
            fingerprint=fingerprint(identities[name]),
            predictions=run_dir.predictions,
            cache=run_dir.cache,
            renew=config.force,
            note=UNTRAINED if name == BASE and untrained else "",
            publish=publisher(run, identities, name, model),
            decoding=prepacked,
        )


def publisher(
    run: Run, identities: Mapping[str, Identity], name: str, model: PreTrainedModel
) -> engine.Publish:
    """What writes a benchmark's scores into results.json and run.json as soon as the model has them."""
    config, run_dir = run.config, run.run_dir

    def publish(benchmark: PreparedBenchmark, scores: Sequence[Score], measured: Mapping[str, float]) -> None:
        if not is_rank0():
            return
        step = f"evaluate/{name}/{benchmark.name}"
        facts = write_scores(run, identities, name, model, scores)
        record = RunRecord(run_dir.run_json)
        record.values["results"] = facts
        record.finish(
            step,
            scored_from(identities[name], benchmark, config),
            run_dir.predictions(name, benchmark.name),
            measured,
            digests={"scores": score_digests(run_dir.results_json)[name, benchmark.name]},
        )

    return publish


def say_warnings(run: Run, benchmarks: Mapping[str, PreparedBenchmark]) -> None:
    """Say what is odd about the benchmarks, and which of their questions stand in the training rows."""
    data, seed = run.config.data, run.config.seed
    for name, benchmark in benchmarks.items():
        for warning in benchmark.warnings:
            log.warning("benchmarks.%s: %s", name, warning)
        rows = [] if not data.paths() else streamed_rows(data, seed) if data.streaming else run.rows
        found = contamination([example.questions[0] for example in benchmark.examples], rows)
        if found.count:
            question, where = found.found[0]
            log.warning(
                "benchmarks.%s: %d of %d questions stand in the training rows, the first, %r, in %s",
                name,
                found.count,
                found.num_items,
                question[:60],
                where,
            )
