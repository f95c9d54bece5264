"""Initializes a LoRA from the inputs of its layers on training rows (EVA), once per training."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import torch
from peft import EvaConfig, LoraConfig, PeftModel, initialize_lora_eva_weights
from torch import Tensor
from transformers import PreTrainedModel

from workbench.config.adapter import AdapterConfig
from workbench.contexts import forked_random_state
from workbench.errors import ConfigError, first_line
from workbench.models.adapters.attach import attach, load, save
from workbench.models.adapters.peft_warnings import without_peft_warnings
from workbench.run_dir import read_json, write_json

IGNORED = -100
"""Label of a token that has no loss."""
RECORD = "start.json"
"""File with the fingerprint of what the initial adapter was computed from; it is written last."""

MOST_BATCHES = 2000
"""Number of batches after which directions that haven't settled are given up."""
WAYS_OUT = "lower adapter.rank, or adapter.options.eva_config={rho: 1.0}"

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

    The initial adapter is saved to `folder`, from where a resumed training loads it. `model` is changed in
    place, and the global random state isn't. Source: EVA, arXiv:2410.07170, section 3.

    Args:
        model: The base.
        adapter: Section `adapter` of the configuration.
        seed: Seed of the other initial values.
        token_ids: Tokens whose embeddings are trained too.
        batches: Training rows on the model's device, read again and again until the directions are stable.
        folder: Folder of the saved initial adapter.
        made_from: Fingerprint of base, rows and settings; a folder saved with an equal one is loaded instead.

    Raises:
        ConfigError: A target matches no layer, this base doesn't allow the initialization, no batch has as
            many tokens as directions are asked for, or the directions don't settle.
        CheckpointError: The initial adapter that was saved before is damaged or doesn't fit the model.
    """
    record = folder / RECORD
    if record.is_file() and read_json(record) == made_from:
        log.info("adapter.init=eva: the start was computed before, %s", folder)
        return load(model, folder, trainable=True)
    peft_model = attach(model, adapter, seed, token_ids)
    log.info("adapter.init=eva: computes the start from training rows")
    with forked_random_state(), without_peft_warnings():
        torch.manual_seed(seed)
        _initialize(peft_model, batches)
    save(peft_model, folder)
    write_json(record, made_from)
    return peft_model


def _initialize(model: PeftModel, batches: Iterable[dict[str, Tensor]]) -> None:
    """Let peft compute the start; it would read the batches for ever if it couldn't.

    Raises:
        ConfigError: No batch has enough tokens, or the directions don't settle.
    """
    config = cast(LoraConfig, model.peft_config[model.active_adapter])
    ranks = [config.r, *cast(dict[str, int], config.rank_pattern or {}).values()]
    needed = round(max(ranks) * cast(EvaConfig, config.eva_config).rho)
    most = 0
    for batch in batches:
        most = max(most, _num_tokens(batch))
        if most >= needed:
            break
    else:
        raise ConfigError(
            f"adapter.init=eva: takes {needed} directions (rank times rho) from batches of as many tokens to "
            f"learn, and the largest batch has {most} ({WAYS_OUT}, or raise train.per_device_batch_size)"
        )
    count = 0

    def forward(model: PeftModel, inputs: dict[str, Tensor]) -> None:
        nonlocal count
        count += 1
        if count > MOST_BATCHES:
            raise ConfigError(
                f"adapter.init=eva: the directions haven't settled after {MOST_BATCHES} batches ({WAYS_OUT}, "
                "or its tau)"
            )
        model(**inputs)

    try:
        initialize_lora_eva_weights(model, batches, forward_fn=forward, show_progress_bar=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"adapter.init=eva: peft can't compute the start: {first_line(error)} ({WAYS_OUT})"
        ) from error


def _num_tokens(batch: dict[str, Tensor]) -> int:
    """Return the number of tokens of a batch that peft takes: unpadded and, with labels, to be learned."""
    taken = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    if "labels" in batch:
        taken = taken & (batch["labels"] != IGNORED)
    return int(taken.sum())
