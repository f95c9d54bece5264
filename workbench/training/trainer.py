"""The Trainer with our counters in it."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, Trainer

from workbench.data.tokens import IGNORED
from workbench.errors import TrainingError
from workbench.training.batches import Batches
from workbench.training.meter import Meter
from workbench.training.pieces import Pieces

Score = Callable[[PreTrainedModel | PeftModel], float]
"""A number that is the higher the better, such as the accuracy on a benchmark."""


class MeteredTrainer(Trainer):
    """A Trainer that counts real tokens, stops at a loss that is none, and evaluates without a trace."""

    def __init__(
        self,
        *,
        meter: Meter,
        batches: Batches,
        lora_plus_ratio: float,
        score: Score | None,
        **arguments: Any,
    ) -> None:
        """As the Trainer.

        Args:
            meter: Told of each micro-batch.
            batches: The rows of each.
            lora_plus_ratio: The rate of B matrices over that of A.
            score: Taken at each evaluation, beside the loss of the rows to validate on.
            **arguments: The Trainer's own.
        """
        super().__init__(**arguments)
        self.meter = meter
        self.batches = batches
        self.lora_plus_ratio = lora_plus_ratio
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
        loader: DataLoader[Any] = DataLoader(
            cast(Dataset[Any], self.train_dataset),
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch forward and backward.

        Raises:
            TrainingError: The loss is infinite or not a number, or memory doesn't hold a single row.
        """
        rows = inputs.pop("row").tolist()
        mask = inputs.get("attention_mask")
        self.meter.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        self.meter.trained += num_items(inputs["labels"])
        once = partial(super().training_step, model, num_items_in_batch=num_items_in_batch)
        lengths = [self.batches.lengths[row] for row in rows]
        loss = self.pieces.train(self.state.global_step, inputs, lengths, once)
        value = float(loss)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise TrainingError(f"train: the loss is {value} at step {step}, rows {self.places(rows)}")
        self.meter.step_loss += value
        return loss

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
                metrics["eval_score"] = self.score(cast(PreTrainedModel, self.model))
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def validation_loss(self) -> float:
        """Over all trained tokens, or all rows of a classifier, each counting alike."""
        total, count = 0.0, 0
        for inputs in self.get_eval_dataloader():
            del inputs["row"]
            items = num_items(inputs["labels"])
            loss = self.compute_loss(self.model_wrapped, inputs, num_items_in_batch=torch.tensor(items))
            total += float(cast(Tensor, loss)) * items
            count += items
        return total / count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with our own counts: the loss of all steps, interrupted or not, tokens, time, memory."""
        if "loss" in logs:
            logs["loss"] = self.meter.mean_loss()
            logs |= self.meter.measured()
        super().log(logs, start_time)

    def places(self, rows: list[int]) -> str:
        """The files and lines of some rows, by their numbers."""
        dataset: Any = self.train_dataset
        where = dict(zip(dataset["row"], dataset["where"], strict=True))
        return ", ".join(where[row] for row in rows)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: a walk over all parameters at each micro-batch costs small models much time."""
        return 0


def num_items(labels: Tensor) -> int:
    """What a loss falls on: tokens of (batch, seq_len) labels, not a row's first; rows of (batch,) ones."""
    return int((labels[:, 1:] != IGNORED).sum()) if labels.dim() > 1 else len(labels)


def classification_loss(
    outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Cross entropy over the rows of all micro-batches of a step.

    The heads of transformers take the mean of each micro-batch, and the Trainer then doesn't divide it by
    their number, so that accumulation would multiply the gradient.
    """
    total = cross_entropy(outputs["logits"].float(), labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
