"""Trains AdaLoRA: removes ranks after each step, and resumes this from a checkpoint (arXiv:2303.10512).

peft's `AdaLoraModel` decides which ranks are removed, and zeroes them. Until training ends, this module keeps
the shapes of the matrices, also in checkpoints: a rank that was removed early may come back.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import AdaLoraConfig, AdaLoraModel, PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.errors import ConfigError

FILE = "rank_allocation.safetensors"
"""File of a checkpoint with the importance of each weight of AdaLoRA, and the ranks that remain."""
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Attributes of peft's allocator: importance in the last step, its mean, and the mean of its changes."""
PATTERN = "rank_pattern"


def adalora_layers(model: PreTrainedModel | PeftModel) -> AdaLoraModel | None:
    """Return peft's model inside a PeftModel that has an AdaLoRA adapter; None: another adapter, or none."""
    layers = model.base_model if isinstance(model, PeftModel) else None
    return layers if isinstance(layers, AdaLoraModel) else None


def matrices(layers: AdaLoraModel) -> dict[str, nn.Parameter]:
    """Return AdaLoRA's matrices A, B and E (the parameters themselves) by the names of peft's allocator."""
    suffix = f".{layers.trainable_adapter_name}"
    parameters = cast(nn.Module, layers.model).named_parameters()
    return {name: weight for name, weight in parameters if ".lora_" in name and name.endswith(suffix)}


@contextmanager
def whole_ranks(model: PreTrainedModel | PeftModel) -> Iterator["OrthogonalityLoss | None"]:
    """Take AdaLoRA's second term out of the model's loss within the block; afterwards set `rank_pattern`.

    Within the block the model's loss is the loss on the labels alone, which is comparable with that of other
    adapters. The block gets the second term, whose gradients are to be added once a step; None: the model
    has no AdaLoRA. After a block without error, the adapter's configuration says which ranks remain, so that
    peft saves those only.
    """
    layers = adalora_layers(model)
    if layers is None:
        yield None
        return
    config = configuration(layers)
    weight, config.orth_reg_weight = config.orth_reg_weight, 0.0
    try:
        yield OrthogonalityLoss(matrices(layers), weight)
    finally:
        config.orth_reg_weight = weight
    config.rank_pattern = {
        name: (values.detach() != 0).view(-1).tolist()
        for name, values in matrices(layers).items()
        if ".lora_E." in name
    }


def configuration(layers: AdaLoraModel) -> AdaLoraConfig:
    """Return the configuration of the trained adapter: the object itself, which peft reads."""
    return cast(AdaLoraConfig, layers.peft_config[layers.trainable_adapter_name])


class OrthogonalityLoss:
    """Second term of AdaLoRA's loss, as in peft: mean distance of A A^T and B^T B from the identity."""

    def __init__(self, weights: Mapping[str, nn.Parameter], factor: float) -> None:
        """Set the matrices, from `matrices`, and the factor of the term in the loss."""
        self.weights = weights
        self.factor = factor

    def value(self) -> Tensor:
        """Return the term, without its factor, as a scalar tensor with gradient."""
        distances = []
        for name, weight in self.weights.items():
            if ".lora_E." not in name:
                rows = weight.t() if ".lora_B." in name else weight
                distances.append(torch.norm(rows @ rows.t() - torch.eye(len(rows)).to(rows)))
        return torch.stack(distances).mean()

    def backward(self) -> None:
        """Add the term's gradients to those of the matrices."""
        if self.factor:
            (self.factor * self.value()).backward()  # type: ignore[no-untyped-call]


class AllocateRanks(TrainerCallback):
    """Lets peft remove ranks after each optimizer step, and saves what that depends on in checkpoints."""

    def __init__(self, layers: AdaLoraModel, steps: int) -> None:
        """Tell peft's allocator the number of steps, which decides when ranks are removed.

        Args:
            layers: AdaLoRA's layers.
            steps: Number of optimizer steps of the training.

        Raises:
            ConfigError: No step is left in which ranks are removed, between `tinit` and `tfinal`.
        """
        self.layers, self.config = layers, configuration(layers)
        self.pattern: dict[str, list[bool]] | None = None
        if self.config.tinit + self.config.tfinal >= steps:
            raise ConfigError(
                f"adapter.options.tinit: {self.config.tinit}, and tfinal {self.config.tfinal}, of {steps} "
                "steps leave none to remove ranks in (lower them, or train longer)"
            )
        layers.rankallocator.set_total_step(steps)  # type: ignore[no-untyped-call]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Restore peft's allocator from the checkpoint that the training resumes from, if it does.

        The checkpoint must have passed its checks; else errors are those of `read_allocation`.
        """
        if state.global_step:
            file = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE
            tensors, self.pattern = read_allocation(file)
            device = next(iter(matrices(self.layers).values())).device
            for kind in AVERAGES:
                prefix = f"{kind}."
                values = {
                    name.removeprefix(prefix): tensor.to(device)
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                }
                setattr(self.layers.rankallocator, kind, values)

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Let peft update the importances by this step's gradients, and zero the ranks that are removed."""
        self.config.rank_pattern = self.pattern
        self.layers.update_and_allocate(state.global_step + 1)  # type: ignore[no-untyped-call]
        # With a pattern in the configuration, peft would cut the matrices in each checkpoint.
        self.pattern, self.config.rank_pattern = self.config.rank_pattern, None

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write importances and remaining ranks into the checkpoint, before its manifest is written."""
        allocator = self.layers.rankallocator
        tensors = {
            f"{kind}.{name}": tensor.contiguous()
            for kind in AVERAGES
            for name, tensor in getattr(allocator, kind).items()
        }
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        save_file(tensors, folder / FILE, {PATTERN: json.dumps(self.pattern)})


def read_allocation(file: Path) -> tuple[dict[str, Tensor], dict[str, list[bool]] | None]:
    """Read (importances, remaining ranks) from a checkpoint's file.

    Importances are by "ATTRIBUTE.MATRIX", with an attribute of AVERAGES. Remaining ranks are, for each matrix
    E by name, whether each rank remains; None: no rank has been removed yet.

    Raises:
        SafetensorError, OSError, ValueError, TypeError: The file is missing or damaged.
    """
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return tensors, json.loads(stored.metadata()[PATTERN])


def allocation_problems(folder: Path, model: PreTrainedModel | PeftModel) -> Iterator[str]:
    """Yield why the file FILE of a checkpoint can't be restored; nothing for a model without AdaLoRA."""
    layers = adalora_layers(model)
    if layers is None:
        return
    if not (folder / FILE).is_file():
        yield f"{FILE} is missing"
        return
    try:
        tensors, pattern = read_allocation(folder / FILE)
    except (SafetensorError, OSError, ValueError, TypeError, LookupError):
        yield f"{FILE} is damaged"
        return
    weights = matrices(layers)
    expected = {f"{kind}.{name}" for kind in AVERAGES for name in weights}
    if tensors and tensors.keys() != expected:  # empty once all ranks are removed
        yield f"{FILE} has other weights than this adapter"
        return
    for name, tensor in tensors.items():
        weight = weights[name.partition(".")[2]]
        if (tensor.shape, tensor.dtype) != (weight.shape, weight.dtype) or not bool((tensor >= 0).all()):
            yield f"{FILE}: {name} is not the importance of a weight of shape {list(weight.shape)}"
    yield from _pattern_problems(pattern, {n: len(w) for n, w in weights.items() if ".lora_E." in n})


def _pattern_problems(pattern: Any, ranks: Mapping[str, int]) -> Iterator[str]:
    """Yield why a JSON value isn't null or, for each matrix E, a list of whether each rank remains."""
    if pattern is None:
        return
    if not isinstance(pattern, dict) or pattern.keys() != ranks.keys():
        yield f"{FILE}: {PATTERN} has other layers than this adapter"
        return
    for name, remaining in pattern.items():
        is_list = isinstance(remaining, list) and all(isinstance(value, bool) for value in remaining)
        if not is_list or len(remaining) != ranks[name]:
            yield f"{FILE}: {PATTERN}: {name} is {remaining!r:.40} (expected {ranks[name]} truth values)"
