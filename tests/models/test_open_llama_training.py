"""Open-Llama in training: dropout, recomputed layers, LoRA, and the classification head."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import model, tokens
from transformers import BitsAndBytesConfig

from workbench.config.adapter import AdapterConfig
from workbench.models import OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.adapters import attach

# peft 0.21 asks transformers 5.23 by a name that it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_dropout_prob": 0.0}


def gradients(made, ids, **kwargs):
    made.zero_grad()
    made(ids, labels=ids, **kwargs).loss.backward()
    return {name: weight.grad.clone() for name, weight in made.named_parameters() if weight.grad is not None}


def zeroed(made, name):
    """The model as it is when these layers say nothing."""
    for layer in made.model.layers:
        layer.get_submodule(name).weight.data.zero_()
    return made.eval()


def test_hidden_dropout_acts_on_the_output_of_the_mlp_only():
    ids = tokens()
    dropped = model(hidden_dropout_prob=1.0, attention_dropout_prob=0.0)
    with torch.no_grad():
        kept = dropped(ids).logits
        found = dropped.train()(ids).logits
        assert torch.equal(found, zeroed(dropped, "mlp.down_proj")(ids).logits)
        assert not torch.equal(found, kept)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "xformers"])
@pytest.mark.parametrize("packed", [False, True])
def test_attention_dropout_acts_on_the_probabilities(attention, packed):
    ids = tokens()
    positions = torch.arange(12)[None] % 5 if packed else None
    dropped = model(hidden_dropout_prob=0.0, attention_dropout_prob=1.0, attn_implementation=attention)
    with torch.no_grad():
        found = dropped.train()(ids, position_ids=positions).logits
        assert torch.equal(found, zeroed(dropped, "self_attn.o_proj")(ids, position_ids=positions).logits)


def test_recomputed_layers_give_the_same_gradients():
    made = model(**NO_DROPOUT).train()
    ids = tokens()
    plain = gradients(made, ids)
    made.activation_checkpointing_enable()
    again = gradients(made, ids)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_recomputed_layers_drop_the_same_values_twice():
    made = model(hidden_dropout_prob=0.5, attention_dropout_prob=0.5).train()
    ids = tokens()
    torch.manual_seed(3)
    plain = gradients(made, ids)
    made.activation_checkpointing_enable()
    torch.manual_seed(3)
    again = gradients(made, ids)
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value)


@pytest.mark.parametrize("reentrant", [False, True])
def test_adapters_learn_through_recomputed_layers_on_frozen_embeddings(reentrant):
    made = get_peft_model(
        model(**NO_DROPOUT), LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    made.train()
    ids = tokens()
    plain = gradients(made, ids)
    assert plain and all("lora" in name for name in plain)
    made.get_base_model().activation_checkpointing_enable({"use_reentrant": reentrant})
    again = gradients(made, ids)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_all_linear_adapters_leave_the_shared_head_alone():
    made = get_peft_model(model(), LoraConfig(target_modules="all-linear"))
    targets = {name.split(".")[-1] for name in made.targeted_module_names}
    assert targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_filled_cache_is_refused_with_recomputed_layers():
    made = model()
    past = made(tokens()).past_key_values
    made.train().activation_checkpointing_enable()
    with pytest.raises(ValueError, match="filled cache"):
        made(tokens(), past_key_values=past)
    assert made(tokens(), use_cache=True).past_key_values is None


def test_training_on_labels_keeps_no_cache_unless_asked():
    made = model().train()
    ids = tokens()
    assert made(ids, labels=ids).past_key_values is None
    assert made(ids, labels=ids, use_cache=True).past_key_values is not None
    assert made(ids).past_key_values is not None


def test_logits_of_training_are_made_when_they_are_read():
    made = model(**NO_DROPOUT).train()
    ids = tokens()
    usual = made.eval()(ids, labels=ids, use_cache=True)
    made.train()
    for read in (
        lambda out: out.logits,
        lambda out: out["logits"],
        lambda out: out[1],
        lambda out: out.to_tuple()[1],
    ):
        out = made(ids, labels=ids, use_cache=True)
        assert list(out) == ["loss", "past_key_values"]
        assert out["loss"] is out[0] is out.loss
        torch.testing.assert_close(read(out), usual.logits)
        assert list(out) == list(usual)
    assert out.logits.requires_grad
    torch.testing.assert_close(made(ids, labels=ids, return_dict=False)[1], usual.logits)


def test_loss_of_a_bfloat16_model_is_float32_and_its_logits_are_bfloat16():
    made = model(**NO_DROPOUT).bfloat16()
    ids = tokens()
    for mode in (True, False):
        out = made.train(mode)(ids, labels=ids)
        assert (out.loss.dtype, out.logits.dtype) == (torch.float32, torch.bfloat16)


def test_left_padding_leaves_gradients_finite_and_those_of_the_text_alone():
    made = model(**NO_DROPOUT).train()
    ids = tokens(batch=1)
    padded, mask = (
        torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], 1),
        torch.ones(1, 16, dtype=torch.long),
    )
    mask[:, :4] = 0
    labels = padded.masked_fill(mask == 0, -100)
    labels[:, 4] = -100  # the first token would be predicted from a pad
    alone = gradients(made, ids)
    made.zero_grad()
    made(
        padded, attention_mask=mask, labels=labels, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
    ).loss.backward()
    for name, weight in made.named_parameters():
        torch.testing.assert_close(weight.grad, alone[name], atol=1e-5, rtol=1e-4)


def classifier(**fields):
    return model(OpenLlamaForSequenceClassification, **{**NO_DROPOUT, **fields})


def test_classification_reads_the_last_real_token_whichever_side_is_padded():
    made = classifier(num_labels=3)
    ids = tokens(batch=1, length=6)
    pad = torch.zeros(1, 4, dtype=torch.long)
    on, off = torch.ones_like(ids), torch.zeros_like(pad)
    with torch.no_grad():
        alone = made(ids).logits
        right = made(torch.cat([ids, pad], 1), attention_mask=torch.cat([on, off], 1)).logits
        left = made(torch.cat([pad, ids], 1), attention_mask=torch.cat([off, on], 1)).logits
        embeds = made.model.embed(torch.cat([ids, pad], 1))
        by_embeds = made(inputs_embeds=embeds, attention_mask=torch.cat([on, off], 1)).logits
    for found in (right, left, by_embeds):
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_classification_reads_over_pads_within_a_text():
    made = classifier(num_labels=3)
    ids = tokens(batch=2, length=8)
    ids[0, 3:5] = 0  # a pad token within the text
    ids[1, 6:] = 0
    with torch.no_grad():
        scores = made.score(made.model(ids).last_hidden_state)
        torch.testing.assert_close(made(ids).logits, torch.stack([scores[0, 7], scores[1, 5]]))


@pytest.mark.parametrize(
    "fields", [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}]
)
def test_the_head_on_a_quantized_base_is_trained_in_full_precision(fields, tmp_path):
    classifier(num_labels=3, num_hidden_layers=1, hidden_size=64).save_pretrained(tmp_path)
    quantization = BitsAndBytesConfig(**fields)
    base = OpenLlamaForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=quantization
    )
    made = attach.attach(base, AdapterConfig(rank=4), seed=0).train()
    head = {
        name: weight for name, weight in made.named_parameters() if "score" in name and weight.requires_grad
    }
    assert [weight.dtype for weight in head.values()] == [torch.float32]
    made(tokens(), labels=torch.tensor([0, 2])).loss.backward()
    [weight] = head.values()
    assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


def test_classification_without_a_pad_token_goes_by_the_mask():
    made = classifier(num_labels=3, pad_token_id=None)
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with torch.no_grad():
        found = made(ids, attention_mask=mask).logits
        torch.testing.assert_close(found[1:], made(ids[1:, :9]).logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no padding token"):
        made(ids)


@pytest.mark.parametrize(
    ("num_labels", "labels", "plain"),
    [
        (1, torch.tensor([0.5, -1.0]), lambda x, y: torch.nn.functional.mse_loss(x.squeeze(), y)),
        (1, torch.tensor([2, 1]), lambda x, y: torch.nn.functional.mse_loss(x.squeeze(), y.float())),
        (3, torch.tensor([2, 0]), torch.nn.functional.cross_entropy),
        (
            3,
            torch.tensor([2, 0], dtype=torch.int32),
            lambda x, y: torch.nn.functional.cross_entropy(x, y.long()),
        ),
        (3, torch.eye(3)[:2], torch.nn.functional.binary_cross_entropy_with_logits),
        (
            3,
            torch.eye(3)[:2].bool(),
            lambda x, y: torch.nn.functional.binary_cross_entropy_with_logits(x, y.float()),
        ),
    ],
)
def test_labels_decide_the_loss_of_each_call_and_leave_the_configuration_alone(num_labels, labels, plain):
    made = classifier(num_labels=num_labels)
    out = made(tokens(), labels=labels)
    torch.testing.assert_close(out.loss, plain(out.logits, labels))
    assert made.config.problem_type is None
    doubled = made(tokens(), labels=labels, num_items_in_batch=2 * labels.numel()).loss
    torch.testing.assert_close(doubled, out.loss / 2)


def test_problem_type_of_the_configuration_decides_when_there_is_one():
    made = classifier(num_labels=3, problem_type="regression")
    out = made(tokens(), labels=torch.eye(3)[:2])
    torch.testing.assert_close(out.loss, torch.nn.functional.mse_loss(out.logits, torch.eye(3)[:2]))


def test_classification_loss_of_a_bfloat16_model_is_float32():
    out = classifier(num_labels=3).bfloat16()(tokens(), labels=torch.tensor([1, 2]))
    assert (out.loss.dtype, out.logits.dtype) == (torch.float32, torch.bfloat16)


def test_gradients_reach_every_weight():
    for made in (model(), model(shared_input_output_embedding=False), model(use_stable_embedding=False)):
        found = gradients(made.train(), tokens())
        assert found.keys() == dict(made.named_parameters()).keys()
        assert all(value.abs().sum() > 0 for value in found.values())
    assert isinstance(made, OpenLlamaForCausalLM)
