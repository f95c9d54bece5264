"""Runs the command line: composes recipes and overrides into a typed Config for the pipeline.

The only package that imports Hydra and OmegaConf. A user's mistake is printed as one line, exit status 1.
"""

import io
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from workbench import __version__
from workbench.cli.arguments import given_twice, prepare
from workbench.cli.board_models import Scoring, score_models
from workbench.cli.composition import register, typed
from workbench.cli.hydra_node import check_hydra_node
from workbench.cli.leftovers import leave_no_compiler_cache
from workbench.cli.messages import COLUMNS, CleanFormatter, one_line
from workbench.cli.quoting import quoted
from workbench.cli.reference import keys_text
from workbench.cli.shadows import shadows
from workbench.cli.user_errors import users_error
from workbench.cli.yaml_files.recipes import recipe_list
from workbench.cli.yaml_files.sources import Sources, sources_of
from workbench.config import Step
from workbench.config.compare import Until
from workbench.errors import ConfigError, WorkbenchError
from workbench.machine import check_address_space
from workbench.made_by import remember_command
from workbench.shipped import PACKAGE, shipped
from workbench.shown import clean
from workbench.wrapping import wrapped

__all__ = ["PACKAGE", "TRACEBACK", "main", "register", "shipped", "typed"]

RANK = int(os.environ.get("RANK", "0"))
"""Rank of this process under torchrun or accelerate; only rank 0 prints."""

LAST_WORD_SECONDS = 20
"""Seconds that other ranks wait after an error: rank 0 prints it before torchrun stops all ranks."""

SPINS = "3000"
"""Times that a thread of PyTorch looks for work before it sleeps (GOMP_SPINCOUNT; OpenMP's own is 300,000).

Threads that look for work slow down other processes, and are then slowed down themselves. With fewer times an
idle machine becomes slower: see tests/performance/waiting.py.
"""

SHOWS = {"--cfg", "--info", "--help", "--hydra-help"}
"""Flags that make Hydra print a configuration or a help page instead of running a job."""

TRACEBACK = "WORKBENCH_TRACEBACK"
"""Environment variable for the user's value of HYDRA_FULL_ERROR, which this program overwrites.

Processes that a run starts inherit both: where this one is set, it counts.
"""


def main() -> None:
    """Run the command line of `python -m workbench` or `workbench`, from `sys.argv`.

    A user's error is printed as one line and exits with status 1; any other exception is raised.
    """
    os.environ.setdefault(TRACEBACK, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors
    try:
        if (ignored := shadows(current_folder())) and not RANK:
            print(
                f"note: {clean(', '.join(ignored))}: has the name of a package, and is ignored",
                file=sys.stderr,
            )
        register()
        if (answer := answered_at_once(sys.argv[1:])) is not None:
            return show(answer)
        remember_command(sys.argv)
        flags, overrides = prepare(sys.argv[1:])
        for line in given_twice(overrides) if not RANK else ():
            print(f"note: {clean(line)}", file=sys.stderr)
        sources = sources_of(flags, overrides)
        check_hydra_node(sources, overrides)
        shown = SHOWS & {flag.partition("=")[0] for flag in flags}
        shows = shown_clean(is_wrapped="--help" in shown) if shown else nullcontext()
        with TemporaryDirectory(prefix="workbench-sweep-") as spare, shows:
            sys.argv[1:] = [*flags, *overrides, *without_folders(flags, overrides, sources, spare)]
            hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name="config")(job)()
    except HydraException as error:
        end(error)
    except KeyboardInterrupt:
        sys.exit("stopped: the same command continues where this one was")
    except BaseException as error:
        if (reason := users_error(error)) is None:
            raise
        end(reason)


def current_folder() -> Path:
    """Return the current folder.

    Raises:
        ConfigError: The folder was deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError("the current folder was deleted (cd into another one)") from error


def show(answer: str) -> None:
    """Print a text without an error if its reader, such as head or less, closes the pipe early."""
    try:
        print(answer, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def answered_at_once(words: Sequence[str]) -> str | None:
    """Return the text to print for no arguments, --version or --keys; None for any other command line.

    Args:
        words: The command line without the program.

    Raises:
        ConfigError: --keys names no key.
    """
    flag, _, value = words[0].partition("=") if words else ("", "", "")
    if flag == "--keys":
        return keys_text([*([value] if value else []), *words[1:]])
    if words == ["--version"]:
        return f"workbench {__version__}"
    return None if words else recipe_list()


@contextmanager
def shown_clean(*, is_wrapped: bool) -> Iterator[None]:
    """Withhold what the block prints to stdout until it ends; then print it, with secrets masked.

    Control characters are replaced.

    Args:
        is_wrapped: Whether long lines are wrapped to 80 columns; a configuration must not be.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        text = clean(printed.getvalue())
        if is_wrapped:
            text = (
                "\n".join(part for line in text.strip().split("\n") for part in wrapped(line, COLUMNS)) + "\n"
            )
        print(text, end="")


def without_folders(
    flags: Sequence[str], overrides: Sequence[str], sources: Sources, spare: str
) -> list[str]:
    """Return further overrides (`hydra.run.dir`, `hydra.sweep.dir`) that keep Hydra from creating folders.

    The pipeline creates the run folders. A sweep's `multirun.yaml` goes into a temporary folder; Hydra's own
    folder stays where a plugin launches the runs or chooses their values. A folder that the user sets stays.
    Empty for --shell-completion.

    Args:
        flags: Flags of Hydra, each as one word.
        overrides: The other words of the command line.
        sources: Where Hydra finds YAML files.
        spare: The temporary folder.
    """
    if "--shell-completion" in flags:
        return []
    typed = {word.lstrip("+").partition("=")[0] for word in overrides}
    yamls = (file.read_text("utf-8", errors="replace") for file in sources.files())
    has_plugin = typed & {"hydra/launcher", "hydra/sweeper"} or any(
        name in text for text in yamls for name in ("launcher", "sweeper")
    )
    shows = SHOWS & {flag.partition("=")[0] for flag in flags}
    folders = {"hydra.run.dir": "."} | ({} if has_plugin or shows else {"hydra.sweep.dir": quoted(spare)})
    return [f"{key}={folder}" for key, folder in folders.items() if key not in typed]


def job(composed: DictConfig) -> float | None:
    """Run a single run, or one run of a sweep, for which the value that its sweeper optimizes is returned.

    None: a single run, or a comparison of stored results. A single run that fails by a user's error ends the
    process with that error's line.

    Args:
        composed: The configuration as Hydra composed it.

    Raises:
        WorkbenchError: A run of a sweep failed by a user's error; its line is printed before.
    """
    try:
        set_up_process()
        config, run_dir, text = typed(composed)
        if config.steps == [Step.chat]:
            keep_output_clear()
        if config.steps == [Step.compare] and config.compare.until is Until.all:
            from workbench.leaderboard.compare_two.command import show_comparison  # scipy takes a second

            if not RANK:
                show_comparison(config.compare)  # needs no torch
            return None
        check_address_space()
        from workbench.distributed import agreed_failure
        from workbench.pipeline.ending.objective import objective
        from workbench.pipeline.run import run  # torch and transformers cost seconds: only once a run starts
        from workbench.pipeline.run_folder import record_failure
        from workbench.pipeline.shared_base import sharing_base

        failed = []
        if config.leaderboard.models is not None and Step.leaderboard in config.steps:
            with sharing_base():
                failed = score_models(composed, Scoring(run, record_failure, agreed_failure))
        run(config, run_dir, text)
        if failed:
            raise WorkbenchError(
                f"{len(failed)} of the models could not be scored: {', '.join(failed)} (see above)"
            )
        return objective(config, run_dir) if HydraConfig.get().mode is RunMode.MULTIRUN else None
    except BaseException as error:
        if (reason := users_error(error)) is None:
            raise
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            end(reason)
        overrides = " ".join(HydraConfig.get().overrides.task)
        print(f"error: {clean(overrides)}: {one_line(reason)}", file=sys.stderr)
        raise WorkbenchError("at least one run of the sweep failed (its line stands above)") from error


def keep_output_clear() -> None:
    """Redirect log lines to standard error, so that a chat's standard output is only the conversation."""
    for handler in logging.getLogger("workbench").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def end(error: Exception) -> NoReturn:
    """Print a user's error as one line and exit with status 1; with HYDRA_FULL_ERROR=1, raise the error.

    Ranks other than 0 first wait `LAST_WORD_SECONDS`.
    """
    if RANK:
        time.sleep(LAST_WORD_SECONDS)
    if os.environ[TRACEBACK] != "0":
        raise error
    sys.exit(f"error: {one_line(error)}")


def set_up_process() -> None:
    """Log to standard output on rank 0; turn off other packages' telemetry, messages and kernel downloads.

    PyTorch's threads sleep sooner while they wait for work (`SPINS`), unless the user has set how they wait.
    """
    leave_no_compiler_cache()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    if "kernels" not in sys.modules:
        sys.modules["kernels"] = None  # type: ignore[assignment]  # else bitsandbytes downloads a kernel and runs it
    log = logging.getLogger("workbench")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(CleanFormatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.CRITICAL if RANK else logging.INFO)
        log.propagate = False
