"""Real bitsandbytes layers: what is quantized, and that nothing around them changes what they compute."""

import copy
import io

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from tiny_checkpoints import IDS, PLAIN, VOCABULARY, at, llama, logits, words_tokenizer
from torch import nn

from workbench.config.adapter import AdapterConfig
from workbench.config.model import Device, Dtype, Task
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.adapters.attach import attach
from workbench.models.loading import load_model
from workbench.models.quantization import (
    Linear4bit,
    Linear8bitLt,
    batch_dependence,
    dequantize_state_dict,
    is_quantized,
    parameter_count,
)

METHODS = ["int8", "nf4", "fp4"]
DTYPES = [torch.float32, torch.bfloat16]
LAYERS = 2 * 7  # projections in the tiny model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    llama(num_key_value_heads=2).save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return folder


def quantized(folder, method, dtype=torch.float32, task=Task.causal_lm, device=Device.cpu, **fields):
    name = Dtype[str(dtype).removeprefix("torch.")]
    quantization = QuantizationConfig(method=QuantizationMethod[method], **fields)
    torch.manual_seed(0)
    return load_model(at(folder, dtype=name, task=task, device=device), quantization)


def quantized_names(model):
    return {name for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)}


def plain_copy(model, folder, dtype=torch.float32):
    """An unquantized model with the weights of a quantized one."""
    plain = quantized(folder, "none", dtype)
    missing, unexpected = plain.load_state_dict(dequantize_state_dict(model), strict=False)
    assert (missing, unexpected) == ([], [])
    return plain


def with_lora(model):
    adapted = attach(model, AdapterConfig(rank=4), seed=0)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return adapted


def lora_gradients(model):
    model.train()
    model.zero_grad()
    model(IDS, labels=IDS).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("method", METHODS)
def test_projections_are_quantized_and_heads_embeddings_and_norms_are_not(folder, method, task):
    model = quantized(folder, method, torch.bfloat16, task)
    names = quantized_names(model)
    assert len(names) == LAYERS
    assert all(name.endswith("_proj") for name in names)
    whole = {name: p for name, p in model.named_parameters() if name.removesuffix(".weight") not in names}
    assert all(parameter.dtype == torch.bfloat16 for parameter in whole.values())
    head = "lm_head" if task is Task.causal_lm else "score"
    assert {"model.embed_tokens.weight", "model.norm.weight", f"{head}.weight"} <= whole.keys()
    assert is_quantized(model)
    assert parameter_count(model) == parameter_count(quantized(folder, "none", task=task))


@pytest.mark.parametrize(("method", "bits"), [("int8", 8), ("nf4", 4), ("fp4", 4)])
def test_a_quantized_layer_takes_its_bits_and_stays_close_to_the_weight(folder, method, bits):
    model, plain = quantized(folder, method), llama(num_key_value_heads=2).state_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    parameter = model.get_parameter(name)
    assert parameter.numel() * parameter.element_size() * 8 == plain[name].numel() * bits
    error = (dequantize_state_dict(model)[name] - plain[name]).norm() / plain[name].norm()
    assert 0 < error < {"int8": 0.01, "nf4": 0.1, "fp4": 0.15}[method]


def test_double_quant_and_compute_dtype_are_what_the_section_says(folder):
    layer = quantized(folder, "nf4").model.layers[0].mlp.up_proj
    assert layer.weight.quant_state.nested and layer.compute_dtype == torch.float32
    model = quantized(folder, "nf4", double_quant=False, compute_dtype=Dtype.bfloat16)
    layer = model.model.layers[0].mlp.up_proj
    assert not layer.weight.quant_state.nested and layer.compute_dtype == torch.bfloat16


def test_skipped_modules_stay_whole_and_a_name_that_nothing_has_is_refused(folder):
    names = quantized_names(quantized(folder, "nf4", skip_modules=["down_proj", "model.layers.0"]))
    assert len(names) == 6 and not any("down_proj" in name or ".0." in name for name in names)
    names = quantized_names(quantized(folder, "nf4", skip_modules=["mlp", "layers.0.self_attn"]))
    assert len(names) == 4 and all("layers.1.self_attn" in name for name in names)
    with pytest.raises(ConfigError, match="quantization.skip_modules: 'up_projj' matches no module"):
        quantized(folder, "nf4", skip_modules=["up_projj"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_dequantized_weights_give_the_quantized_models_logits(folder, method, dtype):
    model = quantized(folder, method, dtype)
    before = dequantize_state_dict(model)
    found, expected = logits(model), logits(plain_copy(model, folder, dtype))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.05)
    after = dequantize_state_dict(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_dequantized_weights_are_plain_float32_and_share_no_memory(folder):
    model = quantized(folder, "int8", torch.bfloat16)
    weights = dequantize_state_dict(model)
    assert weights.keys() == llama(num_key_value_heads=2).state_dict().keys()
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    expected = logits(model)
    for tensor in weights.values():
        tensor.zero_()
    assert torch.equal(logits(model), expected)


def test_a_tied_head_appears_once(tmp_path):
    llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    weights = dequantize_state_dict(quantized(tmp_path, "nf4"))
    assert "model.embed_tokens.weight" in weights and "lm_head.weight" not in weights


def test_back_and_forth_a_layer_multiplies_with_the_same_weights(folder):
    model = quantized(folder, "nf4", torch.bfloat16, compute_dtype=Dtype.float32)
    layer = model.model.layers[0].mlp.up_proj
    weight = dequantize_state_dict(model)["model.layers.0.mlp.up_proj.weight"]
    hidden = torch.eye(64, requires_grad=True)
    product = layer(hidden)
    torch.testing.assert_close(product, weight.T, rtol=0, atol=1e-6)
    product.sum().backward()
    torch.testing.assert_close(hidden.grad[0], weight.sum(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_evaluating_first_changes_no_gradient_and_no_weight(folder, method, dtype):
    model = with_lora(quantized(folder, method, dtype))
    untouched = lora_gradients(model)
    weights = dequantize_state_dict(model.get_base_model())
    model.eval()
    logits(model)  # on AVX512-BF16 this is where bitsandbytes would repack 4-bit weights
    gradients = lora_gradients(model)
    assert len(gradients) == 2 * LAYERS
    assert all(torch.equal(gradients[name], untouched[name]) for name in untouched)
    again = dequantize_state_dict(model.get_base_model())
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_plain_model_with_the_same_weights(folder, method):
    model = quantized(folder, method)
    expected = lora_gradients(with_lora(plain_copy(model, folder)))
    logits(model)
    found = lora_gradients(with_lora(model))
    assert found.keys() == expected.keys() and len(found) == 2 * LAYERS
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", ["as loaded", "eval", "train, then eval", "under peft"])
@pytest.mark.parametrize("method", METHODS)
def test_an_items_logits_do_not_depend_on_its_neighbours(folder, method, mode):
    model = quantized(folder, method)
    # A few columns far beyond the outlier threshold, as real models have them and tiny ones don't.
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 5] *= torch.linspace(1, 60, VOCABULARY)
    if mode == "train, then eval":
        model.train()
    if mode == "under peft":
        model = with_lora(model)
    if mode != "as loaded":
        model.eval()
    alone = torch.cat([logits(model, row[None]) for row in IDS])
    torch.testing.assert_close(logits(model), alone, rtol=0, atol=2e-4)


def test_eval_and_train_mode_give_the_same_int8_logits(folder):
    model = quantized(folder, "int8")
    expected = logits(model)
    assert torch.equal(logits(model.train()), expected)
    assert torch.equal(logits(model.eval()), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_deep_copy_computes_the_same(folder, method):
    model = quantized(folder, method)
    logits(model)
    torch.testing.assert_close(logits(copy.deepcopy(model)), logits(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_stable_and_shared_embeddings_stay_whole(tmp_path, method):
    torch.manual_seed(0)
    fields = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2)
    plain = OpenLlamaForCausalLM(OpenLlamaConfig(**fields, num_attention_heads=4)).eval()
    plain.save_pretrained(tmp_path)
    model = quantized(tmp_path, method)
    assert len(quantized_names(model)) == LAYERS
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_layer_norm.weight, plain.model.embed_layer_norm.weight)
    weights = dequantize_state_dict(model)
    assert weights.keys() == plain.state_dict().keys() - {"lm_head.weight"}


@pytest.mark.parametrize("method", METHODS)
def test_the_state_of_a_used_model_can_be_saved(folder, method):
    model = quantized(folder, method)
    logits(model)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = quantized(folder, method)
    state = torch.load(buffer, weights_only=True)
    assert torch.equal(
        state["model.layers.0.mlp.up_proj.weight"], fresh.model.layers[0].mlp.up_proj.weight.data
    )


def test_quantized_models_are_loaded_the_same_every_time(folder):
    first, second = (quantized(folder, "nf4").model.layers[0].mlp.up_proj.weight for _ in range(2))
    assert torch.equal(first.data, second.data)
    assert torch.equal(
        dequantize_4bit(first.data, first.quant_state), dequantize_4bit(second.data, second.quant_state)
    )


def test_a_negative_threshold_is_refused():
    with pytest.raises(ConfigError, match="quantization.int8_threshold"):
        QuantizationConfig(int8_threshold=-1.0)


def test_no_quantization_gives_plain_layers(folder):
    model = load_model(at(folder), PLAIN)
    assert not is_quantized(model)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_computes_what_the_dequantized_weights_say(folder, method, dtype):
    model = quantized(folder, method, dtype, device=Device.cuda)
    assert next(model.parameters()).device.type == "cuda"
    found = logits(model, IDS.cuda()).cpu()
    expected = logits(plain_copy(model, folder))
    bound = 0.3 if method == "int8" else 0.2  # int8 rounds activations too
    assert (found - expected).abs().max() < bound
    gradients = lora_gradients_on(model, "cuda")
    assert len(gradients) == 2 * LAYERS and all(g.isfinite().all() for g in gradients.values())


def lora_gradients_on(model, device):
    adapted = with_lora(model).to(device)
    adapted.train()
    adapted(IDS.to(device), labels=IDS.to(device)).loss.backward()
    return {name: p.grad for name, p in adapted.named_parameters() if p.grad is not None}


def test_what_quantized_outputs_depend_on_on_a_gpu_is_known(folder):
    int8 = quantized(folder, "int8")
    assert "multiplied unquantized for all texts" in batch_dependence(int8, "cuda")
    for layer in int8.modules():
        if isinstance(layer, Linear8bitLt):
            layer.state.threshold = 0.0
    assert batch_dependence(int8, "cuda") == ""
    nf4 = quantized(folder, "nf4")
    assert "decides the kernel" in batch_dependence(nf4, "cuda")
    assert batch_dependence(nf4, "cpu") == batch_dependence(load_model(at(folder), PLAIN), "cuda") == ""
