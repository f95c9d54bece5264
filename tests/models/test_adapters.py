"""Adapters on tiny real bases, plain and quantized."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file

from workbench.config.adapter import AdapterConfig, AdapterInit, AdapterMethod
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import CheckpointError, ConfigError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.further import add_further
from workbench.models.loading import load_model

IDS = torch.tensor([[3, 5, 8, 13, 21, 34, 55, 2]])


def tiny_config(**changes):
    fields = dict(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return OpenLlamaConfig(**(fields | changes))


def causal_base(**changes):
    torch.manual_seed(0)
    return OpenLlamaForCausalLM(tiny_config(**changes)).eval()


def classifier_base(num_labels=3):
    torch.manual_seed(0)
    return OpenLlamaForSequenceClassification(tiny_config(num_labels=num_labels)).eval()


@pytest.fixture(scope="module")
def saved_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    causal_base().save_pretrained(folder)
    return folder


def quantized_base(folder, method):
    quantization = QuantizationConfig(method=QuantizationMethod[method])
    return load_model(ModelConfig(path=str(folder)), quantization)


def nudge(model, seed=1):
    """Move every trainable tensor, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def small(**changes):
    return AdapterConfig(**({"rank": 4, "alpha": 8.0} | changes))


def test_a_new_adapter_leaves_the_answers_of_the_base_and_trains_only_its_own_tensors():
    base = causal_base()
    before = logits(base)
    model = attach.attach(base, small(), seed=0)
    assert torch.equal(logits(model), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)


def test_the_seed_decides_the_adapter():
    models = [attach.attach(causal_base(), small(), seed=seed) for seed in (1, 1, 2)]
    one, same, other = (attach.state_dict(model) for model in models)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_attaching_does_not_move_the_global_random_state():
    base = causal_base()
    state = torch.get_rng_state()
    attach.attach(base, small(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": AdapterMethod.dora},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"init": AdapterInit.gaussian},
        {"init": AdapterInit.orthogonal},
        {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["norm"]},
    ],
    ids=["lora", "dora", "rslora", "gaussian", "orthogonal", "modules_to_save"],
)
def test_a_saved_adapter_loads_to_the_same_logits(changes, tmp_path):
    model = attach.attach(causal_base(), small(**changes), seed=0)
    nudge(model)
    attach.save(model, tmp_path / "adapter", "org/base")
    again = attach.load(causal_base(), tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(causal_base()))
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("init", [AdapterInit.pissa, AdapterInit.olora])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_start_from_the_base_weights_is_saved_as_plain_lora_for_the_untouched_base(init, rslora, tmp_path):
    base = causal_base()
    before = logits(base)
    model = attach.attach(base, small(init=init, use_rslora=rslora, rank_pattern={"q_proj": 2}), seed=0)
    assert torch.allclose(logits(model), before, atol=1e-5)
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    again = attach.load(causal_base(), tmp_path / "adapter")
    assert torch.allclose(logits(again), logits(model), atol=1e-4)
    assert not torch.allclose(logits(again), before, atol=1e-2)
    for either in (again, model):
        with either.disable_adapter():
            assert torch.equal(logits(either), before)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("init", [AdapterInit.pissa, AdapterInit.olora])
def test_a_start_from_the_base_weights_is_that_of_peft_and_has_its_gradient(init):
    ours = attach.attach(causal_base(), small(init=init), seed=0)
    section = small()
    theirs = get_peft_model(
        causal_base(),
        LoraConfig(
            task_type="CAUSAL_LM",
            r=section.rank,
            lora_alpha=int(section.alpha),
            target_modules="all-linear",
            init_lora_weights=init.name,
        ),
    )
    found = []
    for model in (ours, theirs):
        model(input_ids=IDS, labels=IDS).loss.backward()
        found.append({name: p for name, p in model.named_parameters() if p.requires_grad})
    assert found[0].keys() == found[1].keys()
    for name, parameter in found[0].items():
        dim = 0 if "lora_A" in name else 1
        for tensor, other in ((parameter, found[1][name]), (parameter.grad, found[1][name].grad)):
            start, rest = tensor.split(section.rank, dim)
            torch.testing.assert_close(start, other, rtol=1e-3, atol=1e-6)
        assert not rest.any()  # what takes the start out again stays as it is


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("init", [AdapterInit.pissa, AdapterInit.olora])
def test_a_start_from_quantized_weights_leaves_the_base_as_it_is(quantization, init, saved_base, tmp_path):
    base = quantized_base(saved_base, quantization)
    before = logits(base)
    model = attach.attach(base, small(init=init), seed=0)
    assert torch.allclose(logits(model), before, atol=1e-4)
    model(input_ids=IDS, labels=IDS).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter -= 0.1 * parameter.grad
    attach.save(model, tmp_path / "adapter")
    again = attach.load(quantized_base(saved_base, quantization), tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model))
    assert not torch.allclose(logits(again), before, atol=1e-3)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("method", [AdapterMethod.lora, AdapterMethod.dora])
def test_an_adapter_on_a_quantized_base_trains_saves_and_loads(quantization, method, saved_base, tmp_path):
    model = attach.attach(quantized_base(saved_base, quantization), small(method=method), seed=0)
    model(input_ids=IDS, labels=IDS).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_B" in name]
    assert gradients and all(gradient is not None and gradient.any() for gradient in gradients)
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    again = attach.load(quantized_base(saved_base, quantization), tmp_path / "adapter")
    assert torch.allclose(logits(again), logits(model), atol=1e-5)


def test_a_new_adapter_takes_the_mode_of_its_base():
    model = attach.attach(causal_base(), small(dropout=0.5), seed=0)
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in attach.attach(causal_base().train(), small(), seed=0).modules())


def test_gradients_reach_the_adapter_through_gradient_checkpointing():
    base = causal_base()
    model = attach.attach(base, small(), seed=0).train()
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    model(input_ids=IDS, labels=IDS).loss.backward()
    first = model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight
    assert first.grad is not None and first.grad.any()


def test_the_score_head_is_trained_saved_and_restored_with_its_label_names(tmp_path):
    base = classifier_base()
    base.config.id2label = {0: "体育", 1: "财经", 2: "science"}
    model = attach.attach(base, small(), seed=0)
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    other = classifier_base()
    torch.nn.init.normal_(other.score.weight)
    again = attach.load(other, tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model))
    assert other.config.id2label == {0: "体育", 1: "财经", 2: "science"}
    assert adapter_config.num_labels(tmp_path / "adapter") == 3
    assert adapter_config.label_names(tmp_path / "adapter") == ["体育", "财经", "science"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_score_head_of_a_half_precision_base_learns_steps_below_its_rounding(dtype, tmp_path):
    base = classifier_base().to(dtype)
    model = attach.attach(base, small(), seed=0)
    head = base.score.modules_to_save["default"]
    with torch.no_grad():
        before = head.weight.clone()
        head.weight.add_(1e-5)
    assert (head.weight - before).mean().item() == pytest.approx(1e-5, rel=0.01)
    assert logits(model).dtype == torch.float32
    attach.save(model, tmp_path / "adapter")
    again = attach.load(classifier_base().to(dtype), tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model))
    with model.disable_adapter():
        assert logits(model).dtype == dtype


def test_a_causal_adapter_has_no_labels(tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    assert adapter_config.num_labels(tmp_path / "adapter") is None


def test_disabling_the_adapter_gives_the_base_back_and_ends_with_the_block():
    base = classifier_base()
    before = logits(base)
    model = attach.attach(base, small(), seed=0)
    nudge(model)
    after = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), after)


def test_a_loaded_adapter_can_be_trained_further(tmp_path):
    first = attach.attach(causal_base(), small(), seed=0)
    nudge(first)
    attach.save(first, tmp_path / "adapter")
    model = attach.attach(causal_base(), AdapterConfig(path=str(tmp_path / "adapter"), rank=64), seed=5)
    assert torch.equal(logits(model), logits(first))
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def save_new_adapter(base, folder):
    """An adapter folder, and a checkpoint of the kind that the Trainer writes."""
    config = AdapterConfig(rank=2, modules_to_save=["norm", "input_layernorm"])
    model = attach.attach(OpenLlamaForCausalLM.from_pretrained(base), config, seed=0)
    attach.save(model, folder / "adapter", "org/base")
    model.save_pretrained(folder / "checkpoint")


def test_the_saved_bytes_do_not_depend_on_the_hash_seed(saved_base, tmp_path):
    code = "import sys; from pathlib import Path; from test_adapters import save_new_adapter as save; "
    command = [sys.executable, "-c", code + "save(*map(Path, sys.argv[1:]))", saved_base, tmp_path / "there"]
    seed = "3" if os.environ.get("PYTHONHASHSEED") != "3" else "4"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    save_new_adapter(saved_base, tmp_path / "here")
    folders = [tmp_path / name / "adapter" for name in ("here", "there")]
    here, there = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert set(here) == {"adapter_config.json", "adapter_model.safetensors"}
    assert here == there
    configs = [(tmp_path / x / "checkpoint" / "adapter_config.json").read_bytes() for x in ("here", "there")]
    assert configs[0] == configs[1]


def test_the_saved_configuration_names_the_base_as_given_and_no_place_on_this_machine(saved_base, tmp_path):
    base = OpenLlamaForCausalLM.from_pretrained(saved_base)
    attach.save(attach.attach(base, small(), seed=0), tmp_path / "adapter", "org/base")
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "org/base"
    assert json.loads(text)["target_modules"] == sorted(json.loads(text)["target_modules"])
    assert str(saved_base) not in text


def test_target_modules_that_match_nothing_are_one_line_with_the_layers_there_are():
    with pytest.raises(ConfigError) as caught:
        attach.attach(causal_base(), small(target_modules=["q_proj", "query"]), seed=0)
    assert str(caught.value) == (
        "adapter.target_modules: 'query' matches no layer "
        "(linear layers: down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules_to_save": ["scores"]}, "adapter.modules_to_save: 'scores' matches no layer"),
        ({"rank_pattern": {"q": 2}}, "adapter.rank_pattern: 'q' matches no layer"),
        ({"modules_to_save": ["embed_tokens"]}, "'embed_tokens' shares its weight with another layer"),
        ({"target_modules": ["lm_head"]}, "'lm_head' shares its weight with another layer"),
        ({"target_modules": ["norm"]}, "adapter.target_modules: 'norm' has no weight matrix to adapt"),
        ({"target_modules": ["mlp"]}, "adapter.target_modules: 'mlp' has no weight matrix"),
        ({"target_modules": ["act_fn"]}, "adapter.target_modules: 'act_fn' has no weight matrix"),
        ({"modules_to_save": ["layers"]}, "adapter.modules_to_save: 'layers' is a list of layers"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["q_proj"]}, "'q_proj' is in target_modules too"),
    ],
)
def test_a_choice_that_this_base_does_not_allow_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        attach.attach(causal_base(tie_word_embeddings=True), small(**changes), seed=0)


def test_a_start_that_peft_cant_make_on_a_quantized_base_is_refused(saved_base):
    with pytest.raises(ConfigError, match="peft's 'orthogonal' can't initialize quantized layers"):
        attach.attach(quantized_base(saved_base, "nf4"), small(init=AdapterInit.orthogonal), seed=0)


def test_a_rank_that_a_layer_is_too_small_for_is_refused():
    with pytest.raises(ConfigError, match=r"adapter.rank: 4096 is too large for .*q_proj \(at most "):
        attach.attach(causal_base(), small(init=AdapterInit.pissa, rank=4096), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "adapter.rank: 0 .from 1 to"),
        ({"alpha": 0.0}, "adapter.alpha: 0.0"),
        ({"dropout": 1.0}, "adapter.dropout: 1.0"),
        ({"target_modules": []}, "adapter.target_modules: "),
        ({"target_modules": ["all-linear", "lm_head"]}, "adapter.target_modules: "),
        ({"rank_pattern": {"q_proj": 0}}, "adapter.rank_pattern.q_proj: 0"),
        ({"rank_pattern": {"q_proj(": 4}}, r"adapter.rank_pattern: 'q_proj\(' is no pattern: missing \)"),
        ({"init": AdapterInit.orthogonal, "rank": 5}, "adapter.rank: 5 is odd"),
        ({"init": AdapterInit.orthogonal, "rank_pattern": {"q_proj": 3}}, "adapter.rank: 3 is odd"),
        ({"method": AdapterMethod.dora, "init": AdapterInit.pissa}, "adapter.init: 'pissa'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        AdapterConfig(**changes)


def test_an_adapter_of_another_shape_is_refused_in_one_line(tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    with pytest.raises(CheckpointError) as caught:
        attach.load(causal_base(intermediate_size=96), tmp_path / "adapter")
    assert "[64, 4] in the file" not in str(caught.value)
    assert "does not fit this model" in str(caught.value) and "128" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no layer for .*layers.1"):
        attach.load(causal_base(num_hidden_layers=1), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="layers.2.* is missing"):
        attach.load(causal_base(num_hidden_layers=3), tmp_path / "adapter")


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not an adapter, adapter_config.json is missing"):
        attach.load(causal_base(), tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4')
    with pytest.raises(CheckpointError, match="adapter_config.json: not a JSON object"):
        attach.load(causal_base(), tmp_path)


def test_an_adapter_whose_configuration_peft_trips_over_is_one_line(tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bias": "some"}))
    with pytest.raises(CheckpointError, match="adapter: does not fit this model: ") as caught:
        attach.load(causal_base(), tmp_path / "adapter")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("rank_pattern", 5), ("rank_pattern", ["q_proj"]), ("alpha_pattern", 3), ("rank_pattern", [])),
        *(("bias", None), ("init_lora_weights", 3), ("use_rslora", "no"), ("r", "16"), ("lora_alpha", True)),
        *(("layer_replication", value) for value in (3, "ab", [1], [["a", "b"]], [[0, 1, 2]])),
    ],
)
def test_a_field_of_another_kind_in_the_configuration_of_an_adapter_is_named(field, value, tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(CheckpointError, match=re.escape(f"adapter_config.json: {field}: {value!r}")):
        attach.load(causal_base(), tmp_path / "adapter")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.json", "", "labels.json: not JSON"),
        ("labels.json", "3", "labels.json: 3 is not a list of label names"),
        ("adapter_config.json", "{}", "adapter_config.json: peft_type: None is not an adapter type"),
        ("adapter_config.json", "[" * 100_000, "adapter_config.json: not a JSON object, nested too deeply"),
    ],
    ids=["no JSON", "a number", "no type", "deep"],
)
def test_a_damaged_file_of_an_adapter_is_named(name, content, words, tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    (tmp_path / "adapter" / name).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        attach.load(causal_base(), tmp_path / "adapter")


def test_an_adapter_without_its_weights_is_refused(tmp_path):
    attach.save(attach.attach(causal_base(), small(), seed=0), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="adapter_model.safetensors"):
        attach.load(causal_base(), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="adapter_model.safetensors"):
        attach.load(causal_base(), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_what_peft_saves_beside_an_adapter_of_an_embedding_is_left_aside(tmp_path):
    model = get_peft_model(
        causal_base(shared_input_output_embedding=False),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["embed_tokens", "lm_head"]),
    )
    nudge(model)
    model.save_pretrained(tmp_path / "adapter")
    assert any(".base_layer." in name for name in load_file(tmp_path / "adapter/adapter_model.safetensors"))
    again = attach.load(causal_base(shared_input_output_embedding=False), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(model))


def test_an_adapter_that_did_nothing_is_told():
    model = attach.attach(causal_base(), small(), seed=0)
    with pytest.raises(CheckpointError, match="all 14 lora_B matrices are zero"):
        attach.check_did_something(model)
    nudge(model)
    attach.check_did_something(model)


def test_an_adapter_that_is_not_finite_is_told():
    model = attach.attach(causal_base(), small(), seed=0)
    nudge(model)
    with torch.no_grad():
        model.base_model.model.model.layers[0].mlp.up_proj.lora_A["default"].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="up_proj.lora_A.weight has NaN or infinite values"):
        attach.check_did_something(model)


def test_a_refused_further_adapter_leaves_nothing_in_the_model(tmp_path):
    for name in ("first", "broken"):
        model = attach.attach(causal_base(), small(), seed=0)
        nudge(model)
        if name == "broken":
            model.base_model.model.model.layers[0].mlp.up_proj.lora_B["default"].weight.data[0, 0] = torch.nan
        attach.save(model, tmp_path / name)
    model = attach.load(causal_base(), tmp_path / "first")
    before = logits(model)
    with pytest.raises(CheckpointError, match="has NaN or infinite values"):
        add_further(model, "second", tmp_path / "broken")
    assert list(model.peft_config) == ["default"]
    assert not any(".second." in name for name in model.state_dict())
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)


def test_a_card_beside_the_adapter_does_not_change_its_fingerprint(tmp_path):
    model = attach.attach(causal_base(), small(), seed=0)
    attach.save(model, tmp_path / "adapter")
    before = adapter_config.fingerprint(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").write_text("card")
    assert adapter_config.fingerprint(tmp_path / "adapter") == before
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    assert adapter_config.fingerprint(tmp_path / "adapter") != before


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, lora_alpha=22.6, rank_pattern={"q_proj": 2}, init_lora_weights="pissa_niter_16"),
        LoraConfig(target_modules=["q_proj"], layers_to_transform=3, layer_replication=[(0, 2), (1, 2)]),
        AdaLoraConfig(total_step=10, rank_pattern={"layers.0.q_proj": [True, False]}),
        OFTConfig(r=0, oft_block_size=4),
        LoHaConfig(r=4, alpha=2, module_dropout=0.5),
        IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_a_configuration_that_peft_has_written_is_read(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert adapter_config.read_config(tmp_path).peft_type == config.peft_type
