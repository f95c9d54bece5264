"""The Trainer with our counters in it."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset as Rows
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from workbench.data.packing import cut
from workbench.distributed import all_reduce_sum, rank_and_world_size
from workbench.labels import IGNORED
from workbench.training.batches import Batches, WithGhost, share
from workbench.training.counters import Meter
from workbench.training.determinism import deterministic
from workbench.training.microbatches import Pieces

Score = Callable[[PreTrainedModel | PeftModel], Mapping[str, float]]
"""Gives `score`, a number that is the higher the better, and `score/NAME` for each part of it."""


class MeteredTrainer(Trainer):
    """A Trainer that counts real tokens, stops at a loss that is none, and evaluates without a trace."""

    def __init__(
        self,
        *,
        meter: Meter,
        batches: Batches,
        lora_plus_ratio: float,
        deterministic: bool,
        score: Score | None,
        **arguments: Any,
    ) -> None:
        """As the Trainer.

        Args:
            meter: Told of each micro-batch.
            batches: The rows of each.
            lora_plus_ratio: The rate of B matrices over that of A.
            deterministic: Whether a GPU may take only kernels that add up in one order.
            score: Taken at each evaluation, beside the loss of the rows to validate on.
            **arguments: The Trainer's own.
        """
        super().__init__(**arguments)
        self.meter = meter
        self.batches = batches
        self.lora_plus_ratio = lora_plus_ratio
        self.deterministic = deterministic
        self.score = score
        self.pieces = Pieces(
            cast(nn.Module, self.model),
            meter,
            batches.size if batches.fixed is None else None,
            possible=self.args.world_size == 1
            and (self.model_accepts_loss_kwargs or self.compute_loss_func is not None),
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW, with rates of their own for the two halves of each adapter where LoRA+ is asked for."""
        if self.lora_plus_ratio == 1.0 or self.optimizer is not None:
            return super().create_optimizer(model)
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = create_loraplus_optimizer(
            model=cast(PeftModel, model or self.model),
            optimizer_cls=kind,
            loraplus_lr_ratio=self.lora_plus_ratio,
            loraplus_lr_embedding=self.args.learning_rate,
            loraplus_weight_decay=self.args.weight_decay,
            **options,
        )
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The rows as our batches say; the Trainer's own samplers draw from the global random state."""
        return self.loader(cast(Rows, self.train_dataset), self.batches)

    def loader(self, rows: Rows, batches: Any) -> DataLoader[Any]:
        """Batches on the device; they are this process's own, not for accelerate to share out again."""
        loader: DataLoader[Any] = DataLoader(
            WithGhost(rows),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        device = self.accelerator.device
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch forward and backward.

        Raises:
            TrainingError: Memory doesn't hold a single row.
        """
        numbers = inputs["row"].tolist()
        self.meter.step_rows += numbers
        if numbers[0] < len(self.batches.lengths):  # no ghost
            mask = inputs.get("attention_mask")
            self.meter.step_tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            self.meter.step_trained += num_items(inputs["labels"])
        lengths = [self.batches.lengths[number % len(self.batches.lengths)] for number in numbers]
        once = partial(self.forward_and_backward, model, num_items_in_batch)
        loss = self.pieces.train(self.state.global_step, inputs, lengths, once)
        self.meter.step_loss += float(loss)
        if not torch.isfinite(loss):
            self.meter.bad_rows += numbers
        return loss

    def forward_and_backward(
        self, model: nn.Module, num_items_in_batch: Tensor | int | None, inputs: dict[str, Any]
    ) -> Tensor:
        """The loss of some rows at once.

        Dropout is drawn by the seed, the step and the rows, so that it is the same in one process or several,
        in a training begun anew or gone on with.
        """
        first = int(inputs["row"][0])
        number = (self.args.seed * 1_000_003 + self.state.global_step) * 1_000_003 + first
        torch.manual_seed(number % 2**64)
        inputs = {name: value for name, value in inputs.items() if name != "row"}
        with deterministic(self.args.device) if self.deterministic else nullcontext():
            return super().training_step(model, inputs, num_items_in_batch)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The validation loss, where there are rows for it, and the score, where there is a function.

        The random state is afterwards as it was, so a run that evaluates trains the same as one that doesn't.
        """
        metrics: dict[str, float] = {}
        with torch.random.fork_rng(), torch.no_grad():
            self.model_wrapped.eval()
            if self.eval_dataset:
                metrics["eval_loss"] = self.validation_loss()
            if self.score is not None:
                scores = self.score(cast(PreTrainedModel, self.model))
                metrics |= {f"eval_{name}": value for name, value in scores.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.control.should_training_stop and self.meter.losses:  # the last steps have a line, too
            self.log({"loss": self.meter.losses[-1], "learning_rate": self._get_learning_rate()})
        return metrics

    def loss_before(self) -> float | None:
        """The validation loss before the first step, without a trace; None where no rows are for it."""
        if not self.eval_dataset:
            return None
        with torch.random.fork_rng(), torch.no_grad():
            self.model_wrapped.eval()
            return self.validation_loss()

    def validation_loss(self) -> float:
        """Over all trained tokens, or all rows of a classifier, each counting alike."""
        rows, (rank, world) = cast(Rows, self.eval_dataset), rank_and_world_size()
        batches = cut(range(len(rows)), self.args.per_device_eval_batch_size)
        total, count = 0.0, 0
        for inputs in self.loader(rows, share(batches, len(rows), rank, world)):
            del inputs["row"]
            items = num_items(inputs["labels"])
            divisor = torch.tensor(max(items, 1))
            loss = self.compute_loss(self.model_wrapped, inputs, num_items_in_batch=divisor)
            total += float(cast(Tensor, loss)) * items / world  # the Trainer multiplies, for the mean of DDP
            count += items
        all_total, all_count = all_reduce_sum(total, count)
        return all_total / all_count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with our own counts: the loss of all steps, interrupted or not, tokens, time, memory."""
        if "loss" in logs:
            logs["loss"] = self.meter.mean_loss()
            logs |= self.meter.measured()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: a walk over all parameters at each micro-batch costs small models much time."""
        return 0


def num_items(labels: Tensor) -> int:
    """What a loss falls on: tokens of (batch, seq_len) labels, not a row's first; rows of (batch,) ones."""
    return int(((labels[:, 1:] if labels.dim() > 1 else labels) != IGNORED).sum())


def classification_loss(
    outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Cross entropy, or for labels that are no whole numbers the squared error, over the rows of a step.

    The heads of transformers take the mean of each micro-batch, and the Trainer then doesn't divide it by
    their number, so that accumulation would multiply the gradient.
    """
    logits = outputs["logits"].float()
    total: Tensor
    if labels.is_floating_point():
        total = ((logits.squeeze(-1) - labels)[labels != IGNORED] ** 2).sum()
    else:
        total = cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
