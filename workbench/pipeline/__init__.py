"""The story of a run: checks first, then steps that talk through files of the run's folder only."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice

from safetensors import SafetensorError

from workbench.config import Config, Step
from workbench.config.benchmark import OutputType, Scoring
from workbench.config.quantization import QuantizationMethod
from workbench.config.train import Keep
from workbench.data.holdout import hold_out
from workbench.data.inspection import check_rows
from workbench.data.rows import Row, load_rows
from workbench.data.streaming import streamed_rows
from workbench.errors import ConfigError, DeviceError, WorkbenchError
from workbench.evaluation.benchmark import check_benchmarks
from workbench.evaluation.checks import check_prompting, named
from workbench.evaluation.multiple_choice import vocabulary_entry
from workbench.evaluation.prepared import PreparedBenchmark
from workbench.file_errors import has_no_room, is_unusable, reason_for_no_room
from workbench.files import file_fingerprint, locked
from workbench.models.adapter_targets import check_base
from workbench.models.loading import check_model, load_tokenizer
from workbench.models.quantization import is_sharded
from workbench.models.sources import held_commits, hub_commits
from workbench.models.starts import FROM_WEIGHTS
from workbench.pipeline.chat import tokenizer_for
from workbench.pipeline.comparison import leaderboard
from workbench.pipeline.exporting import export
from workbench.pipeline.held_out import context_length, holds_out, read_rows
from workbench.pipeline.inputs import is_classifier, named_data, trains_whole_model
from workbench.pipeline.merging import merge
from workbench.pipeline.planning import plan
from workbench.pipeline.prediction import predict
from workbench.pipeline.questions import questions
from workbench.pipeline.resumption import resume_check
from workbench.pipeline.scoring import evaluate
from workbench.pipeline.training import check_adapter, scored_on, train
from workbench.pipeline.vocabulary import check_text, extend, tokenizer
from workbench.ranks import is_first, wait
from workbench.run_dir import RunDir, RunRecord, clear_unfinished, write_atomic
from workbench.training.arguments import check_loggers
from workbench.trust import TrustedCode, trusting

log = logging.getLogger("workbench")

STEPS: dict[Step, Callable[[Config, RunDir], None]] = {
    Step.plan: plan,
    Step.train: train,
    Step.merge: merge,
    Step.evaluate: evaluate,
    Step.predict: predict,
    Step.export: export,
    Step.resume_check: resume_check,
    Step.leaderboard: leaderboard,
    Step.tokenizer: tokenizer,
    Step.extend: extend,
}


LOOKED_AT = 1000
"""Of rows that are streamed, so many are read before the work starts, and all others on the way."""

SHARED = (Step.train, Step.evaluate)
"""Steps that several processes work on together; the others are the first one's, and the rest wait for it."""


WITHOUT_FOLDER = (Step.plan, Step.leaderboard)
"""Steps that alone leave nothing in a run's folder, so that none is made."""


def run(config: Config, run_dir: RunDir, config_yaml: str) -> None:
    """Run the recipe's steps in order, after all that can be checked cheaply has been checked.

    Of several processes (`torchrun`, `accelerate launch`) the first one writes.

    Args:
        config: Of the run.
        run_dir: Its folder; nothing is written there before the checks have passed.
        config_yaml: The configuration as text, for the folder.

    Raises:
        WorkbenchError: a user's mistake, found before the long work where that is possible.
    """
    with trusting(config.trust_code) as trusted, held_commits(recorded_commits(run_dir)):
        config = settled(config, run_dir)
        check(config, run_dir)
        if len(config.steps) == 1 and config.steps[0] in WITHOUT_FOLDER:
            with reporting_file_errors(run_dir):
                return STEPS[config.steps[0]](config, run_dir) if is_first() else None
        run_in_folder(config, run_dir, config_yaml, trusted)


def run_in_folder(config: Config, run_dir: RunDir, config_yaml: str, trusted: TrustedCode) -> None:
    """Run the steps while no other process works in the run's folder."""
    with reporting_file_errors(run_dir), alone_in(run_dir) if is_first() else nullcontext():
        record = RunRecord(run_dir.run_json)  # a damaged one is told before the long work
        if is_first() and not run_dir.config_yaml.exists():
            write_atomic(run_dir.config_yaml, config_yaml)
        check_config(record, run_dir)
        if is_first():
            write_down(trusted, run_dir)
        wait()
        for step in config.steps:
            log.info("== %s", step.name)
            if step in SHARED or is_first():
                STEPS[step](config, run_dir)
            if is_first():
                write_down(trusted, run_dir)
            wait()
        if is_first():
            log.info("done: %s", what_lies_in(run_dir))


def what_lies_in(run_dir: RunDir) -> str:
    """The run's folder and what its steps have left there."""
    folders = (run_dir.adapter, run_dir.model, run_dir.merged, run_dir.tokenizer, run_dir.extended)
    made = [f"{folder.name}/" for folder in folders if folder.is_dir()]
    if run_dir.results_json.is_file():
        made.append(run_dir.results_json.name)
    if (run_dir.path / "predictions").is_dir():
        made.append("predictions/")
    return f"{run_dir.path} has {', '.join(made)}" if made else str(run_dir.path)


def write_down(trusted: TrustedCode, run_dir: RunDir) -> None:
    """Note in run.json whose code has been run, and which commits of the Hub this run uses."""
    record, commits = RunRecord(run_dir.run_json), hub_commits()
    before = record.values.get("trusted_code", [])
    if trusted.sources:
        record.note("trusted_code", list(dict.fromkeys([*before, *trusted.sources])))
    if commits:
        record.note("commits", {**record.values.get("commits", {}), **commits})


def recorded_commits(run_dir: RunDir) -> dict[str, str]:
    """What the run's folder says of the commits of the Hub that it was begun with."""
    known = RunRecord(run_dir.run_json).values.get("commits", {}) if run_dir.run_json.exists() else {}
    return {str(name): str(commit) for name, commit in known.items()} if isinstance(known, dict) else {}


def settled(config: Config, run_dir: RunDir) -> Config:
    """The configuration with `data.validation_fraction` decided: None only where rows are held out by it."""
    trains = {Step.plan, Step.train} & set(config.steps)
    if config.data.validation_fraction is not None or (trains and holds_out(config, run_dir)):
        return config
    return replace(config, data=replace(config.data, validation_fraction=0.0))


def check(config: Config, run_dir: RunDir) -> None:
    """Find a user's mistake before the long work starts.

    Raises:
        WorkbenchError: a model, data set or benchmark that can't be read, a step that makes no sense, ...
    """
    if set(config.steps) - {Step.leaderboard, Step.tokenizer}:
        check_model(config.model, config.quantization)
    if Step.evaluate in config.steps:
        if not config.benchmarks and Step.train not in config.steps and not read_rows(run_dir):
            raise ConfigError(
                "benchmark: none chosen, and the run has no held-out rows "
                "(as in 'benchmark=[cmmlu,hellaswag]')"
            )
        benchmarks = check_benchmarks(config.benchmarks, config.evaluate)
        check_questions(benchmarks, config)
        check_prompts(benchmarks, config, run_dir)
    if {Step.tokenizer, Step.extend} & set(config.steps):
        check_text(config)
    if Step.predict in config.steps:
        questions(config, run_dir)
    if {Step.plan, Step.train, Step.resume_check} & set(config.steps):
        check_training(config)


def check_questions(benchmarks: Mapping[str, PreparedBenchmark], config: Config) -> None:
    """Find a benchmark for another kind of model, or that scores entries which the vocabulary lacks.

    Raises:
        ConfigError: names the benchmark.
    """
    for name, benchmark in benchmarks.items():
        if (benchmark.config.output_type is OutputType.classification) is not is_classifier(config):
            kind, task = benchmark.config.output_type.name, config.model.task.name
            raise ConfigError(
                f"benchmarks.{name}: {kind!r} questions are not for model.task={task} (a classification head "
                "answers benchmarks of classification, and a causal model all others)"
            )
        if benchmark.config.scoring is Scoring["next-piece"]:
            tokenizer = load_tokenizer(config.model)
            with named(name):
                for text in benchmark.examples[0].continuations:
                    vocabulary_entry(text, tokenizer, benchmark.config)


def check_prompts(benchmarks: Mapping[str, PreparedBenchmark], config: Config, run_dir: RunDir) -> None:
    """Find prompts that the model's tokenizer can't make or its context can't hold, before it is loaded.

    Raises:
        WorkbenchError: names the key, or the benchmark and the item.
    """
    evaluate = config.evaluate
    if evaluate.max_length is None and not evaluate.chat_template:
        return
    tokenizer = tokenizer_for("base", config, run_dir)
    if Step.train in config.steps and not tokenizer.chat_template:
        evaluate = replace(evaluate, chat_template=False)  # training brings one
    any_length = replace(config, evaluate=replace(evaluate, max_length=None))
    check_prompting(context_length(any_length, tokenizer), tokenizer, benchmarks, evaluate)


def check_choosing(config: Config, rows: list[Row]) -> None:
    """Refuse to choose among checkpoints by a validation loss where no row will be held out.

    Raises:
        ConfigError: `train.keep` or `train.patience` asks for it.
    """
    share = config.data.validation_fraction
    if not config.train.chooses or config.train.score_on or share:
        return
    reason = "data.validation_fraction is 0"
    if share is None:
        found = None if config.data.streaming else hold_out(rows, config.data, config.model.task, config.seed)
        if found is not None and found.held_out:
            return
        reason = found.reason if found is not None else "rows are streamed"
    key = "keep" if config.train.keep is Keep.best else "patience"
    raise ConfigError(
        f"train.{key}: nothing is validated that would tell, {reason} "
        "(data.validation_fraction=0.05, or train.score_on)"
    )


def check_training(config: Config) -> None:
    """Find a mistake in what is to be trained, on what, and how the best checkpoint is told.

    Raises:
        WorkbenchError: as `check` says.
    """
    check_questions(scored_on(config), config)
    check_loggers(config.train.report_to)
    check_adapter(config)
    if config.adapter.init in FROM_WEIGHTS and config.train.weight_decay:
        raise ConfigError(
            f"train.weight_decay: {config.train.weight_decay} would shrink what takes the start of "
            f"adapter.init={config.adapter.init.name} out again (set it 0)"
        )
    if config.adapter.init in FROM_WEIGHTS and is_sharded():
        raise ConfigError(
            f"adapter.init: {config.adapter.init.name!r} does not go with FSDP, which tears its halves apart "
            "(adapter.init=default, or DDP)"
        )
    method = config.quantization.method
    if trains_whole_model(config) and method is not QuantizationMethod.none:
        raise ConfigError(
            f"adapter.method: 'none' trains the model's own weights, which can't be in {method.value} "
            "(adapter=lora, or quantization=none)"
        )
    if not trains_whole_model(config):
        check_base(config.model)
    streaming, data = config.data.streaming, named_data(config)
    if streaming and is_classifier(config) and not (data.labels or data.labels_file or data.regression):
        raise ConfigError("data.labels: not given, and data.streaming can't look for them in all rows")
    found = islice(streamed_rows(config.data, config.seed), LOOKED_AT) if streaming else None
    rows = list(found) if found is not None else load_rows(config.data, config.seed)
    check_rows(rows, data, config.model.task)
    check_choosing(config, rows)


def check_config(record: RunRecord, run_dir: RunDir) -> None:
    """Refuse a folder whose configuration isn't the one that its steps were made with.

    Raises:
        ConfigError: it was changed or replaced; or deleted, and this command's is another one.
    """
    digest = record.values.get("config")
    if digest is not None and file_fingerprint(run_dir.config_yaml) != digest:
        raise ConfigError(
            f"{run_dir.config_yaml}: not as the run wrote it (put it back, or choose another run_dir)"
        )


@contextmanager
def reporting_file_errors(run_dir: RunDir) -> Iterator[None]:
    """Turn a full disk, or a file that can't be read or written, into one line.

    Raises:
        DeviceError: the disk is full, or a file can't be used.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if has_no_room(error):
            reason = reason_for_no_room(error)
            raise DeviceError(
                f"{run_dir.path}: can't be written, {reason} (given room, the same command goes on)"
            ) from error
        if not isinstance(error, OSError) or not is_unusable(error):
            raise
        raise DeviceError(
            f"{error.filename or run_dir.path}: can't be used, {error.strerror} "
            "(the rights, the length of the name, what lies there; or another run_dir)"
        ) from error


@contextmanager
def alone_in(run_dir: RunDir) -> Iterator[None]:
    """Hold the run's folder against a second process with the same run.

    A new folder is gone again if a user's mistake ends the run before any step has written to it.

    Raises:
        ConfigError: another process is at work there.
    """
    new = not run_dir.path.exists()
    check_own(run_dir)
    run_dir.check_links()
    make_folder(run_dir)
    with locked(run_dir.lock, wait=False) as held:
        if not held:
            raise ConfigError(
                f"run_dir: another process is at work in {str(run_dir.path)!r} (wait for it, or stop it)"
            )
        clear_unfinished(run_dir)
        try:
            yield
        except WorkbenchError:
            if new and set(run_dir.path.iterdir()) <= {run_dir.config_yaml, run_dir.lock}:
                shutil.rmtree(run_dir.path)
            raise


def check_own(run_dir: RunDir) -> None:
    """Refuse a folder with files of somebody else's, some of which a step might replace.

    Raises:
        ConfigError: there are such files, and no config.yaml of a run.
    """
    if run_dir.config_yaml.exists() or not run_dir.path.is_dir():
        return
    foreign = sorted(file.name for file in run_dir.path.iterdir() if not file.name.startswith("."))
    if foreign:
        raise ConfigError(
            f"run_dir: {str(run_dir.path)!r} holds {foreign[0]!r} and no config.yaml, so it is not a run's "
            "folder (name a new or empty one)"
        )


def make_folder(run_dir: RunDir) -> None:
    """Make the run's folder.

    Raises:
        ConfigError: it can't be made there.
    """
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if has_no_room(error):
            raise
        raise ConfigError(f"run_dir: {str(run_dir.path)!r} can't be made ({error.strerror})") from error
