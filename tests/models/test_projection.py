"""Adapters that share the work on one input give what peft gives layer by layer."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import model, tokens
from transformers import BitsAndBytesConfig

from workbench.models import OpenLlamaForCausalLM
from workbench.models.ops import lora_projection

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed"),
]

EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(dtype=torch.float32, **fields):
    made = model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0, num_key_value_heads=2).to(dtype)
    config = {"r": 4, "lora_alpha": 6, "target_modules": EVERY, "init_lora_weights": False, **fields}
    torch.manual_seed(1)
    return get_peft_model(made, LoraConfig(**config)).train()


def results(made, layer_by_layer, monkeypatch):
    if layer_by_layer:
        monkeypatch.setattr(lora_projection, "plain_lora", lambda layer: None)
    made.zero_grad()
    ids = tokens()
    out = made(ids, labels=ids)
    out.loss.backward()
    gradients = {
        name: weight.grad.clone() for name, weight in made.named_parameters() if weight.grad is not None
    }
    return out.logits.detach(), gradients


def layers(made):
    layer = made.get_base_model().model.layers[0]
    return [layer.self_attn.q_proj, layer.mlp.down_proj]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"target_modules": ["q_proj", "v_proj", "down_proj"]},
        {"use_rslora": True, "rank_pattern": {"k_proj": 7}, "alpha_pattern": {"up_proj": 3}},
        {"target_modules": EVERY, "layers_to_transform": [1]},
    ],
    ids=["all", "some", "unlike ranks", "one layer"],
)
def test_logits_and_gradients_are_pefts(fields, monkeypatch):
    made = adapted(**fields)
    found, wanted = results(made, False, monkeypatch), results(made, True, monkeypatch)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_logits_and_gradients_are_pefts_in_bfloat16_within_its_rounding(monkeypatch):
    made = adapted(torch.bfloat16)
    assert next(weight for name, weight in made.named_parameters() if "lora" in name).dtype == torch.float32
    (found, gradients), (wanted, wanted_gradients) = (
        results(made, alone, monkeypatch) for alone in (False, True)
    )
    exact = made.float()(tokens()).logits
    assert (found - wanted).norm() <= (wanted - exact).norm()
    for name, gradient in gradients.items():
        assert (gradient - wanted_gradients[name]).norm() < 0.1 * wanted_gradients[name].norm()


@pytest.mark.parametrize(
    "bits", [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}], ids=str
)
def test_logits_and_gradients_are_pefts_on_quantized_layers(bits, monkeypatch, tmp_path):
    model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(**bits)
    base = OpenLlamaForCausalLM.from_pretrained(tmp_path, quantization_config=config, dtype=torch.float32)
    made = get_peft_model(base, LoraConfig(r=4, target_modules=EVERY, init_lora_weights=False)).train()
    assert all(lora_projection.plain_lora(layer) for layer in layers(made))
    found, wanted = results(made, False, monkeypatch), results(made, True, monkeypatch)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_input_is_kept_for_the_backward_pass_once_and_not_in_float32():
    made = adapted(torch.bfloat16)
    attention = made.get_base_model().model.layers[0].self_attn
    hidden = torch.randn(2, 64, 32, dtype=torch.bfloat16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        lora_projection.project(hidden, attention.q_proj, attention.k_proj, attention.v_proj)
    large = {each.data_ptr(): each.dtype for each in kept if each.numel() == hidden.numel()}
    assert large == {hidden.data_ptr(): torch.bfloat16}


@pytest.mark.parametrize("change", ["dropout", "dora", "bias", "two adapters", "hook", "merged", "disabled"])
def test_layer_that_does_more_than_plain_lora_is_called_as_it_is(change, monkeypatch):
    fields = {"dropout": {"lora_dropout": 0.5}, "dora": {"use_dora": True}, "bias": {"lora_bias": True}}
    made = adapted(**fields.get(change, {}))
    if change == "two adapters":
        made.add_adapter("other", LoraConfig(target_modules=EVERY, init_lora_weights=False))
        made.base_model.set_adapter(["default", "other"])
    if change == "hook":
        for layer in layers(made):
            layer.register_forward_hook(lambda module, given, out: out * 2)
    if change == "merged":
        made.merge_adapter()
    if change == "disabled":
        made.base_model.disable_adapter_layers()
    assert [lora_projection.plain_lora(layer) for layer in layers(made)] == [None, None]
    with torch.random.fork_rng():
        found = made(tokens()).logits
    monkeypatch.setattr(lora_projection, "_lora_classes", lambda: ())
    with torch.random.fork_rng():
        torch.testing.assert_close(made(tokens()).logits, found, atol=1e-4, rtol=1e-4)


def test_dropout_of_an_adapter_acts_in_training_only():
    made = adapted(lora_dropout=0.5)
    assert lora_projection.plain_lora(layers(made)[0]) is None
    assert lora_projection.plain_lora(layers(made.eval())[0]) is not None


def test_switching_the_adapter_off_gives_the_base():
    base = model(hidden_dropout_prob=0.0, attention_dropout_prob=0.0, num_key_value_heads=2)
    made = adapted().eval()
    with torch.no_grad(), made.disable_adapter():
        assert torch.equal(made(tokens()).logits, base(tokens()).logits)
    assert not torch.equal(made(tokens()).logits, base(tokens()).logits)
