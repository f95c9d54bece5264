"""The compare step: compares two models item by item, by their results or by asking them."""

import logging
from pathlib import Path

from workbench.config.compare import Until
from workbench.distributed import is_rank0
from workbench.errors import ConfigError
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.files import write_json
from workbench.leaderboard.compare_two.command import show_comparison
from workbench.leaderboard.early_decisions import COMPARE_JSON
from workbench.pipeline.checking.questions import answerable, check_prompts, check_questions
from workbench.pipeline.comparing.two_models import asked_models, loaded
from workbench.pipeline.comparing.until_decided import Decision, as_json, check_any_order, decide
from workbench.pipeline.run_state import Run

log = logging.getLogger("workbench")


def compare(run: Run) -> None:
    """Print a comparison of two results, or (`compare.until=decided`) ask two models and write compare.json.

    Raises:
        WorkbenchError: A model, benchmark or result can't be read.
    """
    if run.config.compare.until is Until.decided:
        compare_until_decided(run)
    elif is_rank0():
        show_comparison(run.config.compare)


def compare_until_decided(run: Run) -> None:
    """Ask two models items in random order until their difference on each benchmark is decided.

    Each benchmark is tested at `compare.alpha` divided by the number of benchmarks. Items that
    `evaluate.too_long` skips for one of the models are asked of neither. After each benchmark, compare.json
    is written into `compare.output` or the run's folder. All ranks must call this.

    Raises:
        WorkbenchError: A model or benchmark is missing, or can't be compared in this way.
    """
    config = run.config.compare
    benchmarks = chosen(run)
    asked = asked_models(run)
    for side in asked:
        if side.run is not run:
            check_prompts(benchmarks, side.run)
        benchmarks = answerable(benchmarks, side.run, side.tokenizer())
    models = loaded(*asked)
    alpha = config.alpha / len(benchmarks)
    decisions: list[Decision] = []
    path = Path(config.output or run.run_dir.path) / COMPARE_JSON
    log.info("compare: a is %s, b is %s", *(side.title for side in asked))
    for benchmark in benchmarks.values():
        decisions.append(decide(run, benchmark, asked, models, alpha))
        log.info("compare: %s: %s", benchmark.name, described(decisions[-1]))
        if is_rank0():
            write_json(path, as_json(config, asked, decisions, alpha))
    log.info("compare: %s", path)


def chosen(run: Run) -> dict[str, PreparedBenchmark]:
    """Return the benchmarks to ask by name: those of `compare.benchmarks` (empty: all of the run).

    Raises:
        ConfigError: There are none, a name is unknown, or one needs another kind of model or can't be asked
            in any order.
    """
    names, known = run.config.compare.benchmarks, run.benchmarks()
    for name in names:
        if known and name not in known:
            raise ConfigError(
                f"compare.benchmarks: {name!r} is not one of those to ask (known: {', '.join(known)}; "
                "'benchmark=[NAME,...]' chooses them)"
            )
    benchmarks = {name: benchmark for name, benchmark in known.items() if not names or name in names}
    check_any_order(benchmarks)
    check_questions(benchmarks, run)
    return benchmarks


def described(decision: Decision) -> str:
    """Return a line on a decision for the log: when the comparison stopped, and the difference until then."""
    points = f"{100 * decision.difference:+.1f} points of {decision.metric}"
    return f"{decision.stopped} (b less a {points} so far; {decision.num_asked:,} asked)"
