"""Trainings by several processes: torchrun --nproc-per-node 2 distributed.py FOLDER BASE [KIND RANK STEP]

Each kind of training is run and its adapter saved. Process RANK ends itself at STEP of KIND, if asked.
"""

import json
import os
import sys
from pathlib import Path

import torch
from tiny_training import causal_rows, class_rows, load_with_lora, tiny_tokenizer
from torch import nn
from torch.distributed.tensor import DTensor

from workbench.config.train import TrainConfig
from workbench.distributed import barrier, is_rank0, rank_and_world_size
from workbench.models.adapters import attach
from workbench.models.device import split_weights
from workbench.training.callbacks import StepCallback
from workbench.training.fit import fit

KINDS = {
    "classifier": ("sequence_classification", "none"),
    "nf4": ("causal_lm", "nf4"),
    "fsdp": ("causal_lm", "none"),
}
STEP_BATCHES = 2
"""Batches of an optimizer step, whoever takes them."""


def train(folder: Path, base: Path, kind: str) -> list[float]:
    """Two epochs of 23 rows in batches of 2: the last step of each has a batch that only one process gets."""
    rank, world = rank_and_world_size()
    task, method = KINDS[kind]
    is_split = kind == "fsdp" and world > 1
    with split_weights(is_split):
        model = load_with_lora(base, task, method)
    if is_split:
        check_shares(model)
    rows = (class_rows if task == "sequence_classification" else causal_rows)(23)
    settings = TrainConfig(
        num_epochs=2.0,
        per_device_batch_size=2,
        gradient_accumulation_steps=STEP_BATCHES // world,
        learning_rate=1e-3,
        logging_steps=4,
        save_steps=3,
    )
    report = fit(model, tiny_tokenizer(), rows, rows.select(range(5)), settings, folder, 7)
    if is_rank0():
        attach.save(model, folder / "adapter")
    barrier()
    if is_split:
        check_shares(model)
    return [report.steps, report.loss_first, report.validation_loss, report.tokens, report.trained_tokens]


def check_shares(model: nn.Module) -> None:
    """Every weight of the base is split over both processes, and no weight of the adapter."""
    for name, weight in model.named_parameters():
        local = weight.to_local() if isinstance(weight, DTensor) else weight
        assert local.numel() * (1 if "lora_" in name else 2) == weight.numel(), name


def main(folder: Path, base: Path, killed: str, rank: int, step: int) -> None:
    torch.set_num_threads(1)
    found = {}
    for kind in KINDS:
        if kind == killed and rank_and_world_size()[0] == rank:
            kill_at(step)
        found[kind] = train(folder / kind, base, kind)
    (folder / f"{rank_and_world_size()[0]}.json").write_text(json.dumps(found))


def kill_at(step: int) -> None:
    """End this process in the middle of a step."""
    original = StepCallback.on_step_end

    def deadly(self, args, state, *rest, **options):
        if state.global_step == step:
            os._exit(9)
        return original(self, args, state, *rest, **options)

    StepCallback.on_step_end = deadly


if __name__ == "__main__":
    killed, rank, step = sys.argv[3:] if len(sys.argv) > 3 else ("", -1, 0)
    main(Path(sys.argv[1]), Path(sys.argv[2]), killed, int(rank), int(step))
