"""A model and its tokenizer, ready to be asked."""

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


def load_model(
    path: Folder | None,
    *,
    adapter: Folder | None = None,
    quantization: Quantization = "none",
    dtype: str | Dtype = "auto",
    trust_code: bool = False,
    **settings: Any,
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode, and its tokenizer.

        model, tokenizer = load_model("MODEL", quantization="nf4", adapter="ADAPTER")

    Args:
        path: Folder, Hub id or `.gguf` file.
        adapter: Folder or Hub id of an adapter; the model is then a `PeftModel`.
        quantization: none, int8, nf4 or fp4, or a `QuantizationConfig`.
        dtype: auto (the checkpoint's own), float32, bfloat16 or float16.
        trust_code: Run the modelling code that lies beside the weights.
        settings: Further fields of `ModelConfig`, such as task, device, architecture, revision, tokenizer.

    Raises:
        WorkbenchError: An unknown setting, a checkpoint that can't be loaded, or an adapter of another model.
    """
    model = section(ModelConfig, {"path": path, "dtype": dtype, **settings}, "model")
    held = quantized(quantization)
    with trusting(trust_code):
        tokenizer = loading.load_tokenizer(model)
        num_labels = adapter_config.num_labels(adapter) if adapter else None
        base = loading.load_model(model, held, num_labels)
        if adapter is None:
            return base, tokenizer
        with_adapter = attach.load(base, adapter)
        end_at(base, adapter_config.end_tokens(adapter))
        take_template(tokenizer, adapter_config.chat_template(adapter))
        return with_adapter, tokenizer


def quantized(quantization: Quantization) -> QuantizationConfig:
    """The section of a quantization that may be given by its method alone."""
    values = quantization if isinstance(quantization, QuantizationConfig) else {"method": quantization}
    return section(QuantizationConfig, values, "quantization")
