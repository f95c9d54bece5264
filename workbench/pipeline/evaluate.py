"""The evaluate step: base, adapter and merged model on the same items."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed

from workbench.config import Config, QuantizationConfig
from workbench.config.benchmark import Extract, OutputType
from workbench.config.evaluate import MODELS
from workbench.config.history import hashed
from workbench.config.model import Dtype, ModelConfig
from workbench.data.contamination import contamination
from workbench.data.rows import load_rows
from workbench.data.streaming import streamed_rows
from workbench.distributed import is_rank0
from workbench.errors import DataError, MissingStepError
from workbench.evaluation import engine
from workbench.evaluation.extraction.extract import EXTRACTION_VERSION
from workbench.evaluation.metrics.text_similarity import COMPARISON_VERSION
from workbench.evaluation.prepare_benchmarks import check_benchmarks
from workbench.evaluation.records import Example, PreparedBenchmark, Score, read_results, write_results
from workbench.evaluation.result_checksums import check_results, facts_digest, score_digests
from workbench.files import check_replaceable
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import has_trained_head, load_model
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.held_out import held_out_benchmarks
from workbench.pipeline.step_inputs import (
    adapter_folder,
    check_trained,
    content,
    is_classifier,
    shown,
    skipped,
)
from workbench.pipeline.tokenizers import borrowed_template, tokenizer_for
from workbench.run_dir import RunDir, RunRecord, file_fingerprint, fingerprint, read_json

log = logging.getLogger("workbench")

Identity = dict[str, Any]
NOT_SCORED_FROM = ("models", "batch_tokens", "shared_prefix", "verify", "cache")
"""Keys of the evaluate section that don't change a score."""


def evaluate(config: Config, run_dir: RunDir) -> None:
    """Score the models of this run on the benchmarks; what has been scored before is left as it is.

    Raises:
        MissingStepError: none of the models is there.
    """
    held_out = held_out_benchmarks(config, run_dir)
    prepared = check_benchmarks(config.benchmarks, config.evaluate) | held_out
    if not prepared:
        log.warning("evaluate: nothing to score, no benchmark is named and no rows are held out")
        return
    identities = model_identities(config, run_dir)
    waiting = waiting_benchmarks(config, run_dir, identities, prepared)
    for name, benchmarks in waiting.items():
        skipped(f"evaluate {name}", not benchmarks, config)
    say_warnings(
        config, {key: prepared[key] for some in waiting.values() for key in some if key not in held_out}
    )
    untrained = is_classifier(config) and not has_trained_head(config.model)
    for name, model in loaded_models(
        config, run_dir, [name for name, benchmarks in waiting.items() if benchmarks]
    ):
        engine.evaluate(
            model,
            tokenizer_for(name, config, run_dir),
            waiting[name],
            config.evaluate,
            model_name=name,
            fingerprint=fingerprint(identities[name]),
            predictions=run_dir.predictions,
            cache=run_dir.cache,
            renew=config.force,
            note="untrained head" if name == "base" and untrained else "",
            publish=publisher(config, run_dir, identities, name, model),
            decoding=prepacked,
        )


def publisher(
    config: Config,
    run_dir: RunDir,
    identities: Mapping[str, Identity],
    name: str,
    model: PreTrainedModel,
) -> engine.Publish:
    """What writes a benchmark's scores into results.json and run.json as soon as the model has them."""

    def publish(benchmark: PreparedBenchmark, scores: Sequence[Score], measured: Mapping[str, float]) -> None:
        if not is_rank0():
            return
        step = f"evaluate/{name}/{benchmark.name}"
        facts = write_scores(config, run_dir, identities, name, model, scores)
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


def model_identities(config: Config, run_dir: RunDir) -> dict[str, Identity]:
    """Name -> what decides the numbers of each model that this run has.

    Raises:
        MissingStepError: it has none of `evaluate.models`.
    """
    base: Identity = {
        "weights": content(config.model.path),
        **({"revision": config.model.revision} if config.model.revision else {}),
        **({"tokenizer": content(config.model.tokenizer)} if config.model.tokenizer else {}),
        **({} if config.model.fused else {"fused": False}),
        "quantization": config.quantization.method.value,
        "held": [
            hashed(config.quantization, "quantization"),
            config.model.dtype.value,
            config.seed if is_classifier(config) else 0,
        ],
        "adapter": None,
    }
    borrowed = borrowed_template(config, run_dir)
    asked = {**base, "chat_template": fingerprint(borrowed)} if borrowed else base
    found: dict[str, Identity] = {} if config.model.init else {"base": asked}
    adapter = adapter_folder(config, run_dir)
    if adapter is not None:
        adapter_config.read_config(adapter)
        found["adapter"] = {**base, "adapter": adapter_config.fingerprint(adapter)}
    if merged := fingerprint_of_merge(adapter, run_dir):
        found["merged"] = {**base, "weights": merged, "quantization": "none", "held": None}
    elif adapter is not None and run_dir.merged.is_dir():
        log.warning(
            "evaluate: the merged model is of an older adapter, or it or its report is not as the merge step "
            "left them, and is left out (the merge step makes them again)"
        )
    if run_dir.model.is_dir():
        found["trained"] = {**base, "weights": check_trained(run_dir, run_dir.model)}
    if not set(config.evaluate.models) & set(found):
        raise MissingStepError(
            f"evaluate.models: {str(run_dir.path)!r} has none of {', '.join(config.evaluate.models)} yet "
            "(run the steps that make them)"
        )
    return found


def fingerprint_of_merge(adapter: Path | None, run_dir: RunDir) -> str | None:
    """The fingerprint of the run's merged model; None: there is none, or it isn't that of this adapter.

    That holds where its report is missing or damaged, too: without a proof the merged model isn't used.
    """
    if adapter is None or not run_dir.merged.is_dir() or not run_dir.merge_report.is_file():
        return None
    if RunRecord(run_dir.run_json).problem("merge", run_dir.merged):
        return None
    try:
        report = read_json(run_dir.merge_report)
    except ValueError:
        return None
    proven = report.get("fingerprints") if isinstance(report, dict) else None
    found = file_fingerprint(run_dir.merged)
    expected = {"adapter": adapter_config.fingerprint(adapter), "merged": found}
    same = isinstance(proven, dict) and {key: proven.get(key) for key in expected} == expected
    return found if same else None


def waiting_benchmarks(
    config: Config,
    run_dir: RunDir,
    identities: Mapping[str, Identity],
    prepared: Mapping[str, PreparedBenchmark],
) -> dict[str, dict[str, PreparedBenchmark]]:
    """Model -> benchmarks that it still has to be scored on."""
    record = RunRecord(run_dir.run_json)
    known = {(score.model, score.benchmark) for score in valid_results(run_dir, identities, say=True)[1]}

    def finished(name: str, key: str) -> bool:
        inputs = scored_from(identities[name], prepared[key], config)
        output = run_dir.predictions(name, key)
        return (name, key) in known and record.is_finished(f"evaluate/{name}/{key}", inputs, output)

    return {
        name: {
            key: benchmark
            for key, benchmark in prepared.items()
            if config.force or config.evaluate.verify or not finished(name, key)
        }
        for name in identities
        if name in config.evaluate.models
    }


def scored_from(identity: Identity, benchmark: PreparedBenchmark, config: Config) -> str:
    """Fingerprint of everything that decides a benchmark's scores."""
    rule, settings = hashed(benchmark.config, "benchmarks.*"), hashed(config.evaluate, "evaluate")
    rule = {key: value for key, value in rule.items() if key not in ("path", "limit", "sample")}
    generates = benchmark.config.output_type is OutputType.generation
    if generates and any("<" in text for text in benchmark.config.generation.stop):
        rule["endings"] = 2  # before, a stop text that is a special token ended no answer
    if generates:
        rule["answers"] = engine.ANSWERS_VERSION  # how an answer ends
        rule["comparison"] = COMPARISON_VERSION
    settings = {key: value for key, value in settings.items() if key not in NOT_SCORED_FROM}
    rule["tasks"] = benchmark.rule or rule["tasks"]
    if benchmark.config.generation.extract in (Extract.number, Extract.letter):
        rule["extraction"] = EXTRACTION_VERSION
    return fingerprint([identity, rule, settings, [example_values(each) for each in benchmark.examples]])


def example_values(example: Example) -> dict[str, Any]:
    """What of an item decides its score; its right texts only once where all their spellings are one."""
    values = hashed(example, "")
    for spelling in ("references", "written_targets"):
        if getattr(example, spelling) == (example.target,):
            values.pop(spelling, None)
    return values


def valid_results(
    run_dir: RunDir, identities: Mapping[str, Identity], *, say: bool = False
) -> tuple[dict[str, Any], list[Score]]:
    """What results.json says of the models, and its scores; models that have changed are left out.

    Scores that aren't as this program wrote them are left out, too, and with `say` named in the log.
    """
    check_replaceable(run_dir.results_json)
    if not run_dir.results_json.is_file():
        return {}, []
    try:
        about, scores = read_results(run_dir.results_json)
        checked = check_results(run_dir.results_json, RunRecord(run_dir.run_json).values)
    except DataError as error:
        if say:
            log.warning("%s (its scores are made again)", error)
        return {}, []
    for name, benchmark in sorted(checked.changed) if say else ():
        log.warning(
            "%s: the scores of %s on %s are not as they were written, and are made again",
            run_dir.results_json,
            name,
            benchmark,
        )
    models = {
        name: model
        for name, model in about["models"].items()
        if name in identities and model["identity"] == fingerprint(identities[name])
    }
    sound = [score for score in scores if (score.model, score.benchmark) not in checked.changed]
    return models, [score for score in sound if score.model in models]


def write_scores(
    config: Config,
    run_dir: RunDir,
    identities: Mapping[str, Identity],
    name: str,
    model: PreTrainedModel,
    scores: Sequence[Score],
) -> str:
    """Put a model's new scores beside those that results.json holds already.

    Returns:
        The checksum of what results.json then says of the run and its models.
    """
    models, kept = valid_results(run_dir, identities)
    identity = identities[name]
    models[name] = {
        "quantization": identity["quantization"],
        "dtype": str(model.dtype).removeprefix("torch."),
        "adapter": identity["adapter"],
        "weights": identity["weights"],
        "identity": fingerprint(identity),
    }
    renewed = {(score.model, score.benchmark) for score in scores}
    together = [*(s for s in kept if (s.model, s.benchmark) not in renewed), *scores]
    together.sort(key=lambda score: (score.benchmark, MODELS.index(score.model)))
    about = {
        "run": run_dir.name,
        "recipe": config.recipe_name,
        "task": config.model.task.value,
        "base_model": shown(config.model.path),
        "models": {key: models[key] for key in MODELS if key in models},
    }
    write_results(run_dir.results_json, about, together)
    return facts_digest(read_json(run_dir.results_json))


def loaded_models(
    config: Config, run_dir: RunDir, names: Sequence[str]
) -> Iterator[tuple[str, PreTrainedModel]]:
    """Each named model in turn; base and adapter share one load, the adapter switched off and on.

    Where switching it off doesn't give the base back, the base comes before the adapter is put on it.
    """
    adapter = adapter_folder(config, run_dir)
    if "base" in names or "adapter" in names:
        set_seed(config.seed)  # an untrained head is the same each time
        labels = adapter_config.num_labels(adapter) if adapter else None
        base = load_model(config.model, config.quantization, labels)
        first = "adapter" not in names or adapter is None or adapter_config.changes_base(adapter)
        if first and "base" in names:
            yield "base", base
        if "adapter" in names and adapter is not None:
            both = attach.load(base, adapter)
            if not first and "base" in names:
                with both.disable_adapter():
                    yield "base", attach.base_model(both)
            end_at(base, adapter_config.end_tokens(adapter))
            yield "adapter", attach.base_model(both)
    if "merged" in names:
        yield "merged", load_model(plain(config.model, run_dir.merged), QuantizationConfig())
    if "trained" in names:
        yield "trained", load_model(plain(config.model, run_dir.model), config.quantization)


def plain(model: ModelConfig, folder: Path) -> ModelConfig:
    """The model section for a model that a run has written to `folder`."""
    return replace(model, path=str(folder), revision=None, tokenizer=None, init={}, dtype=Dtype.auto)


def say_warnings(config: Config, benchmarks: Mapping[str, PreparedBenchmark]) -> None:
    """Say what is odd about the benchmarks, and which of their questions stand in the training rows."""
    streamed = config.data.streaming
    rows = load_rows(config.data, config.seed) if config.data.paths() and benchmarks and not streamed else []
    for name, benchmark in benchmarks.items():
        for warning in benchmark.warnings:
            log.warning("benchmarks.%s: %s", name, warning)
        trained = streamed_rows(config.data, config.seed) if streamed else rows
        found = contamination([example.questions[0] for example in benchmark.examples], trained)
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
