"""The models of a run that can be asked: what each is made from, and each in turn, loaded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed

from workbench.config import QuantizationConfig
from workbench.config.history import hashed
from workbench.config.model import Dtype, ModelConfig
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained, content, is_classifier
from workbench.pipeline.tokenizers import borrowed_template
from workbench.run_dir import RunDir, file_fingerprint, fingerprint, read_json
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

Identity = dict[str, Any]
"""What decides the numbers of a model."""


def model_identities(run: Run) -> dict[str, Identity]:
    """Name -> what decides the numbers of each model that this run has.

    Raises:
        CheckpointError: an adapter or model is not as the train step left it.
    """
    config, run_dir = run.config, run.run_dir
    base: Identity = {
        "weights": content(config.model.path),
        **({"revision": config.model.revision} if config.model.revision else {}),
        **({"tokenizer": content(config.model.tokenizer)} if config.model.tokenizer else {}),
        "quantization": config.quantization.method.value,
        "held": [
            hashed(config.quantization, "quantization"),
            config.model.dtype.value,
            config.seed if is_classifier(config) else 0,
        ],
        **({} if config.model.fused else {"fused": False}),
        "adapter": None,
    }
    borrowed = borrowed_template(run)
    asked = {**base, "chat_template": fingerprint(borrowed)} if borrowed else base
    found: dict[str, Identity] = {} if config.model.init else {BASE: asked}
    adapter = adapter_folder(run)
    if adapter is not None:
        adapter_config.read_config(adapter)
        found[ADAPTER] = {**base, "adapter": adapter_config.fingerprint(adapter)}
    if merged := fingerprint_of_merge(adapter, run_dir):
        found[MERGED] = {**base, "weights": merged, "quantization": "none", "held": None}
    elif adapter is not None and run_dir.merged.is_dir():
        log.warning(
            "evaluate: the merged model is of an older adapter, or it or its report is not as the merge step "
            "left them, and is left out (the merge step makes them again)"
        )
    if run_dir.model.is_dir():
        found[TRAINED] = {**base, "weights": check_trained(run_dir, run_dir.model)}
    return found


def fingerprint_of_merge(adapter: Path | None, run_dir: RunDir) -> str | None:
    """The fingerprint of the run's merged model; None: there is none, or it isn't that of this adapter.

    That holds where its report is missing or damaged, too: without a proof the merged model isn't used.
    """
    if adapter is None or not run_dir.merged.is_dir() or not run_dir.merge_report.is_file():
        return None
    if RunRecord(run_dir.run_json).problem("merge", run_dir.merged):
        return None
    try:
        report = read_json(run_dir.merge_report)
    except ValueError:
        return None
    proven = report.get("fingerprints") if isinstance(report, dict) else None
    found = file_fingerprint(run_dir.merged)
    expected = {"adapter": adapter_config.fingerprint(adapter), "merged": found}
    same = isinstance(proven, dict) and {key: proven.get(key) for key in expected} == expected
    return found if same else None


def loaded_models(run: Run, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
    """Each named model in turn; base and adapter share one load, the adapter switched off and on.

    Where switching it off doesn't give the base back, the base comes before the adapter is put on it.
    """
    config, run_dir = run.config, run.run_dir
    adapter = adapter_folder(run)
    if BASE in names or ADAPTER in names:
        set_seed(config.seed)  # an untrained head is the same each time
        labels = adapter_config.num_labels(adapter) if adapter else None
        base = load_model(config.model, config.quantization, labels)
        first = ADAPTER not in names or adapter is None or adapter_config.changes_base(adapter)
        if first and BASE in names:
            yield BASE, base
        if ADAPTER in names and adapter is not None:
            both = attach.load(base, adapter)
            if not first and BASE in names:
                with both.disable_adapter():
                    yield BASE, attach.base_model(both)
            end_at(base, adapter_config.end_tokens(adapter))
            yield ADAPTER, attach.base_model(both)
    if MERGED in names:
        yield MERGED, load_model(plain(config.model, run_dir.merged), QuantizationConfig())
    if TRAINED in names:
        yield TRAINED, load_model(plain(config.model, run_dir.model), config.quantization)


def plain(model: ModelConfig, folder: Path) -> ModelConfig:
    """The model section for a model that a run has written to `folder`."""
    return replace(model, path=str(folder), revision=None, tokenizer=None, init={}, dtype=Dtype.auto)
