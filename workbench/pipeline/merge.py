"""The merge step: makes one model of a base and its adapter, of several adapters, or of several models."""

import logging
from dataclasses import asdict
from itertools import islice
from typing import Any

from workbench.config import Config
from workbench.config.adapter import AdapterBase
from workbench.config.history import hashed
from workbench.config.merge import COMBINED_BY, SEARCHED_BY, MergeResult
from workbench.config.model import Task
from workbench.errors import MissingStepError
from workbench.models.adapters import adapter_config
from workbench.models.merging.merge import PROBE_TEXTS, SENTENCES, MergeReport
from workbench.models.merging.merge import merge as merge_and_prove
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, base_content, content, skip_finished
from workbench.pipeline.tokenizers import training_tokenizer
from workbench.run_dir import fingerprint, write_json
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

BASE_DIGEST = "base"
"""Key of the step's record: the base's checksum, as `base_content` returns it."""


def merge(run: Run) -> None:
    """Merge the adapter into the base model, and compare the logits of the result with theirs.

    Writes the merged model and its report into the run's folder; a finished merge is not repeated. If there
    are `merge.models`, these are merged instead. `merge.adapters` are combined to one adapter first. With
    `adapter=none` nothing is done.

    Raises:
        MissingStepError: There is no adapter.
        CheckpointError: The adapter was changed since it was trained, or doesn't fit the base.
        ConfigError, DataError: As in `models.merging.merge.merge`.
    """
    config, run_dir = run.config, run.run_dir
    if config.merge.models:
        from workbench.pipeline.combining.models import merge_models  # searches have statistics: a second

        merge_models(run)
        return
    if config.merge.adapters:
        from workbench.pipeline.combining.adapters import combine

        combine(run)
        if config.merge.result is MergeResult.adapter:
            return
    elif config.adapter.is_none:
        log.info("merge: skipped, adapter=none trains the model itself")
        return
    adapter = adapter_folder(run)
    if adapter is None:
        raise MissingStepError(
            f"merge: no adapter in {str(run_dir.path)!r} (run the train step before, or set adapter.path)"
        )
    digest = adapter_config.fingerprint(adapter)
    base = base_content(config)
    inputs = fingerprint(merge_inputs(config, digest, base))
    record = RunRecord(run_dir.run_json)
    if skip_finished("merge", is_finished(run, record, inputs, digest), config):
        return
    report = merge_and_prove(
        config.model,
        adapter,
        config.merge,
        config.quantization,
        run_dir.merged,
        probe_texts(run),
        accepts_base=config.adapter.base is AdapterBase.accept,
    )
    write_json(run_dir.merge_report, asdict(report))
    log_proof(run, report)
    digests = {BASE_DIGEST: base} if base else {}
    record.finish("merge", inputs, run_dir.merged, {}, files=[run_dir.merge_report], digests=digests)


def log_proof(run: Run, report: MergeReport) -> None:
    """Log the comparisons of logits: of the float32 sum, the folder read back, and the rounded model.

    The last line is the summary of the report, with the merged model's folder.
    """
    is_classifier = run.config.model.task is Task.sequence_classification
    positions = "classes" if is_classifier else "next tokens"
    if (total := report.float32_sum) and (disk := report.disk):
        log.info(
            "merge: in float32, logits of the merged weights differ from those of base + adapter by at most "
            "%.2g (allowed: %.2g), and %d of %d %s differ (allowed: %d); the folder was read back, and its "
            "logits differ from those saved by at most %.2g",
            *(total.largest, total.bound, total.argmax_flips, total.num_positions, positions),
            *(total.flips_bound, disk.largest),
        )
    if rounded := report.merged:
        log.info(
            "merge: saved in %s, logits differ from the %s's by at most %.2g (rounding explains %.2g), on "
            "average by %.2g (rounding explains %.2g), and %d of %d %s differ (rounding explains %d)",
            *(report.dtype, report.reference, rounded.largest, rounded.bound, rounded.mean),
            *(rounded.mean_bound, rounded.argmax_flips, rounded.num_positions, positions),
            rounded.flips_bound,
        )
    log.info("merge: %s; %s", report.summary, run.run_dir.merged)


def is_finished(run: Run, record: RunRecord, inputs: str, adapter: str) -> bool:
    """Return whether the merge step is recorded as finished with these inputs, and its output is unchanged.

    Records of earlier versions, without BASE_DIGEST, count too: their inputs have another checksum of the
    base, that of its files.

    Args:
        run: The run.
        record: Its run.json.
        inputs: Fingerprint of `merge_inputs` now.
        adapter: Fingerprint of the adapter.
    """
    if record.is_finished("merge", inputs, run.run_dir.merged):
        return True
    step = record.values["steps"].get("merge")
    if step is None or BASE_DIGEST in step:
        return False
    earlier = fingerprint(merge_inputs(run.config, adapter, content(run.config.model.path)))
    return record.is_finished("merge", earlier, run.run_dir.merged)


def merge_inputs(config: Config, adapter: str, base_content: str | None) -> list[Any]:
    """Return the settings that merged weights and their proof depend on.

    Args:
        config: The configuration.
        adapter: Fingerprint of the adapter.
        base_content: Checksum of the base, or its Hub id; None: there is no base.
    """
    base = {
        **hashed(config.model, "model"),
        "path": base_content,
        "tokenizer": content(config.model.tokenizer),
    }
    merge = {
        key: value
        for key, value in hashed(config.merge, "merge").items()
        if key not in (*COMBINED_BY, *SEARCHED_BY)
    }
    sections = [base, hashed(config.quantization, "quantization"), adapter, merge]
    return [*sections, *([config.adapter.base.value] if config.adapter.base is AdapterBase.accept else [])]


def probe_texts(run: Run) -> list[str]:
    """Return texts to compare logits on: prompts of the first PROBE_TEXTS rows; without data, SENTENCES.

    Raises:
        DataError, ConfigError: A row can't be read.
    """
    config = run.config
    if not config.data.paths():
        return SENTENCES
    from workbench.data.inference_prompts import prompts  # the libraries of rows take a second
    from workbench.data.streaming import streamed_rows

    rows = streamed_rows(config.data, config.seed) if config.data.streaming else run.rows
    probe_rows = list(islice(rows, PROBE_TEXTS))
    tokenizer = training_tokenizer(run)
    return [prompt.text for prompt in prompts(probe_rows, tokenizer, config.data, config.model.task)]
