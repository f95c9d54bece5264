"""Chooses and checks the number formats that a quantization report compares, before it loads a model."""

import logging
from dataclasses import replace

from workbench.config import QuantizationConfig, Step
from workbench.config.inspection.quantization_report import NumberFormat
from workbench.config.model import Task
from workbench.config.quantization import QuantizationMethod
from workbench.distributed import rank_and_world_size
from workbench.errors import CheckpointError, ConfigError
from workbench.evaluation.item_interviewer import ItemInterviewer
from workbench.models.architecture import quantized_already
from workbench.models.device import torch_device
from workbench.models.export import check_gguf
from workbench.models.quantization import check_device
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder

log = logging.getLogger("workbench")

BITSANDBYTES = (NumberFormat.int8, NumberFormat.nf4, NumberFormat.fp4)
GGUF = tuple(
    number_format for number_format in NumberFormat if number_format not in (NumberFormat.none, *BITSANDBYTES)
)


def check_report(run: Run) -> None:
    """Check that the quantization report can be made, before a model is loaded.

    Raises:
        WorkbenchError: The run has several processes, a classifier, no benchmark or one of
            lm-evaluation-harness; its checkpoint is stored quantized; `quantization` is set, but no adapter,
            trained or merged model is there; or a number format isn't possible.
    """
    config = run.config
    if rank_and_world_size()[1] > 1:
        raise ConfigError("quantization_report: runs in one process (no torchrun or accelerate)")
    if config.model.task is not Task.causal_lm:
        raise ConfigError("model.task: a quantization report is for causal language models")
    makes_model = bool({Step.train, Step.merge} & set(config.steps)) or has_run_model(run)
    if not makes_model and config.quantization.method is not QuantizationMethod.none:
        raise ConfigError(
            f"quantization.method: {config.quantization.method.value!r}, but the report starts from the "
            "unquantized model (quantization=none; quantization_report.formats chooses what is compared)"
        )
    _check_benchmarks(run)
    if quantized_already(config.model):
        raise ConfigError(
            f"model.path: {config.model.path!r} is quantized already (the report needs the unquantized model)"
        )
    if not config.quantization_report.formats and (reason := why_no_gguf(run)):
        log.info("quantization-report: without GGUF: %s", reason)
    for number_format in ways(run):
        if number_format in BITSANDBYTES:
            check_device(in_bits(config.quantization, number_format), torch_device(config.model.device))


def has_run_model(run: Run) -> bool:
    """Return whether the run has an adapter (its own or `adapter.path`), a merged or a trained model.

    Raises:
        CheckpointError: The run's own adapter was changed since the step that made it.
    """
    run_dir = run.run_dir
    return adapter_folder(run) is not None or run_dir.merged.is_dir() or run_dir.model.is_dir()


def _check_benchmarks(run: Run) -> None:
    """Check that there are benchmarks, whose items are texts that this project renders.

    Raises:
        ConfigError: There are none, or a task of lm-evaluation-harness.
    """
    benchmarks = run.benchmarks()
    if not benchmarks:
        raise ConfigError("benchmark: none chosen (as in 'benchmark=[cmmlu,hellaswag]')")
    for name, benchmark in benchmarks.items():
        if not isinstance(benchmark.interviewer, ItemInterviewer):
            raise ConfigError(
                f"benchmarks.{name}: a task of lm-evaluation-harness, of which the report has no probe texts "
                "(this project's benchmark of that name)"
            )


def ways(run: Run) -> list[NumberFormat]:
    """Return the number formats to compare, `none` (unquantized) first: the configured, or all possible.

    Raises:
        WorkbenchError: A format in `quantization_report.formats` isn't possible.
    """
    chosen = run.config.quantization_report.formats
    if not chosen:
        without = set(GGUF) if why_no_gguf(run) else set()
        return [number_format for number_format in NumberFormat if number_format not in without]
    if set(chosen) & set(GGUF):
        check_gguf(run.config.model)
    return [
        NumberFormat.none,
        *(number_format for number_format in chosen if number_format is not NumberFormat.none),
    ]


def why_no_gguf(run: Run) -> str:
    """Return why the model can't be written as a GGUF file; empty if it can."""
    try:
        check_gguf(run.config.model)
    except (ConfigError, CheckpointError) as error:
        return str(error)
    return ""


def in_bits(quantization: QuantizationConfig, number_format: NumberFormat) -> QuantizationConfig:
    """Return a copy of the quantization section with the method of a format: none, int8, nf4 or fp4."""
    return replace(quantization, method=QuantizationMethod[number_format.name])
