"""What load_model and check_model promise about devices, new models and other architectures."""

import json
import logging

import pytest
import torch
from tiny_checkpoints import IDS, PLAIN, SIZES, VOCABULARY, at, llama, logits, words_tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.import_utils import is_flash_attn_2_available

from workbench.config.model import Architecture, Attention, Device, Dtype, ModelConfig, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError, ConfigError, DeviceError
from workbench.models import OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.device import attention_name
from workbench.models.loading import check_model, load_model
from workbench.models.quantization import Linear4bit

NF4 = QuantizationConfig(method=QuantizationMethod.nf4)
TINY = {name: value for name, value in SIZES.items() if name not in ("vocab_size", "initializer_range")}


def new(folder, task=Task.causal_lm, dtype=Dtype.auto, architecture=Architecture.auto, **init):
    words_tokenizer().save_pretrained(folder)
    init = TINY | init
    return ModelConfig(tokenizer=str(folder), init=init, task=task, dtype=dtype, architecture=architecture)


def qwen2(folder):
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in SIZES.items()}, num_key_value_heads=2)).eval()
    model.save_pretrained(folder)
    return model


def test_a_loaded_model_is_in_eval_mode_and_says_what_it_is_in_one_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, "workbench")
    llama().save_pretrained(tmp_path)
    model = load_model(at(tmp_path), NF4)
    assert not model.training
    assert model.name_or_path == str(tmp_path)
    said = [record.getMessage() for record in caplog.records if record.name == "workbench"]
    assert len(said) == 1
    count = sum(parameter.numel() for parameter in llama().parameters())
    for fact in (str(tmp_path), "LLaMA", f"{count:,} parameters", "float32", "nf4", "sdpa", "cpu"):
        assert fact in said[0]


@pytest.mark.parametrize("task", Task)
def test_a_new_model_has_the_given_fields_and_the_tokenizers_tokens(tmp_path, task):
    model = load_model(new(tmp_path, task, num_key_value_heads=2), PLAIN)
    classes = {
        Task.causal_lm: OpenLlamaForCausalLM,
        Task.sequence_classification: OpenLlamaForSequenceClassification,
    }
    assert type(model) is classes[task]
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.num_key_value_heads) == (VOCABULARY, 64, 2)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.use_stable_embedding and config.shared_input_output_embedding
    assert model.dtype == torch.float32


def test_a_new_model_follows_torchs_seed(tmp_path):
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(load_model(new(tmp_path), PLAIN).model.layers[0].mlp.up_proj.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_new_model_keeps_its_rotary_frequencies_in_float32(tmp_path):
    model = load_model(new(tmp_path, dtype=Dtype.bfloat16), PLAIN)
    assert model.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ({"hiden_size": 64}, "model.init.hiden_size"),
        ({"hidden_size": 65}, "model.init: hidden_size must be divisible"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "spiral"),
        ({"vocab_size": 50}, "96 tokens"),
    ],
    ids=str,
)
def test_fields_that_no_model_can_have_are_refused_before_the_work(tmp_path, init, said):
    for act in (check_model, load_model):
        with pytest.raises((ConfigError, CheckpointError), match=said):
            act(new(tmp_path, **init), PLAIN)


def test_new_weights_are_not_quantized(tmp_path):
    with pytest.raises(ConfigError, match="model.init: new weights can't be trained in nf4"):
        load_model(new(tmp_path), NF4)


def test_a_new_native_model_is_refused():
    with pytest.raises(ConfigError, match="model.init"):
        ModelConfig(init=dict(TINY), architecture=Architecture.native)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_the_work(tmp_path):
    llama().save_pretrained(tmp_path)
    for act in (check_model, load_model):
        with pytest.raises(DeviceError, match="model.device: 'cuda'"):
            act(at(tmp_path, device=Device.cuda), NF4)


def test_no_path_is_refused():
    with pytest.raises(ConfigError, match="model.path: not given"):
        load_model(ModelConfig(), PLAIN)


@pytest.mark.parametrize("attention", Attention)
def test_every_attention_gives_the_same_logits(tmp_path, attention):
    model = llama()
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(
        logits(load_model(at(tmp_path, attention=attention), PLAIN)), logits(model), rtol=0, atol=1e-5
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("attention", [Attention.xformers, Attention.flash_attention_2])
def test_a_kernel_that_is_not_there_is_replaced_and_said(tmp_path, attention, caplog):
    llama().save_pretrained(tmp_path)
    with caplog.at_level("INFO", "workbench"):
        logits(load_model(at(tmp_path, attention=attention), PLAIN))
    assert f"{attention.value} has no kernel for cpu" in caplog.text and "sdpa" in caplog.text


@pytest.mark.parametrize(
    ("dtype", "device", "reason"),
    [
        (torch.bfloat16, "cpu", "no kernel for cpu"),
        (torch.float32, "cuda", "no kernel for float32"),
    ],
)
def test_flash_attention_is_chosen_only_where_it_has_a_kernel(dtype, device, reason, caplog):
    with caplog.at_level("INFO", "workbench"):
        assert attention_name(Attention.flash_attention_2, dtype, torch.device(device)) == "sdpa"
    assert reason in caplog.text


@pytest.mark.skipif(is_flash_attn_2_available(), reason="flash-attn is installed")
def test_flash_attention_that_is_not_installed_is_named(caplog):
    with caplog.at_level("INFO", "workbench"):
        device = torch.device("cuda")
        assert attention_name(Attention.flash_attention_2, torch.bfloat16, device) == "sdpa"
    assert "needs the package flash-attn" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash-attn is not installed")
def test_flash_attention_gives_the_numbers_of_eager_attention(tmp_path):
    llama().save_pretrained(tmp_path)
    found, wanted = (
        logits(load_model(at(tmp_path, attention=attention, dtype=Dtype.bfloat16), PLAIN))
        for attention in (Attention.flash_attention_2, Attention.eager)
    )
    torch.testing.assert_close(found, wanted, atol=0.3, rtol=0.05)


def test_check_model_passes_a_good_model_and_finds_a_bad_one(tmp_path):
    llama().save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    check_model(at(tmp_path), NF4)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="model.safetensors: truncated"):
        check_model(at(tmp_path), NF4)


def test_a_native_model_is_the_one_of_transformers(tmp_path):
    reference = qwen2(tmp_path)
    plain = load_model(at(tmp_path, architecture=Architecture.native, fused=False), PLAIN)
    assert type(plain) is Qwen2ForCausalLM
    assert torch.equal(logits(plain), logits(reference))
    model = load_model(at(tmp_path, architecture=Architecture.native), PLAIN)
    torch.testing.assert_close(logits(model), logits(reference), rtol=1e-5, atol=1e-5)


def test_a_native_model_is_quantized_but_for_its_head(tmp_path):
    qwen2(tmp_path)
    model = load_model(at(tmp_path, architecture=Architecture.native), NF4)
    assert isinstance(model.model.layers[1].self_attn.q_proj, Linear4bit)
    assert not isinstance(model.lm_head, Linear4bit)


@pytest.mark.parametrize("own", [None, -1, 0, 2])
@pytest.mark.parametrize("architecture", Architecture)
def test_a_classifier_reads_the_last_token_before_what_the_tokenizer_pads_with(tmp_path, architecture, own):
    llama(pad_token_id=own if own != -1 else None).save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    if own == -1:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": -1}))
    section = at(tmp_path, architecture=architecture, task=Task.sequence_classification, pad_token="w9")
    model = load_model(section, PLAIN, num_labels=3)
    assert model.config.pad_token_id == 9
    alone = logits(model, IDS[:1, :6])
    padded = torch.cat([IDS[:1, :6], torch.full((1, 4), 9)], 1)
    torch.testing.assert_close(logits(model, torch.cat([padded, IDS[1:]]))[:1], alone)


def test_a_native_model_with_missing_tensors_is_refused(tmp_path):
    model = qwen2(tmp_path)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "norm" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(CheckpointError, match="5 tensors missing: .*norm.* and 2 more"):
        load_model(at(tmp_path, architecture=Architecture.native), PLAIN)


@pytest.mark.parametrize("change", [{"model_type": "never-heard-of"}, {"vocab_size": 97}], ids=str)
def test_a_native_model_that_transformers_cannot_load_is_one_line(tmp_path, change):
    qwen2(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError) as caught:
        load_model(at(tmp_path, architecture=Architecture.native), PLAIN)
    assert "\n" not in str(caught.value)


def test_a_saved_open_llama_comes_back_through_the_auto_classes(tmp_path):
    model = load_model(new(tmp_path), PLAIN)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(again), logits(model))


def test_loaded_weights_start_on_a_cache_line(tmp_path):
    config = LlamaConfig(**(SIZES | {"intermediate_size": 97, "vocab_size": 101}))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path)
    model = load_model(at(tmp_path), PLAIN)
    assert all(parameter.data_ptr() % 64 == 0 for parameter in model.parameters())
    assert logits(model, IDS).isfinite().all()
