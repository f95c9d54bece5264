"""Registers Open-Llama with transformers' Auto classes under the model type `open-llama`."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from workbench.models.open_llama import (
    OpenLlamaConfig,
    OpenLlamaForCausalLM,
    OpenLlamaForSequenceClassification,
    OpenLlamaModel,
)

__all__ = [
    "OpenLlamaConfig",
    "OpenLlamaForCausalLM",
    "OpenLlamaForSequenceClassification",
    "OpenLlamaModel",
]

AutoConfig.register(OpenLlamaConfig.model_type, OpenLlamaConfig)
AutoModel.register(OpenLlamaConfig, OpenLlamaModel)
AutoModelForCausalLM.register(OpenLlamaConfig, OpenLlamaForCausalLM)
AutoModelForSequenceClassification.register(OpenLlamaConfig, OpenLlamaForSequenceClassification)
