"""Initializes a LoRA from the inputs of its layers on training rows (EVA), once per training."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from peft import PeftModel, initialize_lora_eva_weights
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.adapter import AdapterConfig
from workbench.models.adapters.attach import attach, load, save
from workbench.models.adapters.peft_warnings import without_peft_warnings
from workbench.run_dir import read_json, write_json

RECORD = "start.json"
"""File with the fingerprint of what the initial adapter was computed from; it is written last."""

log = logging.getLogger("workbench")


def attach_from_rows(
    model: PreTrainedModel,
    adapter: AdapterConfig,
    seed: int,
    token_ids: Sequence[int],
    *,
    batches: Iterable[dict[str, Tensor]],
    folder: Path,
    made_from: str,
) -> PeftModel:
    """Attach a new LoRA whose matrices A are the principal directions of each layer's inputs.

    The initial adapter is saved, so that a resumed training loads it instead of computing it again. Source:
    EVA, arXiv:2410.07170, section 3.

    Args:
        model: The base.
        adapter: Section `adapter` of the configuration.
        seed: Seed of the other initial values.
        token_ids: Tokens whose embeddings are trained too.
        batches: Training rows on the model's device, read again and again until the directions are stable.
        folder: Folder of the saved initial adapter.
        made_from: Fingerprint of base, rows and settings; an adapter saved with the same one is loaded.

    Raises:
        ConfigError: A target matches no layer, or this base doesn't allow the initialization.
    """
    record = folder / RECORD
    if record.is_file() and read_json(record) == made_from:
        log.info("adapter.init=eva: the start was computed before, %s", folder)
        return load(model, folder, trainable=True)
    peft_model = attach(model, adapter, seed, token_ids)
    log.info("adapter.init=eva: computes the start from training rows")
    with torch.random.fork_rng(), without_peft_warnings():
        torch.manual_seed(seed)
        initialize_lora_eva_weights(peft_model, batches, show_progress_bar=False)
    save(peft_model, folder)
    write_json(record, made_from)
    return peft_model
