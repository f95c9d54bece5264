"""Fields of config.json that change what weights compute, as the versions of transformers write them."""

from copy import deepcopy

import pytest
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config

from workbench.models.checkpoints.computing_fields import changed_fields

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
PUBLISHED = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "gemma3_text": Gemma3TextConfig,
    "mistral": MistralConfig,
}
OLD = {
    "llama": {"rope_theta": 5e5, "rope_scaling": LLAMA3, "rms_norm_eps": 1e-5},
    "qwen2": {"rope_theta": 1e6, "sliding_window": 32768, "use_sliding_window": False},
    "gemma3_text": {"rope_theta": 1e6, "rope_local_base_freq": 10000.0, "head_dim": 16},
    "mistral": {"rope_theta": 1e4, "sliding_window": 4096},
}
"""Fields of a config.json as an earlier version of transformers wrote them."""


def old(model_type, **changes):
    return deepcopy({"model_type": model_type, **SIZES, **OLD[model_type], **changes})


@pytest.mark.parametrize("model_type", OLD)
def test_what_a_newer_version_writes_of_the_same_model_is_no_change(model_type):
    published = old(model_type)
    written = PUBLISHED[model_type](**published).to_dict()
    assert changed_fields(published, written) == [] == changed_fields(written, published)


CHANGES = {
    "the scaling is lost": ("llama", {"rope_scaling": None}, "rope_type='default' instead of 'llama3'"),
    "another scaling": ("llama", {"rope_scaling": LLAMA3 | {"factor": 32.0}}, "factor=32.0 instead of 8.0"),
    "another base": ("llama", {"rope_theta": 10000.0}, "rope_theta=10000.0 instead of 500000.0"),
    "another epsilon": ("llama", {"rms_norm_eps": 1e-6}, "rms_norm_eps=1e-06 instead of 1e-05"),
    "no epsilon": ("llama", {"rms_norm_eps": None}, "rms_norm_eps=None instead of 1e-05"),
    "no window": ("mistral", {"sliding_window": None}, "sliding_window=None instead of 4096"),
    "another base of some layers": (
        "gemma3_text",
        {"rope_theta": 5e5},
        "full_attention: rope_theta=500000.0 instead of 1000000.0",
    ),
    "another width": ("qwen2", {"hidden_size": 32}, "hidden_size=32 instead of 64"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_the_weights_compute_is_said(change):
    model_type, fields, said = CHANGES[change]
    base = old(model_type)
    before = deepcopy(base)
    assert changed_fields(base, old(model_type, **fields)) == [said]
    assert base == before


def test_a_config_that_transformers_can_not_read_is_compared_as_it_is():
    config = {"model_type": "unheard-of", "hidden_size": 8, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert changed_fields(config, config | {"hidden_size": 9}) == ["hidden_size=9 instead of 8"]
    changed = config | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    assert changed_fields(config, changed) == ["rope_type='dynamic' instead of 'linear'"]
    assert changed_fields(config | {"model_type": "llama", "hidden_size": "wide"}, config) == [
        "model_type='unheard-of' instead of 'llama'",
        "hidden_size=8 instead of 'wide'",
    ]
