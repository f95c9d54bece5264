"""The models of a run: what each one's scores depend on, and how it is loaded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from workbench.config import Config, QuantizationConfig
from workbench.config.history import hashed
from workbench.config.model import Dtype, ModelConfig
from workbench.config.names import ADAPTER, BASE, MERGED, SERVED, TRAINED
from workbench.evaluation.endpoint.endpoint_model import EndpointModel
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.pipeline.run_state import Run
from workbench.pipeline.shared_base import SharedBase, shared_base
from workbench.pipeline.step_inputs import adapter_folder, asks_by_chat, check_trained, content, is_classifier
from workbench.pipeline.tokenizers import borrowed_template
from workbench.run_dir import RunDir, file_fingerprint, fingerprint, read_json
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

Identity = dict[str, Any]
"""Everything about a model that its scores depend on, as JSON: weights, quantization, adapter, tokenizer."""


def model_identities(run: Run) -> dict[str, Identity]:
    """Return name -> identity of the models that the run has: base, adapter, merged and trained.

    A merged model that is not of the run's present adapter is left out, which is logged. With an endpoint,
    the only model is the base.

    Raises:
        CheckpointError: An adapter or model was changed since the train step.
        EndpointError: The endpoint can't be reached.
    """
    config, run_dir = run.config, run.run_dir
    if config.model.endpoint is not None:
        return {BASE: endpoint_identity(config)}
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
        **({"compile": True} if config.model.compile else {}),
        **({"tf32": True} if config.model.tf32 else {}),
        "adapter": None,
    }
    template = borrowed_template(run)
    base_with_template = {**base, "chat_template": fingerprint(template)} if template else base
    identities: dict[str, Identity] = {} if config.model.init else {BASE: base_with_template}
    adapter = adapter_folder(run)
    if adapter is not None:
        adapter_config.read_config(adapter)
        identities[ADAPTER] = {**base, "adapter": adapter_config.fingerprint(adapter)}
    if merged := merge_fingerprint(adapter, run_dir):
        identities[MERGED] = {**base, "weights": merged, "quantization": "none", "held": None}
    elif adapter is not None and run_dir.merged.is_dir():
        log.warning(
            "evaluate: the merged model is skipped, because it was made from an older adapter, or it or its "
            "report was changed since the merge step (that step makes them again)"
        )
    if run_dir.model.is_dir():
        identities[TRAINED] = {**base, "weights": check_trained(run_dir, run_dir.model)}
    return identities


def endpoint_identity(config: Config) -> Identity:
    """Return the identity of a model behind an endpoint: its URL and name, and the tokenizer.

    An endpoint whose only model is asked is asked for its name, so that another model that it has later isn't
    taken for the same one. For an endpoint that is asked by chats, that it is so takes the tokenizer's place.

    Raises:
        EndpointError: The endpoint can't be reached.
    """
    path, url = config.model.tokenizer or config.model.path, str(config.model.endpoint)
    name = config.endpoint.model or EndpointModel(url, config.endpoint).name
    return {
        "weights": f"{SERVED}: {url} {name}",
        "tokenizer": config.endpoint.api.value if asks_by_chat(config) else content(path),
        "quantization": "none",
        "held": None,
        "adapter": None,
    }


def merge_fingerprint(adapter: Path | None, run_dir: RunDir) -> str | None:
    """Return the fingerprint of the run's merged model, if its report proves that it is of this adapter.

    Args:
        adapter: The run's adapter; None: the model was merged from whole models.
        run_dir: The run.

    Returns:
        None if there is no merged model, it was changed, its report is missing or damaged, or the adapter is
        another one.

    Raises:
        CheckpointError: The adapter is missing or damaged.
    """
    if not run_dir.merged.is_dir() or not run_dir.merge_report.is_file():
        return None
    if RunRecord(run_dir.run_json).problem("merge", run_dir.merged):
        return None
    try:
        report = read_json(run_dir.merge_report)
    except ValueError:
        return None
    recorded = report.get("fingerprints") if isinstance(report, dict) else None
    merged = file_fingerprint(run_dir.merged)
    expected = {"adapter": adapter and adapter_config.fingerprint(adapter), "merged": merged}
    is_proven = isinstance(recorded, dict) and {key: recorded.get(key) for key in expected} == expected
    return merged if is_proven else None


def loaded_models(run: Run, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield (name, model) of the named models, each loaded in its turn; base and adapter share one load.

    The run must have the models. The order is base and adapter (either first), merged, trained; with an
    endpoint, only the base is yielded. Use a model only until the next one is yielded: the adapter is
    disabled while the base is used, unless it changes the base's weights and is attached after the base was
    yielded. `workbench.load_model` is not called because it loads a single model.

    Raises:
        WorkbenchError: The run's adapter was changed since its training, or a model can't be loaded.
    """
    config, run_dir = run.config, run.run_dir
    if config.model.endpoint is not None:
        yield BASE, cast(PreTrainedModel, EndpointModel(config.model.endpoint, config.endpoint))
        return
    adapter = adapter_folder(run)
    if BASE in names or ADAPTER in names:
        num_labels = adapter_config.num_labels(adapter) if adapter else None
        with shared_base(config, num_labels) as base:
            yield from base_and_adapter(base, adapter, names)
    if MERGED in names:
        yield MERGED, load_model(model_in(run_dir.merged, config.model), QuantizationConfig())
    if TRAINED in names:
        yield TRAINED, load_model(model_in(run_dir.model, config.model), config.quantization)


def base_and_adapter(
    base: SharedBase, adapter: Path | None, names: Sequence[str]
) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield ("base", model) and ("adapter", model), as far as `names` has them, from one load.

    The adapter is disabled while the base is used. If it changes the base's weights, it is attached only
    after the base was yielded.

    Raises:
        CheckpointError: The adapter is missing or damaged, or doesn't fit the base.
    """
    is_base_first = ADAPTER not in names or adapter is None or adapter_config.changes_base(adapter)
    if is_base_first and BASE in names:
        yield BASE, base.model
    if ADAPTER in names and adapter is not None:
        adapted = base.attached(adapter)
        if not is_base_first and BASE in names:
            with adapted.disable_adapter():
                yield BASE, attach.base_model(adapted)
        end_at(base.model, adapter_config.end_tokens(adapter))  # after the base, whose answers end otherwise
        yield ADAPTER, attach.base_model(adapted)


def model_in(folder: Path, model: ModelConfig) -> ModelConfig:
    """Return a copy of the model section for a model that the run has written to `folder`."""
    return replace(model, path=str(folder), revision=None, tokenizer=None, init={}, dtype=Dtype.auto)
