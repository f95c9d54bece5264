"""The methods of peft as keys: names, options, and the lines that refuse what can't be trained or merged."""

import pytest
import torch
from peft import PeftType
from peft.tuners.lora import LoraLayer
from test_adapters import IDS, causal_base, classifier_base, logits, nudge, quantized_base, saved_base  # noqa: F401

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.methods import BASES, REFUSED
from workbench.models.adapters.trainable import check_trainable
from workbench.models.merging.whole_model import merge_layers

QUANTIZED = QuantizationConfig(method=QuantizationMethod.nf4)


def section(method, **options):
    return AdapterConfig(method=AdapterMethod[method], options=options)


def check(adapter, quantization=None, **train):
    check_trainable(
        ModelConfig(path="x"), quantization or QuantizationConfig(), adapter, TrainConfig(**train)
    )


def test_every_type_of_peft_is_a_method_by_its_name():
    ours = {method.name for method in AdapterMethod} - {"none", "dora"}
    assert ours == {kind.value.lower() for kind in PeftType}


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_cant_be_merged_is_refused_in_one_line_that_says_why(method):
    with pytest.raises(ConfigError) as caught:
        check(AdapterConfig(method=method))
    assert str(caught.value) == f"adapter.method: {method.name} {REFUSED[method]}"


@pytest.mark.parametrize("method", BASES)
def test_a_method_that_cant_compute_on_four_bits_is_refused_there(method):
    check(AdapterConfig(method=method))
    with pytest.raises(
        ConfigError, match=f"{method.name} don't compute on weights in nf4 .quantization=none"
    ):
        check(AdapterConfig(method=method), QUANTIZED)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            section("loha", rr=3),
            r"options.rr: peft's LoHaConfig has no such option .known: alpha, alpha_pattern,",
        ),
        (section("loha", r="8"), r"options.r: '8' .a number"),
        (section("loha", r=0), r"options.r: 0 .an integer from 1 on"),
        (section("lokr", rank_dropout=1.5), r"options.rank_dropout: 1.5 .from 0 to below 1"),
        (section("vera", vera_dropout=-0.1), r"options.vera_dropout: -0.1 .from 0 to below 1"),
        (section("oft", module_dropout=1), r"options.module_dropout: 1 .from 0 to below 1"),
        (section("loha", alpha_pattern={"q_proj": "x"}), r"options.alpha_pattern: {'q_proj': 'x'}"),
        (
            section("loha", target_modules=["x"]),
            r"options.target_modules: has a key .* .adapter.target_modules",
        ),
        (section("lora", r=8), r"options.r: has a key of its own .adapter.rank"),
        (section("lora", use_dora=True), r"options.use_dora: has a key of its own .adapter.method=dora"),
        (section("lora", layer_replication=[[0, 2]]), "options.layer_replication: repeats layers"),
        (section("lora", kasa_config={}), "options.kasa_config: cuts the base's own weights"),
        (section("lora", monteclora_config={}), "options.monteclora_config: learns random perturbations"),
        (section("lora", use_qalora=True), "options.use_qalora: acts on layers of GPTQ alone"),
        (section("lora", qalora_group_size=8), "options.qalora_group_size: acts on layers of GPTQ alone"),
        (section("vera", fan_in_fan_out=True), "options.fan_in_fan_out: peft sets it by each layer's class"),
        (section("lora", task_type="CAUSAL_LM"), "options.task_type: peft's LoraConfig has no such option"),
        (section("lora", bias="some"), "options.bias: 'some' .'none', 'all', 'lora_only'"),
        (section("adamss", use_asa=True), "options.use_asa: chooses subspaces"),
        (section("none", r=8), "options: has no effect with adapter=none"),
    ],
)
def test_an_option_that_peft_does_not_take_is_refused_by_its_name(adapter, message):
    with pytest.raises(ConfigError, match=f"adapter.{message}"):
        check(adapter)


@pytest.mark.parametrize(
    "key", [{"rank": 8}, {"alpha": 8.0}, {"trainable_tokens": ["a"]}, {"use_rslora": True}]
)
def test_a_key_of_lora_beside_another_method_is_refused(key):
    with pytest.raises(
        ConfigError, match=f"adapter.{next(iter(key))}: is for lora and dora .settings of hira go"
    ):
        AdapterConfig(method=AdapterMethod.hira, **key)


def test_lora_plus_beside_a_method_without_matrices_a_and_b_is_refused():
    with pytest.raises(ConfigError, match="train.lora_plus_ratio: ia3 has no matrices A and B"):
        check(section("ia3"), lora_plus_ratio=16.0)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (section("miss", r=1000), "adapter.options: peft can't put miss on this model: `r` .1000. must be"),
        (section("beft"), "adapter.method: trains a bias, and 'q_proj' has none to merge it into"),
        (section("lora", lora_bias=True), "adapter.options.lora_bias: trains a bias, and 'q_proj' has none"),
        (section("lora", alpha_pattern={"qq": 3}), "adapter.options.alpha_pattern: 'qq' matches no layer"),
        (section("hira", exclude_modules=["qq"]), "adapter.options.exclude_modules: 'qq' matches no layer"),
        (section("lora", alpha_pattern={"q(": 3}), r"adapter.options: alpha_pattern: .q\(. is not a regular"),
        (section("ia3", feedforward_modules=["norm"]), "adapter.options: .*should be a subset"),
    ],
)
def test_what_this_model_does_not_allow_is_refused_before_its_weights_are_read(adapter, message):
    with torch.device("meta"):
        empty = causal_base()
    with pytest.raises(ConfigError, match=message):
        attach.check_attachable(empty, adapter)


@pytest.mark.parametrize(
    ("options", "train", "message"),
    [
        ({"total_step": 9}, {}, "options.total_step: has no effect with adalora .known: init_r, target_r,"),
        ({"r": 8}, {}, "options.r: has no effect with adalora"),
        ({"target_r": 12}, {}, "options.target_r: 12 .a mean rank from 1 on, below init_r, which is 12"),
        ({"deltaT": 0}, {}, "options.deltaT: 0 .an integer from 1 on"),
        ({"beta2": 1.0}, {}, "options.beta2: 1.0 .more than 0, below 1"),
        ({"tinit": 6, "tfinal": 4}, {"max_steps": 10}, "tinit: 6 and tfinal 4 of 10 steps leave none"),
    ],
)
def test_options_that_adalora_ignores_or_can_not_follow_are_refused(options, train, message):
    with pytest.raises(ConfigError, match=message):
        check(section("adalora", **options), **train)
    check(section("adalora", init_r=6, target_r=2, tinit=2, tfinal=3), max_steps=6)


def test_options_reach_pefts_configuration_beside_our_keys(tmp_path):
    options = {"alpha_pattern": {"q_proj": 3}, "exclude_modules": ["k_proj", "v_proj"], "bias": "none"}
    model = attach.attach(causal_base(), AdapterConfig(rank=4, alpha=8.0, options=options), seed=0)
    attach.save(model, tmp_path / "adapter")
    config = adapter_config.read_config(tmp_path / "adapter")
    assert (config.r, config.lora_alpha, config.alpha_pattern) == (4, 8, {"q_proj": 3})
    scales = {
        name: module.scaling["default"]
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    assert {name.rpartition(".")[2] for name in scales} == {
        "q_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert {scale for name, scale in scales.items() if name.endswith("q_proj")} == {3 / 4}
    assert {scale for name, scale in scales.items() if not name.endswith("q_proj")} == {8 / 4}


@pytest.mark.parametrize("base", [causal_base, classifier_base])
@pytest.mark.parametrize(
    "adapter", [section("ia3"), section("loha", r=2), section("hira", r=4), section("ln_tuning")]
)
def test_an_adapter_of_another_method_is_saved_and_loaded_as_it_was(adapter, base, tmp_path):
    before = logits(base())
    model = attach.attach(base(), adapter, seed=0)
    assert torch.equal(logits(model), before)
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    again = attach.load(base(), tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model)) and not torch.equal(logits(again), before)
    with again.disable_adapter():
        assert torch.equal(logits(again), before)


LOADED = [("loha", "nf4", True), ("loha", "int8", False), ("hra", "nf4", True), ("hra", "int8", True)]


@pytest.mark.parametrize(("method", "quantization", "is_refused"), LOADED)
def test_an_adapter_is_not_loaded_on_weights_that_its_layers_dont_compute_on(
    method,
    quantization,
    is_refused,
    saved_base,  # noqa: F811
    tmp_path,
):
    model = attach.attach(causal_base(), section(method, r=2), seed=0)
    nudge(model)
    attach.save(model, tmp_path / "adapter")
    if not is_refused:
        attach.load(quantized_base(saved_base, quantization), tmp_path / "adapter")
        return
    bits = {"nf4": 4, "int8": 8}[quantization]
    said = f"peft's layers of {method.upper()} don't compute on a base in {bits} bits .quantization=none"
    with pytest.raises(CheckpointError, match=said):
        attach.load(quantized_base(saved_base, quantization), tmp_path / "adapter")


def test_a_merged_classifier_has_its_trained_head_and_no_layer_of_peft():
    model = attach.attach(classifier_base(), section("ln_tuning"), seed=0)
    nudge(model)
    expected = logits(model)
    merged = merge_layers(model)
    assert merged.state_dict().keys() == classifier_base().state_dict().keys()
    assert torch.equal(logits(merged), expected)


def test_the_same_seed_draws_the_same_adapter_and_the_global_random_state_stays():
    state = torch.get_rng_state()
    first, second = (
        attach.attach(causal_base(), section("vblora", vector_length=16, num_vectors=8), seed)
        for seed in (1, 1)
    )
    torch.set_rng_state(state)
    tensors = attach.state_dict(second)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in attach.state_dict(first).items())
