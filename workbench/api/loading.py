"""Loads a model and its tokenizer."""

from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models import loading
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.plain_values import Folder, section
from workbench.trust import trusting

Quantization = str | QuantizationMethod | QuantizationConfig
"""How to quantize a model: a method's name, the enum's option, or a whole quantization section."""


def load_model(
    path: Folder | None,
    *,
    adapter: Folder | None = None,
    quantization: Quantization = "none",
    dtype: str | Dtype = "auto",
    trust_code: bool = False,
    **settings: Any,
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load a model in eval mode, and its tokenizer.

        model, tokenizer = load_model("MODEL", quantization="nf4", adapter="ADAPTER")

    Args:
        path: Folder, Hub id or `.gguf` file; None: a new model with random weights, from the setting `init`.
        adapter: Folder or Hub id of an adapter; the model is then a `PeftModel`. None: no adapter.
        quantization: none, int8, nf4 or fp4, or a `QuantizationConfig`.
        dtype: auto (that of the checkpoint; of a `.gguf` file bfloat16), float32, bfloat16 or float16.
        trust_code: Run modelling code from the model's folder.
        settings: Further fields of `ModelConfig`, such as task, device, architecture, revision, tokenizer.

    Raises:
        WorkbenchError: A setting is unknown, or model or adapter can't be loaded or don't fit.
    """
    model = section(ModelConfig, {"path": path, "dtype": dtype, **settings}, "model")
    quantization_section = quantized(quantization)
    with trusting(trust_code):
        tokenizer = loading.load_tokenizer(model)
        num_labels = adapter_config.num_labels(adapter) if adapter else None
        base = loading.load_model(model, quantization_section, num_labels)
        if adapter is None:
            return base, tokenizer
        take_template(tokenizer, adapter_config.chat_template(adapter))
        return load_adapter(base, adapter), tokenizer


def load_adapter(base: PreTrainedModel, adapter: Folder) -> PeftModel:
    """Attach a stored adapter to its base model, and return both as a `PeftModel`.

    The base model is changed: it has the adapter's layers, and its generated answers end at the adapter's end
    tokens.

    Raises:
        CheckpointError: There is no adapter, or it doesn't fit the model.
    """
    model = attach.load(base, adapter)
    end_at(base, adapter_config.end_tokens(adapter))
    return model


def quantized(quantization: Quantization) -> QuantizationConfig:
    """Return a new quantization section: a copy of the given one, or the defaults with the given method.

    Raises:
        ConfigError: The method is unknown, or a value of the given section is invalid.
    """
    values = quantization if isinstance(quantization, QuantizationConfig) else {"method": quantization}
    return section(QuantizationConfig, values, "quantization")
