"""Searches the weights of `merge.adapters` on benchmarks: the base and all adapters are loaded once."""

import itertools
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.config import Config
from workbench.config.history import hashed
from workbench.config.merge import SEARCHED_BY, WeightedPart
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.too_long_items import check_each_left
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.combining.combine_adapters import combine_adapters
from workbench.models.combining.lora_factors import read_lora
from workbench.models.combining.switched_weights import SwitchedWeights
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.pipeline.checking.questions import answerable
from workbench.pipeline.combining.choice import Factors, Items, JudgedSetting, Values, best, judge
from workbench.pipeline.combining.halves import halves, items_of
from workbench.pipeline.combining.scored_settings import ScoredSettings
from workbench.pipeline.combining.search_report import decide, read_chosen, write_report
from workbench.pipeline.comparing.until_decided import check_any_order
from workbench.pipeline.run_results import scoring_fingerprint
from workbench.pipeline.run_state import Run
from workbench.pipeline.shared_base import shared_base
from workbench.pipeline.step_inputs import content, skip_finished
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

Halves = tuple[dict[str, PreparedBenchmark], dict[str, PreparedBenchmark]]
"""The benchmarks with the half of their items by which a setting is chosen, and with the half on which it is
reported."""


def searched_weights(run: Run) -> list[WeightedPart]:
    """Return `merge.adapters` with their weights times the factors that a search chose.

    The search is run first, unless it is finished; it writes its report into the run's folder.

    Raises:
        ConfigError: No setting's loss on the guard set is known to be small enough, items are too few, or
            the command was started with several processes.
    """
    config, run_dir = run.config, run.run_dir
    if rank_and_world_size()[1] > 1:
        raise ConfigError("merge.search: scores in one process (start it without torchrun or accelerate)")
    benchmarks = run.benchmarks()
    check_any_order(benchmarks)
    _check_metrics(benchmarks)
    identity = base_identity(config)
    inputs = fingerprint(search_inputs(config, identity, benchmarks))
    record = RunRecord(run_dir.run_json)
    if not skip_finished("search", record.is_finished("search", inputs, run_dir.search), config):
        divided = _divided(benchmarks, config.merge.seed)
        _search(run, divided, identity)
        record.finish("search", inputs, run_dir.search, {})
    factors = read_chosen(run_dir.search)
    return [
        replace(entry, weight=entry.weight * factor)
        for entry, factor in zip(config.merge.adapters, factors, strict=True)
    ]


def _check_metrics(benchmarks: Mapping[str, PreparedBenchmark]) -> None:
    """Refuse benchmarks whose first metric isn't a mean over items, such as perplexity."""
    for name, benchmark in benchmarks.items():
        metric = benchmark.config.metrics[0]
        if metric_named(metric).corpus is not None:
            raise ConfigError(
                f"benchmarks.{name}.metrics: {metric} is not a mean over items, and a search compares items "
                "(name such a metric first)"
            )


def base_identity(config: Config) -> dict[str, Any]:
    """Return everything that the answers of a setting depend on, besides its factors, for a fingerprint.

    The sections are as `hashed` returns them, so enum options stay members.

    Raises:
        CheckpointError: An adapter of `merge.adapters` is missing or damaged.
    """
    return {
        "model": hashed(config.model, "model") | {"path": content(config.model.path)},
        "quantization": hashed(config.quantization, "quantization"),
        "adapters": [adapter_config.fingerprint(entry.path) for entry in config.merge.adapters],
        "weights": [entry.weight for entry in config.merge.adapters],
    }


def search_inputs(
    config: Config, identity: dict[str, Any], benchmarks: Mapping[str, PreparedBenchmark]
) -> list[Any]:
    """Return the settings, and fingerprints of the benchmarks, that a search's choice depends on.

    `identity` is from `base_identity`.
    """
    keys = {key: getattr(config.merge, key) for key in (*SEARCHED_BY, "seed")}
    return [keys, *(scoring_fingerprint(identity, benchmark, config) for benchmark in benchmarks.values())]


def all_factors(config: Config) -> list[Factors]:
    """Return each setting to score: every combination of `merge.search`, one factor for each adapter.

    The base (all factors 0) comes first. The weights as given (all factors 1) are among them.
    """
    count = len(config.merge.adapters)
    grid = set(itertools.product(config.merge.search, repeat=count)) | {(0.0,) * count, (1.0,) * count}
    return sorted(grid, key=lambda factors: (any(factors), factors))


def _divided(benchmarks: Mapping[str, PreparedBenchmark], seed: int) -> Halves:
    """Divide each benchmark; return all first halves and all second halves by name."""
    pairs = {name: halves(benchmark, seed) for name, benchmark in benchmarks.items()}
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def _search(run: Run, divided: Halves, identity: dict[str, Any]) -> None:
    """Score all settings on the first halves and the finalists on the second, and write the report.

    Raises:
        ConfigError: No setting is safe; the report is written before.
    """
    config = run.config
    margin, guard = config.merge.guard_margin, config.merge.guard
    settings = all_factors(config)
    with _loaded(run, identity) as scored:
        first, second = (answerable(half, run, scored.tokenizer) for half in divided)
        check_each_left(divided[0], first.keys() & second.keys(), config.evaluate)
        judged = _judged(scored, settings, first, guard)
        winner = best(judged, margin)
        base, given = settings[0], (1.0,) * len(config.merge.adapters)
        finalists: dict[Factors, Values] = {}
        if winner is not None:
            wanted = dict.fromkeys((base, given, winner.factors))
            finalists = {factors: scored.values(factors, second) for factors in wanted}
    decision = None
    if winner is not None:
        as_given = next(setting for setting in judged if setting.factors == given)
        items = {name: items_of(benchmark) for name, benchmark in second.items()}
        decision = decide(winner, as_given, finalists, items, config.merge)
    write_report(run, judged, decision, (first, second))
    if decision is None:
        smallest = min(setting.most_lost or 0.0 for setting in judged if any(setting.factors))
        raise ConfigError(
            f"merge.guard_margin: {margin:g}, but no factor's loss on the guard set is known to be below it "
            f"(the smallest bound is {smallest:.3f}: a larger margin, more items, or smaller factors; see "
            f"{run.run_dir.search})"
        )


def _judged(
    scored: ScoredSettings, settings: list[Factors], half: dict[str, PreparedBenchmark], guard: list[str]
) -> list[JudgedSetting]:
    """Score all settings on one half of the items, and compare each with the first setting, the base."""
    items: dict[str, Items] = {name: items_of(benchmark) for name, benchmark in half.items()}
    base: Values = {}
    judged: list[JudgedSetting] = []
    for number, factors in enumerate(settings, 1):
        values = scored.values(factors, half)
        base = base or values
        judged.append(judge(factors, values, base, items, guard))
        shown = ", ".join(f"{factor:g}" for factor in factors)
        gain = f"{100 * judged[-1].gain:+.1f} points over the base"
        log.info("search: %d of %d: factor %s: %s", number, len(settings), shown, gain)
    return judged


@contextmanager
def _loaded(run: Run, identity: dict[str, Any]) -> Iterator[ScoredSettings]:
    """Load the base with all adapters; yield an object that scores it with any factors."""
    config = run.config
    adapters = [read_lora(entry.path) for entry in config.merge.adapters]
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder, shared_base(config, None) as base:
        combined = Path(folder) / "combined"
        combine_adapters(config.model, config.merge, combined)
        model = base.attached(combined)
        tokenizer = run.tokenizer
        take_template(tokenizer, adapter_config.chat_template(combined))
        end_at(base.model, adapter_config.end_tokens(combined))
        yield ScoredSettings(
            model=attach.base_model(model),
            tokenizer=tokenizer,
            weights=SwitchedWeights(model, adapters),
            identity=identity,
            evaluate=config.evaluate,
            cache=run.run_dir.cache,
            answers=Path(folder),
        )
