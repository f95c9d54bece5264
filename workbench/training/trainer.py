"""Trainer that counts tokens, plans batches from the seed, and isn't changed by evaluations."""

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

from workbench.config.names import IGNORED
from workbench.contexts import forked_random_state
from workbench.data.packing import cut
from workbench.distributed import all_reduce_sum, rank_and_world_size, unsplit_weights
from workbench.training.batches import Batches, PaddedDataset, batches_of_rank
from workbench.training.counters import TrainCounters
from workbench.training.determinism import deterministic
from workbench.training.known_values import known_values, on_device
from workbench.training.microbatches import MicrobatchSplitter
from workbench.training.offloading import offloaded_activations
from workbench.training.rank_allocation import OrthogonalityLoss

Score = Callable[[PreTrainedModel | PeftModel], Mapping[str, float]]
"""Evaluates a model; returns a mapping with `score` (higher is better) and `score/NAME` of each benchmark."""


class CountingTrainer(Trainer):
    """Trainer that counts tokens without padding, and evaluates without changing the random state."""

    def __init__(
        self,
        *,
        counters: TrainCounters,
        batches: Batches,
        lora_plus_ratio: float,
        deterministic: bool,
        offloading: bool,
        score: Score | None,
        second_term: OrthogonalityLoss | None = None,
        **arguments: Any,
    ) -> None:
        """Set up the Trainer.

        Args:
            counters: Counters to update with each batch.
            batches: Batch sampler of the training rows.
            lora_plus_ratio: Learning rate of LoRA's B matrices divided by that of its A matrices.
            deterministic: Whether only deterministic GPU kernels are used.
            offloading: Whether activations are kept in the machine's memory until the backward pass.
            score: Function that scores the model at each evaluation; None: only the validation loss is
                computed.
            second_term: Term of the loss whose gradients are added once a step; None: there is none.
            **arguments: Arguments of the Trainer.
        """
        super().__init__(**arguments)
        self.counters = counters
        self.batches = batches
        self.lora_plus_ratio = lora_plus_ratio
        self.deterministic = deterministic
        self.offloading = offloading
        self.score = score
        self.second_term = second_term
        self.splitter = MicrobatchSplitter(
            cast(nn.Module, self.model),
            counters,
            batches.batch_size if batches.token_limited is None else None,
            can_split=self.args.world_size == 1
            and (self.model_accepts_loss_kwargs or self.compute_loss_func is not None),
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer once; with LoRA+, B matrices have another rate than A matrices."""
        if self.lora_plus_ratio == 1.0 or self.optimizer is not None:
            return super().create_optimizer(model)
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = create_loraplus_optimizer(
            model=cast(PeftModel, model or self.model),
            optimizer_cls=optimizer_class,
            loraplus_lr_ratio=self.lora_plus_ratio,
            loraplus_lr_embedding=self.args.learning_rate,
            loraplus_weight_decay=self.args.weight_decay,
            **options,
        )
        return self.optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of the batches planned from the seed.

        The Trainer's samplers would draw from the global random state.
        """
        return self._loader(cast(Rows, self.train_dataset), self.batches)

    def _loader(self, rows: Rows, batches: Any) -> DataLoader[Any]:
        """Return a loader of this rank's batches on the CPU, where their lengths and labels are read.

        `batches` are of this rank only, so accelerate must not shard them again.
        """
        loader: DataLoader[Any] = DataLoader(
            PaddedDataset(rows),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, num_processes=1, process_index=0, put_on_device=False
        )
        return prepared

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run forward and backward on one batch and return its share of the step's loss.

        The batch is run in microbatches if memory runs out. Its rows, tokens and loss are added to the
        counters.

        Raises:
            TrainingError: Not even a single row fits into memory, or the batch doesn't and can't be split.
        """
        counters, lengths = self.counters, self.batches.lengths
        rows = inputs["row"].tolist()
        counters.step_rows += rows
        if rows[0] < len(lengths):  # not the dummy row
            mask = inputs.get("attention_mask")
            counters.step_tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            counters.step_unmasked_tokens += num_items(inputs["labels"])
        row_lengths = [lengths[row % len(lengths)] for row in rows]
        forward_backward = partial(self._forward_backward, model, num_items_in_batch)
        loss = self.splitter.train(self.state.global_step, inputs, row_lengths, forward_backward)
        if self.second_term is not None and self.accelerator.sync_gradients:  # the step's last batch
            self.second_term.backward()
        counters.step_losses.append((loss, rows))
        return loss

    def _forward_backward(
        self, model: nn.Module, num_items_in_batch: Tensor | int | None, inputs: dict[str, Any]
    ) -> Tensor:
        """Run forward and backward on one microbatch and return its share of the step's loss.

        The seed, the step and the first row decide dropout, so that it doesn't depend on the number of
        processes or on interruptions.
        """
        first_row = int(inputs["row"][0])
        seed = (self.args.seed * 1_000_003 + self.state.global_step) * 1_000_003 + first_row
        torch.manual_seed(seed % 2**64)
        inputs = self._model_inputs(inputs)
        offloading = offloaded_activations(model) if self.offloading else nullcontext()
        with deterministic(self.args.device) if self.deterministic else nullcontext(), offloading:
            return super().training_step(model, inputs, num_items_in_batch)

    def _model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the model's arguments for a batch on the CPU, with tensors on the model's device."""
        inputs = {name: value for name, value in batch.items() if name != "row"}
        if not self.args.torch_compile:  # which would compile anew for all lengths
            inputs |= known_values(cast(nn.Module, self.model), inputs)
        return on_device(inputs, self.args.device)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate the model, and log and return `eval_loss` (with validation rows) and the scores, if any.

        The random state is restored, so that a run with evaluations trains the same weights as a run without.
        The model is in evaluation mode afterwards. All ranks must call this.
        """
        metrics: dict[str, float] = {}
        with forked_random_state(), torch.no_grad():
            self.model_wrapped.eval()
            if self.eval_dataset:
                metrics["eval_loss"] = self.validation_loss()
            if self.score is not None:
                scores = self.score(cast(PreTrainedModel, self.model))
                metrics |= {f"eval_{name}": value for name, value in scores.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.control.should_training_stop and self.counters.losses:  # log the steps since the last line
            self.log({"loss": self.counters.losses[-1], "learning_rate": self._get_learning_rate()})
        return metrics

    def initial_validation_loss(self) -> float | None:
        """Return the validation loss now, before the first step; None: there are no validation rows.

        The random state is restored; the model is in evaluation mode afterwards. All ranks must call this.
        """
        if not self.eval_dataset:
            return None
        with forked_random_state(), torch.no_grad():
            self.model_wrapped.eval()
            return self.validation_loss()

    def validation_loss(self) -> float:
        """Return the mean validation loss per token with loss, or per row of a classifier, over all ranks.

        The model must be in evaluation mode. All ranks must call this.
        """
        rows, (rank, world_size) = cast(Rows, self.eval_dataset), rank_and_world_size()
        batches = cut(range(len(rows)), self.args.per_device_eval_batch_size)
        total, count = 0.0, 0
        for inputs in self._loader(rows, batches_of_rank(batches, len(rows), rank, world_size)):
            items = num_items(inputs["labels"])
            divisor = torch.tensor(max(items, 1))
            loss = self.compute_loss(
                self.model_wrapped, self._model_inputs(inputs), num_items_in_batch=divisor
            )
            total += (
                float(cast(Tensor, loss)) * items / world_size
            )  # the Trainer multiplies by it, because DDP averages
            count += items
        all_total, all_count = all_reduce_sum(total, count)
        return all_total / all_count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the Trainer's values; to a line with a loss, add tokens, seconds and peak memory.

        The loss is replaced by the mean over all steps since the last line, steps of an earlier session
        included.
        """
        if "loss" in logs:
            logs["loss"] = self.counters.pop_mean_loss()
            logs |= self.counters.log_values()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save a checkpoint's weights; of split ones (`train.fsdp`) only the adapter, which is whole."""
        super()._save(output_dir, state_dict or unsplit_weights(cast(nn.Module, self.model)))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: an estimate would walk over all parameters at each batch, which is slow."""
        return 0


def num_items(labels: Tensor) -> int:
    """Count the labels that aren't masked: tokens of (batch, seq_len) labels, rows of (batch,) labels.

    The first token of a row never counts, because no token before it predicts it.
    """
    return int(((labels[:, 1:] if labels.dim() > 1 else labels) != IGNORED).sum())


def classification_loss(
    outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Return the summed cross entropy (of float labels, squared error) divided by `num_items_in_batch`.

    That is the number of rows of the step; None: of this batch. The classification heads of transformers
    average over each microbatch, and the Trainer doesn't divide by the number of microbatches, so that
    gradient accumulation would multiply the gradient.
    """
    logits = outputs["logits"].float()
    total: Tensor
    if labels.is_floating_point():
        total = ((logits.squeeze(-1) - labels)[labels != IGNORED] ** 2).sum()
    else:
        total = cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
