"""The training that `finetune` and the train step share: sections and examples in, trained weights out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from workbench.api.examples import Examples
from workbench.config.adapter import AdapterConfig, AdapterInit
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.config.train import TrainConfig
from workbench.contexts import quiet_transformers
from workbench.data.chat.saved_template import end_ids, templates_of
from workbench.data.collate import Collator
from workbench.data.row_counts import Account
from workbench.distributed import is_rank0
from workbench.folders import new_folder
from workbench.models.adapters import attach
from workbench.models.adapters.init_from_rows import attach_from_rows
from workbench.models.adapters.provenance import trained_on
from workbench.models.architecture import is_native
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.device import split_weights
from workbench.models.dtypes import dtype_name
from workbench.models.loading import load_model
from workbench.models.tokenizers.load_tokenizer import take_template, token_ids
from workbench.models.trials.chunked_loss import use_chunked_loss
from workbench.models.trials.gated_mlps import use_gated_mlps
from workbench.models.trials.lora_layers import use_lora_products
from workbench.run_dir import RunDir, fingerprint
from workbench.shipped import public_path
from workbench.training.fingerprint import rows_fingerprint
from workbench.training.fit import TrainReport, fit
from workbench.training.trainer import Score

START_ROWS = 16
"""Minimum rows per batch if rows initialize the adapter (eva): a batch needs more tokens than the rank."""

log = logging.getLogger("workbench")


@dataclass(frozen=True, kw_only=True)
class TrainingSections:
    """The sections of the configuration, besides data, that decide a training."""

    model: ModelConfig
    quantization: QuantizationConfig
    adapter: AdapterConfig
    train: TrainConfig
    seed: int


def train_weights(
    sections: TrainingSections,
    examples: Examples,
    run_dir: RunDir,
    *,
    inputs: str,
    autocast: torch.dtype | None,
    score: Score | None = None,
    on_base: Callable[[PreTrainedModel], None] | None = None,
) -> tuple[PreTrainedModel | PeftModel, TrainReport]:
    """Load the model, attach the adapter, train, and write the weights; an interrupted training is resumed.

    The global random states are set to the seed.

    Args:
        sections: The model, its quantization and adapter, and how to train.
        examples: What to train on; the tokenizer gets the rows' chat template.
        run_dir: Folder for checkpoints/, train.jsonl, loss.svg, and adapter/ or model/, which rank 0 writes.
        inputs: Fingerprint of what else decides the weights; a checkpoint with another one isn't resumed.
        autocast: 16-bit dtype of mixed precision, from `models.dtypes.autocast_dtype`; None: no autocast.
        score: Scores the model at each checkpoint and decides which is best; None: the validation loss does.
        on_base: Called with the loaded model before the adapter is attached; None: nothing is called.

    Returns:
        The trained model, as a PeftModel if it has an adapter, and the report.

    Raises:
        WorkbenchError: The model or adapter can't be loaded, the settings don't suit the model or the rows,
            or the training broke down.
    """
    tokenizer = examples.tokenizer
    _take_trained_template(tokenizer, examples.training.account)
    set_seed(sections.seed)
    base = _load_to_train(sections, examples.labels, autocast)
    if on_base is not None:
        on_base(base)
    model = _with_adapter(base, sections, examples, run_dir, inputs)
    is_adapted = isinstance(model, PeftModel) and sections.model.fused and is_native(sections.model)
    if is_adapted and (reason := use_lora_products(model)):
        log.info("adapters of one input are multiplied one by one, since %s", reason)
    end_at(base, end_ids(tokenizer, examples.training.account.forms))  # `score` may generate answers
    report = fit(
        model,
        tokenizer,
        examples.training.dataset,
        examples.validation.dataset if examples.validation else None,
        sections.train,
        run_dir.path,
        sections.seed,
        inputs=inputs,
        score=score,
        autocast=autocast,
    )
    if is_rank0():
        folder = trained_folder(run_dir, sections.adapter)
        _save(model, tokenizer, folder, sections, autocast)
    return model, report


def trained_folder(run_dir: RunDir, adapter: AdapterConfig) -> Path:
    """Return the folder for trained weights: `adapter`, or `model` where all weights are trained."""
    return run_dir.model if adapter.is_none else run_dir.adapter


def _load_to_train(
    sections: TrainingSections, labels: Sequence[str], autocast: torch.dtype | None
) -> PreTrainedModel:
    """Load the base model to train, in float32 if `autocast` is set.

    With `labels`, the model is a classifier with these class names.
    """
    section = replace(sections.model, dtype=Dtype.float32) if autocast else sections.model
    with split_weights(sections.train.fsdp):
        model = load_model(section, sections.quantization, len(labels) or None)
    if section.fused and is_native(section):
        if mlps := use_gated_mlps(model):
            log.info(
                "%s computes no known formula: activated gates are stored in training", " and ".join(mlps)
            )
        if not labels and (reason := use_chunked_loss(model)):
            log.info("the logits of a whole batch are stored in training, since %s", reason)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: index for index, name in enumerate(labels)}
    return model


def _with_adapter(
    base: PreTrainedModel, sections: TrainingSections, examples: Examples, run_dir: RunDir, inputs: str
) -> PreTrainedModel | PeftModel:
    """Attach a new or stored adapter to the base model, as the adapter section says."""
    adapter = sections.adapter
    if adapter.is_none:
        return base
    ids = token_ids(examples.tokenizer, adapter.trainable_tokens, "adapter.trainable_tokens")
    if adapter.path is not None or adapter.init is not AdapterInit.eva:
        return attach.attach(base, adapter, sections.seed, ids)
    dataset = examples.training.dataset
    return attach_from_rows(
        base,
        adapter,
        sections.seed,
        ids,
        batches=_start_batches(base, examples, sections),
        folder=run_dir.checkpoints / "start",
        made_from=fingerprint([inputs, rows_fingerprint(dataset), sections.seed]),
    )


def _start_batches(
    base: PreTrainedModel, examples: Examples, sections: TrainingSections
) -> DataLoader[dict[str, Tensor]]:
    """Return batches of training rows in a seeded order, from which an adapter's weights are initialized.

    Rows of a classifier come without labels.
    """
    is_classifier = bool(examples.labels) or not isinstance(examples.training.dataset[0]["labels"], list)
    columns = ["input_ids"] if is_classifier else ["input_ids", "labels"]
    collate = Collator(cast(int, examples.tokenizer.pad_token_id))

    def on_device(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        return {name: values.to(base.device) for name, values in collate(rows).items()}

    return DataLoader(
        cast(Dataset[Any], examples.training.dataset.select_columns(columns)),
        batch_size=max(sections.train.per_device_batch_size, START_ROWS),
        shuffle=True,
        generator=torch.Generator().manual_seed(sections.seed),
        collate_fn=on_device,
    )


def _take_trained_template(tokenizer: PreTrainedTokenizerBase, account: Account) -> None:
    """Give the tokenizer the chat template that the rows were encoded with; it is saved with the model."""
    templates = templates_of(account.forms)
    take_template(tokenizer, next(iter(templates), None))
    if len(templates) > 1:
        log.warning(
            "data.sources: the rows have %d different chat templates; only the first is saved with the model",
            len(templates),
        )


def _save(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    sections: TrainingSections,
    autocast: torch.dtype | None,
) -> None:
    """Write the adapter, or the model, to `folder`, with the tokenizer.

    With mixed precision a model is written in the 16-bit dtype `autocast`.
    """
    if isinstance(model, PeftModel):
        attach.check_did_something(model)
        dtype = dtype_name(attach.base_model(model).dtype)
        base = trained_on(sections.model, sections.quantization, dtype)
        attach.save(model, folder, public_path(sections.model.path), tokenizer, base)
        return
    plain: Any = model
    plain.to(autocast or model.dtype)
    with new_folder(folder) as temporary, quiet_transformers():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
