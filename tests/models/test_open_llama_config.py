"""What an Open-Llama configuration accepts, refuses and writes."""

import json
import logging

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from workbench.models import OpenLlamaConfig, OpenLlamaModel

TINY = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}


def saved(config, folder):
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def test_defaults_are_those_of_the_first_release():
    config = OpenLlamaConfig()
    assert (config.vocab_size, config.rms_norm_eps, config.tie_word_embeddings) == (100000, 1e-6, False)
    assert config.use_memory_efficient_attention and config.use_stable_embedding
    assert config.shared_input_output_embedding
    assert (config.hidden_dropout_prob, config.attention_dropout_prob) == (0.1, 0.1)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.keys_to_ignore_at_inference == ["past_key_values"]


def test_configuration_comes_back_from_its_file_as_it_was(tmp_path):
    config = OpenLlamaConfig(
        **TINY, rope_scaling={"type": "linear", "factor": 2}, rope_theta=5e5, eos_token_id=[2, 7]
    )
    written = saved(config, tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is OpenLlamaConfig
    assert written["model_type"] == "open-llama"
    assert (
        again.to_dict() == {**config.to_dict(), "_name_or_path": str(tmp_path)}
        or again.to_dict() == config.to_dict()
    )
    assert again.rope_parameters["rope_theta"] == 5e5


def test_as_many_key_value_heads_as_heads_are_not_written(tmp_path):
    assert "num_key_value_heads" not in saved(OpenLlamaConfig(**TINY), tmp_path)
    assert OpenLlamaConfig.from_pretrained(tmp_path).num_key_value_heads == 4
    assert saved(OpenLlamaConfig(**TINY, num_key_value_heads=2), tmp_path)["num_key_value_heads"] == 2
    assert OpenLlamaConfig.from_pretrained(tmp_path).num_key_value_heads == 2


def test_misspelled_flag_of_old_files_is_read_and_never_written(tmp_path):
    config = OpenLlamaConfig(**TINY, use_memorry_efficient_attention=False)
    assert config.use_memory_efficient_attention is False
    assert "use_memorry_efficient_attention" not in saved(config, tmp_path)


def test_misspelled_flag_works_as_an_override_too(tmp_path):
    OpenLlamaConfig(**TINY).save_pretrained(tmp_path)
    config = OpenLlamaConfig.from_pretrained(tmp_path, use_memorry_efficient_attention=False)
    assert config.use_memory_efficient_attention is False


def test_misspelled_flag_that_contradicts_the_right_one_is_refused():
    with pytest.raises(ValueError, match="keep the first only"):
        OpenLlamaConfig(use_memory_efficient_attention=True, use_memorry_efficient_attention=False)
    assert OpenLlamaConfig(use_memory_efficient_attention=False, use_memorry_efficient_attention=False)


@pytest.mark.parametrize(
    "rope",
    [
        {"type": "linear", "factor": 2.0},
        {"type": "linear", "factor": 2},
        {"type": "linear", "factor": 1.0},
        {"rope_type": "dynamic", "factor": 4.0},
        {"type": "linear", "rope_type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        },
        None,
    ],
)
def test_rope_scaling_is_accepted(rope):
    rope = rope and dict(rope)
    config = OpenLlamaConfig(**TINY, rope_scaling=rope)
    assert config.rope_parameters["rope_type"] == (rope or {}).get(
        "rope_type", (rope or {}).get("type", "default")
    )
    OpenLlamaModel(config)


@pytest.mark.parametrize(
    "rope",
    [
        {},
        [],
        "linear",
        {"type": "linear", "factor": True},
        {"type": "linear", "factor": 0.99},
        {"type": "linear", "factor": "2"},
        {"type": "linear", "factor": float("nan")},
        {"type": "dynamic", "factor": float("inf")},
        {"type": "dynamic"},
        {"type": "linear", "factor": 2.0, "surplus": 1},
        {"type": "linear", "rope_type": "dynamic", "factor": 2.0},
        {"type": "cubic", "factor": 2.0},
    ],
)
def test_rope_scaling_is_refused(rope):
    with pytest.raises(ValueError, match="rope_scaling"):
        OpenLlamaConfig(**TINY, rope_scaling=rope)


def test_rope_scaling_of_an_override_is_checked_when_the_model_is_built():
    config = OpenLlamaConfig(**TINY)
    config.rope_parameters = {"rope_type": "cubic", "rope_theta": 1e4}
    with pytest.raises(ValueError, match="unknown type 'cubic'"):
        OpenLlamaModel(config)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"hidden_size": 18}, "divisible"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"hidden_size": 12}, "even width"),
        ({"head_dim": 7}, "even width, got 7"),
        ({"head_dim": 0}, "head_dim must be 1 or more"),
        ({"hidden_size": 18, "head_dim": 4}, "divisible"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"sliding_window": 0}, "sliding_window must be 1 or more, got 0"),
        ({"layer_types": ["sliding_attention"] * 2}, "layer_types with 'sliding_attention'"),
        ({"sliding_window": 4, "layer_types": ["chunked_attention"] * 2}, "only 'full_attention' and 'sl"),
        ({"sliding_window": 4, "layer_types": ["sliding_attention"] * 3}, "must be equal to the number of"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be 1 or more, got 0"),
        ({"num_key_value_heads": -4}, "num_key_value_heads must be 1 or more"),
        ({"vocab_size": "100"}, "vocab_size"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 0}},
            "rope_theta must be a finite number",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": -2.0}},
            "factor must be a finite number above 0",
        ),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention alone"),
        ({"extended_from": "x"}, "extended_from must be a row"),
        ({"max_position_embeddings": 2.5}, "max_position_embeddings"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be from 0 to 1"),
        ({"attention_dropout_prob": float("nan")}, "attention_dropout_prob must be from 0 to 1"),
    ],
)
def test_shape_that_no_open_llama_has_is_refused_by_name(fields, complaint):
    with pytest.raises((ValueError, StrictDataclassError), match=complaint):
        OpenLlamaConfig(**{**TINY, **fields})


def test_llama_configuration_is_taken_with_its_own_defaults_and_the_switches_off(tmp_path):
    llama = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 4, "rope_theta": 5e5}
    (tmp_path / "config.json").write_text(json.dumps(llama))
    config = OpenLlamaConfig.from_pretrained(tmp_path)
    assert (config.vocab_size, config.pad_token_id, config.rope_parameters["rope_theta"]) == (
        32000,
        None,
        5e5,
    )
    assert not config.use_stable_embedding and not config.shared_input_output_embedding
    assert config.hidden_dropout_prob == config.attention_dropout_prob == 0.0


def test_a_relatives_folder_is_taken_in_silence_and_one_of_another_kind_with_transformers_warning(
    tmp_path, caplog
):
    for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma"):
        folder = tmp_path / kind
        folder.mkdir()
        sizes = {
            "hidden_size": 16,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "sliding_window": None,
        }
        (folder / "config.json").write_text(json.dumps({"model_type": kind} | sizes))
        OpenLlamaConfig.from_pretrained(folder)
        warnings = [record.getMessage() for record in caplog.records]
        assert any("can yield errors" in warning for warning in warnings) == (kind == "gemma")
    assert OpenLlamaConfig.from_dict(json.loads((tmp_path / "llama" / "config.json").read_text())) == (
        OpenLlamaConfig.from_pretrained(tmp_path / "llama", name_or_path="")
    )


def test_of_bitsandbytes_warnings_only_the_one_about_its_missing_kernel_is_silent(caplog):
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "no module")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
