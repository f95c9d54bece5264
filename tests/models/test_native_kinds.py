"""What transformers has no class for, or can't be trained here, is refused in a short line before loading."""

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import PLAIN, SIZES, VOCABULARY, at, llama, words_tokenizer
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
    T5Config,
    ViTConfig,
    Wav2Vec2Config,
    WhisperConfig,
)

from workbench.config.model import Architecture, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError
from workbench.models.loading import check_model, load_model, outline

ROOMY = SIZES | {"vocab_size": VOCABULARY + 4}
"""Rows for the tokens that tokenizers of Qwen and GPT-NeoX add."""
QWEN = Qwen2Config(**ROOMY, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
BERT = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)
QUANTIZED = {
    "hqq": {"quant_method": "hqq", "quant_config": {}},
    "mxfp4": {"quant_method": "mxfp4"},
    "torchao": {"quant_method": "torchao", "quant_type": {}},
    "an unnamed method": {"bits": 3},
}


def saved(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return folder


def described(folder: Path, **changes) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def refusal(
    folder: Path, architecture: Architecture = Architecture.native, task: Task = Task.causal_lm
) -> str:
    """The short line with which both the early check and loading refuse a model."""
    section = at(folder, architecture=architecture, task=task)
    with pytest.raises(CheckpointError) as early:
        check_model(section, PLAIN)
    with pytest.raises(CheckpointError) as late:
        load_model(section, PLAIN)
    message = str(early.value)
    assert message == str(late.value)
    assert "\n" not in message and len(message.replace(str(folder), "")) < 250
    return message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (T5Config(vocab_size=VOCABULARY), "'t5' is an encoder-decoder"),
        (BartConfig(vocab_size=VOCABULARY), "'bart' is an encoder-decoder"),
        (WhisperConfig(), "'whisper' is an encoder-decoder"),
        (ViTConfig(), "'vit': transformers has no causal language model"),
        (Wav2Vec2Config(), "'wav2vec2': transformers has no causal language model"),
        (BertConfig(**BERT), "'bert' is a bidirectional encoder"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_a_kind_of_model_that_predicts_no_next_token_is_refused_by_its_configuration_alone(
    tmp_path, config, words
):
    config.save_pretrained(tmp_path)
    assert words in refusal(tmp_path)
    with pytest.raises(CheckpointError, match=config.model_type):
        outline(at(tmp_path, architecture=Architecture.native))


def test_an_encoder_is_a_classifier_and_a_decoder_of_its_kind_a_causal_model(tmp_path):
    assert "model.task=sequence_classification supports it" in refusal(
        saved(tmp_path / "a", BertModel(BertConfig(**BERT)))
    )
    encoder = saved(tmp_path / "b", BertForSequenceClassification(BertConfig(**BERT)))
    check_model(at(encoder, architecture=Architecture.native, task=Task.sequence_classification), PLAIN)
    decoder = saved(tmp_path / "c", BertLMHeadModel(BertConfig(**BERT, is_decoder=True)))
    check_model(at(decoder, architecture=Architecture.native), PLAIN)
    sizes = dict(decoder_layers=1, decoder_ffn_dim=32, d_model=32, decoder_attention_heads=2)
    bart = BartConfig(vocab_size=VOCABULARY, is_decoder=True, is_encoder_decoder=False, **sizes)
    check_model(at(saved(tmp_path / "d", BartForCausalLM(bart)), architecture=Architecture.native), PLAIN)


@pytest.mark.parametrize("architecture", Architecture)
@pytest.mark.parametrize("method", QUANTIZED)
def test_weights_that_another_tool_quantized_are_refused_with_its_name_and_the_way_out(
    tmp_path, method, architecture
):
    described(saved(tmp_path, llama()), quantization_config=QUANTIZED[method])
    message = refusal(tmp_path, architecture)
    assert f"quantized by {method!r}" in message and "quantization=nf4 or int8" in message


def test_a_folder_of_bitsandbytes_is_said_to_be_quantized(tmp_path, caplog):
    whole = saved(tmp_path / "whole", Qwen2ForCausalLM(QWEN))
    model = load_model(
        at(whole, architecture=Architecture.native), QuantizationConfig(method=QuantizationMethod.nf4)
    )
    stored = saved(tmp_path / "stored", model)
    caplog.clear()
    with caplog.at_level("INFO"):
        load_model(at(stored, architecture=Architecture.native), PLAIN)
    assert "quantization bitsandbytes, as stored" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"compression_config": QUANTIZED["torchao"]},
        {"text_config": {"quantization_config": QUANTIZED["hqq"]}},
        {"quantization_config": "int4"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_quantization_is_found_wherever_config_json_says_it(tmp_path, changes):
    described(saved(tmp_path, llama()), **changes)
    assert f"config.json: {next(iter(changes))}" in refusal(tmp_path)


def test_the_hint_of_a_model_that_is_no_llama_leads_to_no_second_refusal(tmp_path):
    saved(tmp_path / "neox", GPTNeoXForCausalLM(GPTNeoXConfig(**ROOMY)))
    assert "auto supports it" in refusal(tmp_path / "neox", Architecture["open-llama"])
    check_model(at(tmp_path / "neox"), PLAIN)
    ViTConfig().save_pretrained(tmp_path / "vit")
    assert refusal(tmp_path / "vit", Architecture["open-llama"]).endswith("(a decoder-only language model)")
    assert "has no causal language model of this type" in refusal(tmp_path / "vit", Architecture.auto)


def test_a_model_type_that_transformers_does_not_know_is_one_short_line(tmp_path):
    described(saved(tmp_path, Qwen2ForCausalLM(QWEN)), model_type="never-heard-of")
    assert "has no model_type 'never-heard-of'" in refusal(tmp_path)


@pytest.mark.parametrize(
    "model", [Qwen2Model(QWEN), LlamaModel(llama().config)], ids=["Qwen2Model", "LlamaModel"]
)
def test_a_causal_model_without_its_head_is_refused_before_loading(tmp_path, model):
    message = refusal(saved(tmp_path, model))
    assert f"the language model head, lm_head.weight, is missing (saved as {type(model).__name__}" in message


def test_a_head_that_is_tied_or_has_another_name_is_there(tmp_path):
    tied = Qwen2Model(Qwen2Config(**ROOMY, num_key_value_heads=2, tie_word_embeddings=True))
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(**ROOMY))
    for name, model in (("tied", tied), ("neox", neox)):
        section = at(saved(tmp_path / name, model), architecture=Architecture.native)
        check_model(section, PLAIN)
        load_model(section, PLAIN)


def test_a_native_model_whose_weights_are_a_pickle_of_tensors_is_taken_and_one_with_code_is_not(tmp_path):
    model = saved(tmp_path, Qwen2ForCausalLM(QWEN))
    (model / "model.safetensors").unlink()
    torch.save(Qwen2ForCausalLM(QWEN).state_dict(), model / "pytorch_model.bin")
    check_model(at(model, architecture=Architecture.native), PLAIN)
    load_model(at(model, architecture=Architecture.native), PLAIN)
    torch.save({"lm_head.weight": Path("/")}, model / "pytorch_model.bin")
    assert "the pickle contains code" in refusal(model)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_native_model_with_a_damaged_file_is_refused_before_loading(tmp_path, damage):
    saved(tmp_path, Qwen2ForCausalLM(QWEN))
    weights = tmp_path / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        weights.unlink()
        index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert damage in refusal(tmp_path)
