"""Runs a recipe: checks, then steps that exchange data through files of the run's folder only."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module

from workbench.config import Config, Step
from workbench.config.compare import Until
from workbench.distributed import barrier, broadcast_from_rank0, is_rank0
from workbench.models.checkpoints.hub import held_commits, hub_commits, locate_description
from workbench.pipeline.checking.checks import check
from workbench.pipeline.ending.summary import print_summary
from workbench.pipeline.run_folder import check_config, locked_folder, reporting_file_errors
from workbench.pipeline.run_state import Run
from workbench.reading_once import reading_once
from workbench.run_dir import RunDir, write_atomic
from workbench.run_record import RunRecord
from workbench.trust import TrustedCode, trusting

log = logging.getLogger("workbench")

STEPS = {
    Step.plan: "plan.plan",
    Step.train: "train",
    Step.merge: "merge",
    Step.evaluate: "evaluate",
    Step.predict: "predict.predict",
    Step.chat: "chat.terminal",
    Step.serve: "serve",
    Step.export: "export",
    Step.resume_check: "resume_check",
    Step.leaderboard: "leaderboard",
    Step.compare: "comparing.step",
    Step.tokenizer: "vocabulary",
    Step.extend: "vocabulary",
    Step.audit: "audit.audit",
    Step.verify_endpoint: "verifying.step",
    Step.diagnose: "inspection.diagnose",
    Step.extract: "inspection.extract",
    Step.adapter_info: "inspection.adapter_info",
    Step.push: "publishing.push",
    Step.quantization_report: "quantization_report.step",
}
"""Step -> module of this package with a function of the step's name, which is imported when the step runs:
the libraries of all steps together take seconds."""

SHARED = (Step.train, Step.evaluate, Step.compare)
"""Steps that all ranks run together; the others run on rank 0 while the other ranks wait."""


WITHOUT_FOLDER = (
    Step.plan,
    Step.leaderboard,
    Step.compare,
    Step.chat,
    Step.serve,
    Step.audit,
    Step.verify_endpoint,
    Step.diagnose,
    Step.adapter_info,
    Step.push,
)
"""Steps that write nothing into a run's folder, or only read another run's; alone they don't create one."""


def leaves_nothing(config: Config) -> bool:
    """Return whether the first step writes nothing into the run's folder: it is one of WITHOUT_FOLDER.

    A comparison with `compare.until=decided` is not: it asks the models and writes their answers there.
    """
    asks_models = config.steps[0] is Step.compare and config.compare.until is Until.decided
    return config.steps[0] in WITHOUT_FOLDER and not asks_models


def run(config: Config, run_dir: RunDir, config_yaml: str) -> None:
    """Run the recipe's steps in order, after checking what can be checked quickly.

    Of several processes (`torchrun`, `accelerate launch`), all of which must call this, only rank 0 writes.

    Args:
        config: The configuration.
        run_dir: The run's folder; nothing is written there before the checks have passed.
        config_yaml: The configuration as text, for config.yaml.

    Raises:
        WorkbenchError: The user has made a mistake; most mistakes are found by the checks.
    """
    with trusting(config.trust_code) as trusted, held_commits(recorded_commits(run_dir)), reading_once():
        state = Run(with_validation_fraction(config, run_dir), run_dir)
        check(state)
        if len(config.steps) == 1 and leaves_nothing(config):
            with reporting_file_errors(run_dir):
                if is_rank0():
                    step_function(config.steps[0])(state)
                return barrier()  # a rank that ends early, with a failed model, would end the others
        run_in_folder(state, config_yaml, trusted)


def step_function(step: Step) -> Callable[[Run], None]:
    """Import the module of a step, and return the function that runs the step."""
    function: Callable[[Run], None] = getattr(import_module(f"{__package__}.{STEPS[step]}"), step.name)
    return function


def run_in_folder(run: Run, config_yaml: str, trusted: TrustedCode) -> None:
    """Run the steps in order while the run's folder is locked, and print the summary.

    config.yaml is written if the folder has none; run.json gets the sources of code and models.

    Args:
        run: The run, after its checks.
        config_yaml: The configuration as text, for config.yaml.
        trusted: Code of models that this command has run so far; steps may add to it.

    Raises:
        WorkbenchError: The folder is locked or can't be written, config.yaml or run.json was changed, or a
            step failed.
    """
    run_dir = run.run_dir
    only_reads = run.config.steps == [Step.export] and run.config.export.path is not None
    lock = locked_folder(run_dir, only_reads=only_reads)
    with reporting_file_errors(run_dir), ExitStack() as stack:
        broadcast_from_rank0(lambda: stack.enter_context(lock))
        record = RunRecord(run_dir.run_json)  # raises if run.json is damaged
        if is_rank0() and not run_dir.config_yaml.exists():
            write_atomic(run_dir.config_yaml, config_yaml)
        check_config(record, run_dir)
        if is_rank0():
            record_sources(trusted, run_dir)
        barrier()
        functions = [step_function(step) for step in run.config.steps]  # a broken package shows at once
        for step, function in zip(run.config.steps, functions, strict=True):
            log.info("== %s", step.name)
            if step in SHARED or is_rank0():
                function(run)
            if is_rank0():
                record_sources(trusted, run_dir)
            barrier()
        if is_rank0():
            print_summary(run.config, run_dir)


def record_sources(trusted: TrustedCode, run_dir: RunDir) -> None:
    """Add to run.json which code of models was run, and which commits of Hub repositories were used."""
    record, commits = RunRecord(run_dir.run_json), hub_commits()
    recorded = record.values.get("trusted_code", [])
    if trusted.sources:
        record.note("trusted_code", list(dict.fromkeys([*recorded, *trusted.sources])))
    if commits:
        record.note("commits", {**record.values.get("commits", {}), **commits})


def recorded_commits(run_dir: RunDir) -> dict[str, str]:
    """Return name -> commit of the Hub repositories in run.json; empty if it is missing or has none."""
    commits = RunRecord(run_dir.run_json).values.get("commits", {}) if run_dir.run_json.exists() else {}
    return {str(name): str(commit) for name, commit in commits.items()} if isinstance(commits, dict) else {}


def with_validation_fraction(config: Config, run_dir: RunDir) -> Config:
    """Return the configuration with two values replaced.

    A null `data.validation_fraction` becomes 0, unless rows are held out by default: in a plan or training
    without benchmarks, or if an earlier training of the run held out rows. If the run only plans, or asks a
    model behind an endpoint, a hub id in `model.path` becomes a local folder, which is downloaded without
    weights.

    Raises:
        CheckpointError: There is nothing at `model.path`, or the download failed.
    """
    asks_endpoint = config.model.endpoint is not None and Step.verify_endpoint not in config.steps
    reads_no_weights = config.steps == [Step.plan] or asks_endpoint
    if reads_no_weights and config.model.path and not config.model.init:
        path = str(locate_description(config.model.path, config.model.revision))
        config = replace(config, model=replace(config.model, path=path))
    trains = {Step.plan, Step.train} & set(config.steps)
    holds_out = trains and (not config.benchmarks or run_dir.held_out_jsonl.is_file())
    if config.data.validation_fraction is not None or holds_out:
        return config
    return replace(config, data=replace(config.data, validation_fraction=0.0))
