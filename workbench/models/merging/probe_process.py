"""Computes the logits of a merge's proof in a process of its own, which holds one layer.

python -m workbench.models.merging.probe_process JOB.json FOLDER LOGITS_FOLDER
"""

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import WorkbenchError
from workbench.models.dtypes import dtype_name, dtype_named
from workbench.models.merging.adapter_updates import NotStreamable
from workbench.models.merging.job import Logits, Made, MergeJob
from workbench.models.merging.layered_probe import probe
from workbench.models.merging.logit_files import in_files, kept_in
from workbench.plain_values import section
from workbench.run_dir import write_json
from workbench.weights.merge_plan import MergePlan, plan_of
from workbench.weights.merge_tensors import end_with_parent

RESULT = "result.json"
"""File in the folder of the logits that says how the process ended."""


def as_json(job: MergeJob, plan: MergePlan) -> dict[str, Any]:
    """Return a merge as values of JSON."""
    return {
        "model": _plain(asdict(job.model)),
        "quantization": _plain(asdict(job.quantization)),
        "adapter_path": str(job.adapter_path),
        "base_dtype": dtype_name(job.base_dtype),
        "dtype": dtype_name(job.dtype),
        "batches": [{name: rows.tolist() for name, rows in batch.items()} for batch in job.batches],
        "plan": plan.as_json(),
    }


def job_of(values: Mapping[str, Any]) -> tuple[MergeJob, MergePlan]:
    """Return the merge that `as_json` has described."""
    job = MergeJob(
        model=section(ModelConfig, values["model"], "model"),
        adapter_path=values["adapter_path"],
        quantization=section(QuantizationConfig, values["quantization"], "quantization"),
        base_dtype=dtype_named(values["base_dtype"]),
        dtype=dtype_named(values["dtype"]),
        batches=[{name: torch.tensor(rows) for name, rows in batch.items()} for batch in values["batches"]],
    )
    return job, plan_of(values["plan"])


def made_in(folder: Path, job: MergeJob) -> Made:
    """Return the logits that the process has written."""
    dtypes = dict.fromkeys([torch.float32, job.dtype, job.adapter_dtype])
    rounded: dict[torch.dtype, Logits] = {
        dtype: kept_in(folder, f"rounded-{dtype_name(dtype)}") for dtype in dtypes
    }
    return Made(
        adapter=kept_in(folder, "adapter"),
        unmerged=kept_in(folder, "unmerged"),
        base=kept_in(folder, "base"),
        total=rounded[torch.float32],
        rounded=rounded,
        reloaded=kept_in(folder, "reloaded"),
        merged=kept_in(folder, "merged"),
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}


def main(job_file: str, folder: str, logits_folder: str) -> None:
    """Compute the logits, print a line for each model, and write how it ended.

    When the process that started this one ends, standard input does, and this process ends too.
    """
    threading.Thread(target=end_with_parent, args=(Path(folder),), daemon=True).start()
    job, plan = job_of(json.loads(Path(job_file).read_text(encoding="utf-8")))
    result: dict[str, str] = {}
    scratch = Path(logits_folder)

    def write(name: str, rows: Any) -> Any:
        print(name, flush=True)
        return in_files(scratch, name, rows)

    try:
        probe(job, plan, Path(folder), write)
    except (WorkbenchError, NotStreamable) as error:
        result = {"error": type(error).__name__, "message": str(error)}
    write_json(scratch / RESULT, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
