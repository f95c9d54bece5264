"""Merges one layer at a time by peft, for any adapter type, without loading the model.

The adapter is attached to a skeleton: modules with the base's names and shapes, whose weights take no memory.
To merge a layer, it gets its weight, peft's `merge` is called, and the weight is taken away again.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workbench.errors import CheckpointError, first_line
from workbench.models.adapters import adapter_config
from workbench.models.checkpoints.checkpoint import BROKEN
from workbench.models.checkpoints.model_folder import HEAD, ModelFolder, is_embedding, is_head
from workbench.models.diagnosis.adapter_tensors import ROOT, AdapterTensors, check_determined, sort_tensors

ADAPTER = "default"
"""Name that peft gives a model's first adapter."""


class AdapterLayers:
    """Merges an adapter into single weights of its base by peft, without loading the base as a whole.

    Its methods take the canonical name of an adapted weight: a key of `tensors.modules`.
    """

    def __init__(
        self, config: PeftConfig, tensors: AdapterTensors, model: PeftModel | None, missing: list[str]
    ):
        """Store the arguments; `adapter_layers` makes them.

        Args:
            config: The adapter's configuration, changed to suit the skeleton.
            tensors: Tensors of the adapter file, grouped by their effect.
            model: peft's model of the skeleton, which the methods need; None if the adapter updates no layer.
            missing: Names of tensors that the configuration requires and the file lacks.
        """
        self.config, self.tensors, self.missing = config, tensors, missing
        self._model = model

    @property
    def is_linear(self) -> bool:
        """Return whether each update is independent of the base's weight and proportional to the scale.

        True for LoRA without DoRA.
        """
        return isinstance(self.config, LoraConfig) and not self.config.use_dora

    def scale(self, name: str) -> float | None:
        """Return the factor of a weight's update (alpha / rank); None if the adapter type has none."""
        return _entry(self._layer(name), "scaling")

    def rank(self, name: str) -> int | None:
        """Return the rank of a weight's update; None if the adapter type has none."""
        rank = _entry(self._layer(name), "r")
        return None if rank is None else int(rank)

    def merged(
        self, name: str, weight: Tensor, times: float = 1.0, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return a new tensor: the weight after peft's merge, in the dtype of `weight`.

        Args:
            name: Canonical name of an adapted weight.
            weight: The base's weight, with the shape that it has in the file; it isn't changed.
            times: Factor on the adapter's scale; types without a scale allow only 1.
            dtype: Dtype of the adapter's tensors during the merge; None: that of the file, at least float32.
        """
        layer = self._layer(name)
        with (
            _weight(layer, weight) as base,
            _scaled(layer, times),
            _cast(layer, base, dtype),
            torch.no_grad(),
        ):
            layer.merge()
            _forget_merge(layer)
            return cast(Tensor, cast(Any, base).weight.data)

    def changes_bias(self, name: str, weight: Tensor, bias: Tensor) -> bool:
        """Return whether peft's merge into the base's `weight` of this name also changes the layer's `bias`.

        Neither tensor is changed.
        """
        layer = self._layer(name)
        with _weight(layer, weight) as base, torch.no_grad():
            given = cast(Any, base)
            given.bias = nn.Parameter(bias.clone(), requires_grad=False)
            try:
                layer.merge()
                _forget_merge(layer)
                return not torch.equal(given.bias, bias)
            finally:
                given.bias = None

    def _layer(self, name: str) -> BaseTunerLayer:
        assert self._model is not None
        return cast(BaseTunerLayer, self._model.get_base_model().get_submodule(self.tensors.modules[name]))


def _entry(layer: BaseTunerLayer, name: str) -> float | None:
    values = getattr(layer, name, None)
    return float(values[ADAPTER]) if isinstance(values, dict) and ADAPTER in values else None


@contextmanager
def _weight(layer: BaseTunerLayer, weight: Tensor) -> Iterator[nn.Module]:
    """Put a copy of `weight` into an adapted layer within the block; yield the base's module that has it.

    Afterwards the module has its placeholder again.
    """
    base = cast(Any, layer.get_base_layer())
    placeholder = base.weight
    base.weight = nn.Parameter(weight.clone(), requires_grad=False)
    try:
        yield base
    finally:
        base.weight = placeholder


@contextmanager
def _scaled(layer: BaseTunerLayer, times: float) -> Iterator[None]:
    """Multiply the scale of a layer's adapter by `times` within the block."""
    if times == 1:
        yield
        return
    scaling = cast(dict[str, float], cast(Any, layer).scaling)
    scale = scaling[ADAPTER]
    scaling[ADAPTER] = scale * times
    try:
        yield
    finally:
        scaling[ADAPTER] = scale


@contextmanager
def _cast(layer: BaseTunerLayer, base: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Round a layer's adapter tensors to `dtype` within the block; None leaves them."""
    parameters: list[nn.Parameter] = []
    if dtype is not None:
        weight = cast(Any, base).weight
        parameters = [
            parameter for parameter in cast(nn.Module, layer).parameters() if parameter is not weight
        ]
    values = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype)
    try:
        yield
    finally:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value


def adapter_layers(path: str | Path, base: ModelFolder) -> AdapterLayers:
    """Attach the adapter at `path`, a folder or hub id, to a skeleton of the base (see the module).

    Raises:
        CheckpointError: The adapter is missing or damaged, doesn't fit the base, or needs more than its file
            and the base to be merged.
    """
    config = adapter_config.read_config(path)
    check_determined(path, config)
    shapes = _matrices(base)
    adapter_config.check_copies(path, base.weight)
    weights = adapter_config.read_weights(path)
    for name, values in weights.items():
        adapter_config.check_finite(path, name, values)
    tensors = sort_tensors(weights, config, shapes)
    config = _for_skeleton(config, tensors)
    if not tensors.modules:
        return AdapterLayers(config, tensors, None, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of peft, about fan_in_fan_out and ranks; nothing to do about them
            model = cast(PeftModel, get_peft_model(cast(Any, _skeleton(shapes, tensors, config)), config))
            expected = get_peft_model_state_dict(model, save_embedding_layers=False)
            set_peft_model_state_dict(model, dict(tensors.updates))
    except (*BROKEN, ImportError) as error:
        raise CheckpointError(
            f"{path}: does not fit {str(base.path)!r}: {first_line(error)} (was it trained on another model?)"
        ) from error
    return AdapterLayers(config, tensors, model, sorted(expected.keys() - tensors.updates.keys()))


def _forget_merge(layer: BaseTunerLayer) -> None:
    """Let a layer be merged again, into another weight: forget the merge, and PEANUT's copy of the weight."""
    layer.merged_adapters.clear()
    if hasattr(layer, "_base_weight_before_merge"):
        layer._base_weight_before_merge = None


def _matrices(base: ModelFolder) -> dict[str, tuple[int, ...]]:
    """Return canonical name -> shape of the base's modules with a weight, a tied head included.

    A canonical name lacks the prefixes of wrappers and model classes; here it also lacks the suffix
    `.weight`.
    """
    shapes = {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in base.tensors.items()
        if name.endswith(".weight")
    }
    embedding = base.embedding()
    if base.is_tied and embedding is not None:
        shapes.setdefault(HEAD.removesuffix(".weight"), tuple(base.tensors[embedding].shape))
    return shapes


def _for_skeleton(config: PeftConfig, tensors: AdapterTensors) -> PeftConfig:
    """Return a copy of the configuration by which peft only inserts the layers of the updates in the file."""
    config = copy.deepcopy(config)
    for name, value in (
        ("modules_to_save", None),
        ("trainable_token_indices", None),
        ("task_type", None),
        ("bias", "none"),
        ("init_lora_weights", True),
    ):
        if hasattr(config, name):
            setattr(config, name, value)
    if getattr(config, "target_modules", None) == "all-linear":  # needs a model of transformers
        cast(Any, config).target_modules = sorted(tensors.modules.values())
    return config


def _skeleton(shapes: dict[str, tuple[int, ...]], tensors: AdapterTensors, config: PeftConfig) -> nn.Module:
    """Return nested modules named like the base's matrices, whose weights take the memory of one number."""
    root = nn.Module()
    prefix = _prefix(tensors)
    for name, shape in shapes.items():
        if len(shape) != 2:
            continue
        weight_name = f"{name}.weight"
        path = tensors.modules.get(weight_name) or (name if is_head(weight_name) else prefix + name)
        *parents, last = path.split(".")
        parent = root
        for word in parents:
            if word not in parent._modules:
                parent.add_module(word, nn.Module())
            parent = cast(nn.Module, parent._modules[word])
        parent.add_module(last, _placeholder(weight_name, shape, path, tensors, config))
    return root


def _prefix(tensors: AdapterTensors) -> str:
    """Return the prefix by which module names in the adapter file differ from canonical names."""
    for name, module in tensors.modules.items():
        if not is_head(name):
            return module.removesuffix(name.removesuffix(".weight"))
    return ""


def _placeholder(
    name: str, shape: tuple[int, ...], path: str, tensors: AdapterTensors, config: PeftConfig
) -> nn.Module:
    """Return a module of the base's kind and shape, whose zero weights take the memory of one number."""
    first, second = shape
    embedding_key = f"{ROOT}{path}.lora_embedding_A"
    module: nn.Module
    with torch.device("meta"):
        if embedding_key in tensors.updates or is_embedding(name):
            module = nn.Embedding(first, second)
        elif getattr(config, "fan_in_fan_out", False) and not is_head(name):
            module = Conv1D(second, first)  # type: ignore[no-untyped-call]
        else:
            module = nn.Linear(second, first, bias=False)
    module.weight = nn.Parameter(torch.zeros(1, 1).expand(first, second), requires_grad=False)
    if isinstance(module, Conv1D):
        module.bias = nn.Parameter(torch.zeros(second), requires_grad=False)
    return module
