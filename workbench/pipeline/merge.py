"""The merge step."""

import logging
from itertools import islice
from typing import Any

from workbench.config import Config
from workbench.config.history import hashed
from workbench.data.inference_prompts import prompts
from workbench.data.streaming import streamed_rows
from workbench.errors import MissingStepError
from workbench.models import merging
from workbench.models.adapters import adapter_config
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, content, skipped, trains_whole_model
from workbench.pipeline.tokenizers import training_tokenizer
from workbench.run_dir import fingerprint
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and 37 is larger than 12.",
    "人工智能正在改变我们的生活和工作方式。",
    "Question: What is the capital of France?\nAnswer: Paris",
    "问题：中国的首都是哪里？\n答案：北京",
]
"""What a merge is proven on where there are no training rows."""


def merge(run: Run) -> None:
    """Make one plain model of base and adapter, and prove it.

    Raises:
        MissingStepError: there is no adapter yet.
    """
    config, run_dir = run.config, run.run_dir
    if trains_whole_model(config):
        log.info("merge: nothing to do, with adapter=none the model itself is trained")
        return
    adapter = adapter_folder(run)
    if adapter is None:
        raise MissingStepError(
            f"merge: no adapter in {str(run_dir.path)!r} (run the train step before, or set adapter.path)"
        )
    inputs = fingerprint(merged_from(config, adapter_config.fingerprint(adapter)))
    record = RunRecord(run_dir.run_json)
    if skipped("merge", record.is_finished("merge", inputs, run_dir.merged), config):
        return
    report = merging.merge(
        config.model, adapter, config.merge, config.quantization, run_dir.merged, probe_texts(run)
    )
    final = report.merged
    log.info(
        "merge: logits differ from the adapter model's by at most %.2g (allowed: %.2g), on average by %.2g "
        "(allowed: %.2g), %d of %d next tokens are others (allowed: %d); %s",
        final.largest,
        final.bound,
        final.mean,
        final.mean_bound,
        final.argmax_flips,
        final.num_positions,
        final.flips_bound,
        run_dir.merged,
    )
    record.finish("merge", inputs, run_dir.merged, {}, files=[run_dir.merge_report])


def merged_from(config: Config, adapter: str) -> list[Any]:
    """What decides the merged weights and their proof; `adapter` is the adapter's fingerprint."""
    base = {
        **hashed(config.model, "model"),
        "path": content(config.model.path),
        "tokenizer": content(config.model.tokenizer),
    }
    quantization, rounding = hashed(config.quantization, "quantization"), hashed(config.merge, "merge")
    return [base, quantization, adapter, rounding]


def probe_texts(run: Run) -> list[str]:
    """Texts to compare two models on: prompts of training rows, else a few sentences in both languages."""
    config = run.config
    if not config.data.paths():
        return SENTENCES
    found = streamed_rows(config.data, config.seed) if config.data.streaming else run.rows
    rows = list(islice(found, config.merge.probe_size))
    return [prompt.text for prompt in prompts(rows, training_tokenizer(run), config.data, config.model.task)]
