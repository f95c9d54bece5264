"""The scores in a run's results.json: which are valid, and how new ones are added."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from transformers import PreTrainedModel

from workbench.config import Config
from workbench.config.benchmark import WHICH_ITEMS, BenchmarkConfig, Extract, OutputType
from workbench.config.evaluate import NOT_SCORED_FROM
from workbench.config.history import CONFIG_VERSION, changed_values, hashed
from workbench.config.names import ADAPTER, BASE, MODELS, SERVED
from workbench.errors import DataError
from workbench.evaluation import engine
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.evaluation.extraction.extract import EXTRACTION_VERSION
from workbench.evaluation.metrics.text_similarity import COMPARISON_VERSION
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import Example, Score, read_results, write_results
from workbench.evaluation.result_checksums import RECIPE_DIGEST, check_results, facts_digest
from workbench.files import check_replaceable, local_path
from workbench.leaderboard.rows.models import OF_TRAINING, UNSCORED
from workbench.leaderboard.run_files import config_of
from workbench.leaderboard.run_remarks import record_of
from workbench.models.adapters import adapter_config
from workbench.models.architecture import unpacked_method
from workbench.models.dtypes import dtype_name
from workbench.pipeline.run_models import Identity
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir, fingerprint, read_json
from workbench.run_record import RULES, RunRecord
from workbench.shipped import public_path

log = logging.getLogger("workbench")

_KERNELS = ("fused", "compile", "tf32")
"""Keys of an `Identity` that change scores by rounding alone, so that scores with different ones stay
together in results.json."""


def waiting_benchmarks(
    run: Run, identities: Mapping[str, Identity], prepared: Mapping[str, PreparedBenchmark]
) -> dict[str, dict[str, PreparedBenchmark]]:
    """Return, for each model of `evaluate.models` that the run has, the benchmarks without valid scores.

    With `force` or `evaluate.verify`, all benchmarks. Scores that were changed are logged.

    Args:
        run: The run.
        identities: Model -> its identity, for the models that the run has.
        prepared: Name -> benchmark.

    Returns:
        Model -> name -> benchmark; the inner mapping is empty if nothing is to be scored.
    """
    config, run_dir = run.config, run.run_dir
    record = RunRecord(run_dir.run_json)
    models, scores = valid_results(run_dir, identities, log_problems=True)
    known = {(score.model, score.benchmark) for score in scores}
    known |= {(name, key) for name, facts in models.items() for key in facts.get(UNSCORED, {})}

    def is_finished(name: str, key: str) -> bool:
        inputs = scoring_fingerprint(identities[name], prepared[key], config)
        output = run_dir.predictions(name, key)
        return (name, key) in known and record.is_finished(f"evaluate/{name}/{key}", inputs, output)

    return {
        name: {
            key: benchmark
            for key, benchmark in prepared.items()
            if config.force or config.evaluate.verify or not is_finished(name, key)
        }
        for name in identities
        if name in config.evaluate.models
    }


def scoring_fingerprint(identity: Identity, benchmark: PreparedBenchmark, config: Config) -> str:
    """Return the fingerprint of everything that a model's scores on a benchmark depend on.

    Settings are hashed so that the results of earlier versions stay valid where scores didn't change.
    """
    rule, settings = hashed(benchmark.config, "benchmarks.*"), hashed(config.evaluate, "evaluate")
    rule = {key: value for key, value in rule.items() if key not in WHICH_ITEMS}
    generates = benchmark.config.output_type is OutputType.generation
    if generates and any("<" in text for text in benchmark.config.generation.stop):
        rule["endings"] = 2  # since then a stop text that is a special token ends an answer
    if generates:
        rule["answers"] = engine.ANSWERS_VERSION  # how an answer ends
        rule["comparison"] = COMPARISON_VERSION
        if config.evaluate.samples > 1:
            rule["votes"] = 2  # since then answers of one value have their votes together
    settings = {key: value for key, value in settings.items() if key not in NOT_SCORED_FROM}
    rule["tasks"] = benchmark.interviewer.rule or rule["tasks"]
    if generates and is_extracted(benchmark.config):
        rule["extraction"] = EXTRACTION_VERSION
    elif generates and benchmark.config.protocol != "lm-eval":
        rule["thoughts"] = "not read"  # as in the rule of a score, which the board compares
    examples = [example_values(example) for example in benchmark.examples]
    return fingerprint([identity, rule, settings, examples])


def is_extracted(benchmark: BenchmarkConfig) -> bool:
    """Return whether rules with an `EXTRACTION_VERSION` take the answer from a generated text."""
    return benchmark.generation.extract in (Extract.number, Extract.letter, Extract.code)


def scored_settings(benchmark: PreparedBenchmark, config: Config) -> dict[str, Any]:
    """Return the settings that scores on a benchmark are made with, for run.json.

    A run's folder has one config.yaml, and later commands may score with other settings.

    Returns:
        `version` of the configuration, and of `evaluate` and `benchmark` the keys that differ from their
        defaults; those of the held-out rows, which no key sets, are left out. `rules` has the version of the
        rules that take answers from texts, where they do.
    """
    has_rules = benchmark.config.output_type is OutputType.generation and is_extracted(benchmark.config)
    evaluate = changed_values(config.evaluate)
    section = config.benchmarks.get(benchmark.name)
    return {
        "version": CONFIG_VERSION,
        "evaluate": {key: value for key, value in evaluate.items() if key not in NOT_SCORED_FROM},
        **({} if section is None else {"benchmark": changed_values(section)}),
        **({RULES: {"extraction rules": EXTRACTION_VERSION}} if has_rules else {}),
    }


def example_values(example: Example) -> dict[str, Any]:
    """Return the fields of a benchmark item that its score depends on, by name, as `hashed` returns them.

    Left out are fields that version 1 lacked and that have their default, `references` and `written_targets`
    where they only repeat the target, and `language`, which is a setting of the benchmark.
    """
    values = hashed(_without_language(example), "")
    for spelling in ("references", "written_targets"):
        if getattr(example, spelling) == (example.target,):
            values.pop(spelling, None)
    return values


def _without_language(example: Example) -> Example:
    return replace(example, language="", rotations=tuple(map(_without_language, example.rotations)))


def valid_results(
    run_dir: RunDir, identities: Mapping[str, Identity], *, log_problems: bool = False
) -> tuple[dict[str, Any], list[Score]]:
    """Return the valid contents of results.json as (model -> facts about it, scores).

    Models whose identity has changed, by more than its kernels, are left out, with their scores. So are
    scores that were changed since they were written. Without the file, or if it is damaged, both are empty.

    Args:
        run_dir: The run.
        identities: Model -> its present identity.
        log_problems: Log which scores were changed.

    Raises:
        DataError: There is a folder in the place of results.json.
    """
    check_replaceable(run_dir.results_json)
    if not run_dir.results_json.is_file():
        return {}, []
    try:
        about, scores = read_results(run_dir.results_json)
        checked = check_results(run_dir.results_json, RunRecord(run_dir.run_json).values)
    except DataError as error:
        if log_problems:
            log.warning("%s (the models are scored again)", error)
        return {}, []
    for name, benchmark in sorted(checked.changed) if log_problems else ():
        log.warning(
            "%s: the scores of %s on %s were changed since they were written, so it is scored again",
            run_dir.results_json,
            name,
            benchmark,
        )
    models = {
        name: model
        for name, model in about["models"].items()
        if name in identities
        and model["identity"] in (model_digest(identities[name]), fingerprint(identities[name]))
    }
    unchanged = [score for score in scores if (score.model, score.benchmark) not in checked.changed]
    return models, [score for score in unchanged if score.model in models]


def model_digest(identity: Identity) -> str:
    """Return the fingerprint of a model, whichever kernels compute it.

    A score's own fingerprint, `scoring_fingerprint`, has the kernels.
    """
    return fingerprint({key: value for key, value in identity.items() if key not in _KERNELS})


def training_of(path: str) -> dict[str, Any]:
    """Return facts for results.json on how an adapter was trained by another run or tool.

    They are `method` and `rank` from the adapter's files; if it is in the folder of a run, also its learning
    rate, seed, data path and recipe. (The configuration of a run that only scores an adapter says nothing
    about the adapter's training.)

    Args:
        path: The adapter's folder or Hub id.

    Raises:
        CheckpointError: There is no adapter at `path`.
    """
    config, adapter = adapter_config.read_config(path), local_path(path)
    method = str(config.peft_type).rpartition(".")[2].lower()
    facts: dict[str, Any] = {"method": "dora" if getattr(config, "use_dora", False) else method}
    facts |= {"rank": rank} if isinstance(rank := getattr(config, "r", None), int) else {}
    origin = RunDir(adapter.resolve().parent)
    is_of_run = adapter.is_dir() and adapter.resolve() == origin.adapter
    stored = config_of(origin, {}) if is_of_run else {}
    sections = {key: stored.get(key) for key in OF_TRAINING}
    if not all(isinstance(section, dict) for section in sections.values()):
        return facts
    train, data = (cast(dict[str, Any], sections[key]) for key in ("train", "data"))
    record, _ = record_of(origin)
    learned = record.get("steps", {}).get("train", {}).get(RECIPE_DIGEST)
    return facts | {
        "method": cast(dict[str, Any], sections["adapter"]).get("method", facts["method"]),
        "learning_rate": train.get("learning_rate"),
        "seed": stored.get("seed"),
        "trained_on": public_path(data.get("path")),
        "recipe": (learned or fingerprint(sections))[:16],
    }


def write_scores(
    run: Run,
    identities: Mapping[str, Identity],
    name: str,
    model: PreTrainedModel,
    benchmark: PreparedBenchmark,
    scores: Sequence[Score],
) -> str:
    """Add a model's new scores to results.json, in place of its older scores on the same benchmark.

    Scores and models that are no longer valid are removed.

    Args:
        run: The run.
        identities: Model -> its identity, for the models that the run has.
        name: The scored model.
        model: The same model, loaded.
        benchmark: The benchmark.
        scores: The model's scores on it; empty if no item fits the model's context, which is recorded then.

    Returns:
        The checksum of the facts about run and models in results.json.
    """
    config, run_dir = run.config, run.run_dir
    models, valid_scores = valid_results(run_dir, identities)
    identity, is_here = identities[name], config.model.endpoint is None
    unscored = dict(models.get(name, {}).get(UNSCORED, {}))
    unscored.pop(benchmark.name, None)
    unscored |= {} if scores else {benchmark.name: len(benchmark.examples)}
    models[name] = {
        "quantization": identity["quantization"],
        "dtype": dtype_name(model.dtype) if is_here else SERVED,
        "adapter": identity["adapter"],
        "weights": identity["weights"],
        "identity": model_digest(identity),
    }
    if unscored:
        models[name][UNSCORED] = unscored
    reads_base = is_here and name in (BASE, ADAPTER)
    if reads_base and (unpacked := unpacked_method(config.model, config.quantization)):
        models[name]["unpacked"] = unpacked
    adapter, is_trained_here = config.adapter.path, run_dir.adapter.is_dir()
    if adapter and name != BASE and not is_trained_here:
        models[name]["training"] = training_of(adapter)
    renewed = (name, benchmark.name)
    all_scores = [score for score in valid_scores if (score.model, score.benchmark) != renewed]
    all_scores += scores
    all_scores.sort(key=lambda score: (score.benchmark, MODELS.index(score.model)))
    about = {
        "run": run_dir.name,
        "recipe": config.recipe_name,
        "task": config.model.task.value,
        "base_model": model.name if isinstance(model, EndpointModel) else public_path(config.model.path),
        "models": {key: models[key] for key in MODELS if key in models},
    }
    write_results(run_dir.results_json, about, all_scores)
    return facts_digest(read_json(run_dir.results_json))
