"""The Open-Llama architecture: configuration and modelling code for transformers."""

from workbench.models.open_llama.configuration_open_llama import OpenLlamaConfig
from workbench.models.open_llama.modeling_open_llama import (
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
    OpenLlamaModel,
    OpenLlamaPreTrainedModel,
)

__all__ = [
    "OpenLlamaConfig",
    "OpenLlamaForCausalLM",
    "OpenLlamaForSequenceClassification",
    "OpenLlamaModel",
    "OpenLlamaPreTrainedModel",
]
