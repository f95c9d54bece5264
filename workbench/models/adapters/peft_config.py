"""Translates the section `adapter` to the configuration class of its method in peft; checks its options."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args

from peft import PeftConfig, PeftModel, PeftType, TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel

from workbench.config.adapter import (
    ALL_LINEAR,
    LORA_KEYS,
    LORA_METHODS,
    AdapterConfig,
    AdapterInit,
    AdapterMethod,
)
from workbench.errors import CheckpointError, ConfigError, first_line
from workbench.models.adapters.adapter_config import HEAD
from workbench.models.adapters.adaptive_ranks import check_schedule, schedule
from workbench.models.adapters.config_bounds import check_pattern_speed, check_patterns
from workbench.models.adapters.config_fields import UNSUPPORTED, fields_of, problem_of
from workbench.models.adapters.init_from_weights import FROM_WEIGHTS
from workbench.models.adapters.targets import (
    check_matches,
    norm_layers,
    other_towers,
    text_layers,
    trainable_tokens,
)
from workbench.models.experts import settle_targets

PEFT_INITS: dict[AdapterInit, bool | str] = {
    AdapterInit.default: True,
    AdapterInit.gaussian: "gaussian",
    AdapterInit.orthogonal: "orthogonal",
    AdapterInit.eva: "eva",
}
"""Initialization -> its name in peft; those from the base weights are missing, since this project computes
them."""
OF_THE_RUN = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "runtime_config",
    "task_type",
}
"""Fields of peft's configurations that this project sets, and that no option may set."""
OTHER_KEYS = {
    "target_modules": "adapter.target_modules",
    "modules_to_save": "adapter.modules_to_save",
    "use_dora": "adapter.method=dora",
}
"""Field of peft's configurations -> key of this project that sets it."""
REFUSED = {
    **UNSUPPORTED,
    "layer_replication": "repeats layers, so the result is another model",
    "kasa_config": "cuts the base's own weights, which a load of the base doesn't (adapter.init=pissa)",
    "monteclora_config": "learns random perturbations of the weights, which no merge holds",
    "arrow_config": "mixes LoRAs for each token, which no weight can hold",
    "corda_config": "changes the base by values that are not saved (adapter.init=pissa)",
    "lora_ga_config": "changes the base by values that are not saved (adapter.init=pissa)",
    "loftq_config": "changes the base by values that are not saved (adapter.init=pissa)",
    "fan_in_fan_out": "peft sets it by each layer's class",
    "use_qalora": "acts on layers of GPTQ alone, which are unpacked here",
    "qalora_group_size": "acts on layers of GPTQ alone, which are unpacked here",
    "megatron_core": "acts on layers of Megatron alone, which are not supported",
    "use_asa": "chooses subspaces by a schedule that a stopped training could not resume exactly",
}
"""Option -> reason why it is refused."""
FEEDFORWARD = ["down_proj"]
"""Layers of LLaMA's kind whose inputs IA3 scales instead of their outputs (arXiv:2205.05638, figure 3)."""
PATTERNS = (
    "rank_pattern",
    "alpha_pattern",
    "lambda_pattern",
    "n_frequency_pattern",
    "block_size_pattern",
)
"""Options that map patterns of layer names to numbers."""


def peft_type(method: AdapterMethod) -> PeftType:
    """Return the peft type of a method other than `none`; DoRA's is LORA."""
    return PeftType.LORA if method in LORA_METHODS else PeftType(method.name.upper())


def check_options(adapter: AdapterConfig, steps: int | None = None) -> None:
    """Check the names and types of `adapter.options` against the fields of the method's class in peft.

    Args:
        adapter: The section `adapter`.
        steps: Number of optimizer steps, which AdaLoRA's options must suit; None: not known yet.

    Raises:
        ConfigError: An option is unknown, refused, set by another key, or has a wrong type; the message names
            it and the way out.
    """
    if not adapter.options or adapter.is_none:
        if adapter.options:
            raise ConfigError("adapter.options: has no effect with adapter=none (leave it out)")
        return
    kind = peft_type(adapter.method)
    spec = fields_of(kind.value)
    owned = _owned(adapter)
    known = sorted(spec.keys() - owned.keys() - OF_THE_RUN - REFUSED.keys())
    for name, value in adapter.options.items():
        if name in owned:
            raise ConfigError(f"adapter.options.{name}: has a key of its own ({owned[name]})")
        if name == "eva_config" and adapter.init is not AdapterInit.eva:
            raise ConfigError("adapter.options.eva_config: has no effect without adapter.init=eva")
        if name in REFUSED and name in spec and value is not None and value is not False:
            raise ConfigError(f"adapter.options.{name}: {REFUSED[name]}")
        if name not in spec or name in OF_THE_RUN:
            class_name = PEFT_TYPE_TO_CONFIG_MAPPING[kind].__name__
            raise ConfigError(
                f"adapter.options.{name}: peft's {class_name} has no such option (known: {', '.join(known)})"
            )
        if problem := problem_of(name, value, spec[name], strict=True):
            raise ConfigError(f"adapter.options.{problem}")
    if adapter.method is AdapterMethod.adalora:
        check_schedule(adapter.options, steps)


def peft_config(model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int] = ()) -> PeftConfig:
    """Translate the section `adapter` to a new peft configuration for `model`, which isn't changed.

    Args:
        model: The base; it may be on the meta device.
        adapter: The section, with a method other than `none`.
        token_ids: Tokens whose embeddings are trained, too; only LoRA and DoRA can do that.

    Raises:
        ConfigError: An option has an impossible value, or names no layer.
    """
    check_options(adapter)
    classifier = is_classifier(model)
    modules_to_save = sorted({*adapter.modules_to_save, *([HEAD] if classifier else [])})
    values: dict[str, Any] = {
        "task_type": TaskType.SEQ_CLS if classifier else TaskType.CAUSAL_LM,
        "target_modules": _targets(model, adapter, modules_to_save),
        "modules_to_save": modules_to_save or None,
        **_excluded(model),
        **_defaults(model, adapter, token_ids),
    }
    values = {name: value for name, value in values.items() if name not in adapter.options}
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type(adapter.method)]
    try:
        config = cast(PeftConfig, config_class(**values, **_options(adapter)))
        check_patterns(config, Path("adapter.options"))
    except (ValueError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise ConfigError(f"adapter.options: {first_line(error)}") from error
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    _check_names(model, adapter.options, config)
    settle_targets(model, config, is_chosen=adapter.target_modules != [ALL_LINEAR])
    return config


def check_biases(model: PeftModel, adapter: AdapterConfig) -> None:
    """If the adapter trains biases, check that each adapted layer of the base has a bias to merge into.

    Raises:
        ConfigError: A layer has no bias; the message names it.
    """
    key = "options.lora_bias" if adapter.options.get("lora_bias") else "method"
    if key == "method" and adapter.method is not AdapterMethod.beft:
        return
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and getattr(module.get_base_layer(), "bias", None) is None:
            layer = name.rpartition(".")[2]
            raise ConfigError(
                f"adapter.{key}: trains a bias, and {layer!r} has none to merge it into (name layers "
                "with a bias in adapter.target_modules)"
            )


def is_classifier(model: PreTrainedModel) -> bool:
    """Return whether the model's class is a sequence classifier's, by its name."""
    return type(model).__name__.endswith("ForSequenceClassification")


def _options(adapter: AdapterConfig) -> dict[str, Any]:
    """Return `adapter.options` for peft, with nested mappings converted to peft's nested classes."""
    spec = fields_of(peft_type(adapter.method).value)
    return {name: _nested(spec[name][0], value) for name, value in adapter.options.items()}


def _nested(annotation: Any, value: Any) -> Any:
    """Convert a mapping to the dataclass in a field's type annotation; return other values unchanged."""
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and is_dataclass(choice) and isinstance(value, Mapping):
            return choice(**value)
    return value


def _owned(adapter: AdapterConfig) -> dict[str, str]:
    """Return field of peft's configuration -> key of the section `adapter` that sets the field."""
    lora = {field: f"adapter.{key}" for key, field in reversed(LORA_KEYS.items())}
    return OTHER_KEYS | (lora if adapter.method in LORA_METHODS else {})


def _targets(model: PreTrainedModel, adapter: AdapterConfig, modules_to_save: Iterable[str]) -> list[str]:
    """Return the last parts of the names of the layers to adapt, such as q_proj."""
    targets = sorted(set(adapter.target_modules))
    if targets != [ALL_LINEAR]:
        return targets
    if adapter.method is AdapterMethod.ln_tuning:
        return norm_layers(model)
    return [name for name in text_layers(model) if name not in modules_to_save]


def _excluded(model: PreTrainedModel) -> dict[str, str]:
    """Return the field of peft's configuration that leaves out layers which texts don't reach, if any."""
    towers = "|".join(re.escape(tower) for tower in other_towers(model))
    return {"exclude_modules": rf"(.*\.)?({towers})\..*"} if towers else {}


def _defaults(model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int]) -> dict[str, Any]:
    """Return the fields of peft's configuration that a method needs besides its targets and options.

    For LoRA and DoRA these are rank, alpha, ... from the section `adapter`.
    """
    if adapter.method in LORA_METHODS:
        return _lora_values(model, adapter, token_ids)
    if trainable_tokens(model, adapter, token_ids):
        raise ConfigError(
            f"adapter.method: {adapter.method.name} can't train the embeddings of the tokens that were added "
            "to this model (adapter=lora)"
        )
    if adapter.method is AdapterMethod.ia3:
        return {"feedforward_modules": _feedforward(model, adapter)}
    if adapter.method is AdapterMethod.adalora:
        return schedule(adapter.options)
    return {"progressbar": False} if adapter.method is AdapterMethod.frod else {}


def _feedforward(model: PreTrainedModel, adapter: AdapterConfig) -> list[str]:
    """Return the last parts of the names of adapted layers whose inputs, not outputs, IA3 scales."""
    known: Mapping[str, list[str]] = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    names = known.get(model.config.model_type, FEEDFORWARD)
    targets = _targets(model, adapter, adapter.modules_to_save)
    return [name for name in targets if name in names]


def _lora_values(model: PreTrainedModel, adapter: AdapterConfig, token_ids: Sequence[int]) -> dict[str, Any]:
    """Return the fields of peft's LoraConfig that the section's keys set: rank, alpha, dropout, ..."""
    # Initialized from the weights: a trained half, and a frozen half that cancels its initial values.
    rank_factor = 2 if adapter.init in FROM_WEIGHTS else 1
    alpha = adapter.alpha * (rank_factor**0.5 if adapter.use_rslora else rank_factor)
    return {
        "r": adapter.rank * rank_factor,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.method is AdapterMethod.dora,
        "init_lora_weights": PEFT_INITS.get(adapter.init, True),
        "rank_pattern": {name: rank * rank_factor for name, rank in adapter.rank_pattern.items()},
        "trainable_token_indices": trainable_tokens(model, adapter, token_ids),
    }


def _check_names(model: nn.Module, options: Mapping[str, Any], config: PeftConfig) -> None:
    """Check that each option that names layers matches one, in reasonable time.

    Raises:
        ConfigError: A name matches no layer, or is slow to match; the message names the option.
    """
    names = [name for name, _ in model.named_modules()]
    try:
        check_pattern_speed(config, names, Path("adapter.options"))
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    for option in (*PATTERNS, "exclude_modules", "feedforward_modules"):
        given = options.get(option) or ()
        if not isinstance(given, str):
            check_matches(model, given, f"adapter.options.{option}", are_patterns=option in PATTERNS)
