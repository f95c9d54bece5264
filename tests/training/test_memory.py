"""The plan's counts against what PyTorch really holds."""

from dataclasses import replace

import pytest
import torch
import transformers
from tiny_training import causal_rows, class_rows
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from workbench.config.adapter import AdapterConfig, AdapterMethod
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.adapters import attach
from workbench.models.ops.cpu_attention import multiplies_bfloat16
from workbench.models.trials.blocked_attention import use_blocked_attention
from workbench.models.trials.chunked_loss import use_chunked_loss
from workbench.models.trials.fused_norms import use_fused_norms
from workbench.models.trials.gated_mlps import use_gated_mlps
from workbench.models.trials.lora_layers import use_lora_products
from workbench.models.trials.saved_bytes import count_saved_bytes
from workbench.training.estimate import workload as forecast_module
from workbench.training.estimate.memory import (
    NATIVE,
    TRIED,
    Batch,
    SavedBytes,
    Setting,
    Shape,
    activations_bytes,
    layer_bytes,
    peak_parts,
    step_flops,
    trained_weights,
    ways_out,
    weights_bytes,
)
from workbench.training.estimate.workload import forecast, product_rate, row_sizes

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dropout_prob": 0.0,
    "attention_dropout_prob": 0.0,
    "use_stable_embedding": False,
    "pad_token_id": 0,
}


def empty_model(config, outputs=0):
    """The model of a configuration, with shapes and without weights."""
    with torch.device("meta"):
        if not isinstance(config, OpenLlamaConfig):
            return AutoModelForCausalLM.from_config(config)
        return (OpenLlamaForSequenceClassification if outputs else OpenLlamaForCausalLM)(config)


def setting(config, batch, outputs=0, **changes):
    return Setting(
        **{
            "shape": Shape.of(empty_model(config, outputs), outputs),
            "quantization": QuantizationConfig(),
            "adapter": AdapterConfig(rank=8),
            "batch": batch,
            "checkpointing": False,
            "dtype_bytes": 2,
            "on_cpu": True,
            "repeats_keys": not multiplies_bfloat16(),
            **changes,
        }
    )


def saved_bytes(model, inputs, *, of_layers=False):
    """What autograd keeps of one forward pass, weights aside; `of_layers`: without that of head and loss."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model.base_model(**inputs) if of_layers else model(**inputs).loss
    del outputs
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("length", [64, 256])
def test_activations_are_what_autograd_keeps(length, checkpointing):
    torch.manual_seed(0)
    config = OpenLlamaConfig(**SIZES)
    model = OpenLlamaForCausalLM(config).to(torch.bfloat16)
    model = attach.attach(model, AdapterConfig(rank=8), 0).train()
    ids = torch.randint(1, 300, (1, 1024))
    inputs = {
        "input_ids": ids,
        "labels": ids,
        "position_ids": torch.arange(length).repeat(1024 // length)[None],
    }
    if checkpointing:
        model.base_model.model.activation_checkpointing_enable()
    batch = Batch(1024 // length, 1024, 1024)
    counted = setting(config, batch, checkpointing=checkpointing)
    expected = activations_bytes(counted)
    if checkpointing:  # the layer that is computed again is not there yet
        expected = 4 * 1024 * 64 * 2
    # The loss keeps its rows too, and a few tables are not counted.
    assert saved_bytes(model, inputs) - 1024 * 64 * 2 == pytest.approx(expected, rel=0.08)


def test_checkpointing_in_float32_leaves_gaps_of_tensors_below_the_size_that_is_mapped():
    config = OpenLlamaConfig(**SIZES)
    counted = setting(config, Batch(4, 1024, 1024), checkpointing=True, dtype_bytes=4)
    inputs = 4 * 4 * 1024 * 64
    gaps = 3 * 4 * 1024 * (160 + 64)
    assert activations_bytes(counted) == inputs + layer_bytes(counted) + gaps
    longer = replace(counted, batch=Batch(4, 60_000, 60_000))  # an inner activation has more than 32 MiB
    assert activations_bytes(longer) == 4 * 4 * 60_000 * 64 + layer_bytes(longer)
    on_gpu = replace(counted, on_cpu=False)
    assert activations_bytes(on_gpu) == inputs + layer_bytes(on_gpu)


NATIVE_KINDS = {
    "Gemma3Text": {"head_dim": 32, "sliding_window": 512},
    "Glm4": {"head_dim": 32},
    "Phi3": {},
    "Cohere": {},
    "Olmo2": {},
    "Starcoder2": {},
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NATIVE_KINDS)
def test_activations_of_tried_layers_are_what_autograd_keeps_at_most(name, dtype):
    torch.manual_seed(0)
    sizes = {**SIZES, **NATIVE_KINDS[name]}
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    use_fused_norms(model)
    use_gated_mlps(model)
    use_blocked_attention(model)
    assert use_chunked_loss(model) == ""
    counted = setting(config, Batch(4, 1024, 1024), dtype_bytes=dtype.itemsize)
    counted = replace(counted, shape=replace(counted.shape, factor=TRIED))
    model = attach.attach(model, AdapterConfig(rank=8), 0).train()
    use_lora_products(model)
    ids = torch.randint(1, 300, (4, 256))
    saved = saved_bytes(model, {"input_ids": ids, "labels": ids})
    rows = 1024 * SIZES["hidden_size"] * dtype.itemsize  # of the loss
    assert 0.5 < (saved - rows) / activations_bytes(counted) <= 1


WIDE = {"n_embd": 64, "n_head": 4, "n_layer": 3}
STORING_SCORES = {
    "Gemma2": {"head_dim": 16},  # soft cap
    "GPT2": WIDE,  # dropout of probabilities
    "GPTJ": {**WIDE, "rotary_dim": 8},
    "Bloom": {"n_layer": 3, "n_head": 4},
    "GptOss": {"head_dim": 16, "num_local_experts": 4},  # sinks
}


@pytest.mark.parametrize("has_adapter", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", STORING_SCORES)
def test_activations_of_attention_that_stores_scores_are_what_autograd_keeps(name, dtype, has_adapter):
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **ends, **STORING_SCORES[name]})
    model, empty = AutoModelForCausalLM.from_config(config, dtype=dtype).eval(), empty_model(config)
    use_fused_norms(model)
    use_gated_mlps(model)
    adapter = AdapterConfig(rank=8) if has_adapter else None
    if adapter is not None:
        use_lora_products(attach.attach(model, adapter, 0))
        attach.check_attachable(empty.to(dtype), adapter)
    bytes_each = count_saved_bytes(empty.to(dtype), fused=True)
    if name == "GptOss" and dtype is torch.float32:  # PyTorch has no shapes of its experts' products
        assert bytes_each is None
        return
    counted = setting(config, Batch(3, 600, 600), dtype_bytes=dtype.itemsize, adapter=adapter)
    inputs = {"input_ids": torch.randint(1, 300, (3, 200)), "use_cache": False}
    measured = saved_bytes(model.train(), inputs, of_layers=True)
    counted = replace(counted, shape=replace(counted.shape, saved=SavedBytes(*bytes_each)))
    assert activations_bytes(counted) == pytest.approx(measured, rel=0.08)
    longer = replace(counted, batch=Batch(3, 1200, 1200))
    assert activations_bytes(longer) > 2.2 * activations_bytes(counted)


def test_code_that_depends_on_values_is_not_counted():
    model = empty_model(LlamaConfig(**{**SIZES, "num_hidden_layers": 1}))
    layer = model.model.layers[0]
    layer.mlp.register_forward_hook(lambda module, inputs, output: output * float(output.max()))
    assert count_saved_bytes(model, fused=True) is None


def test_weights_and_trained_weights_are_those_of_the_model():
    config = OpenLlamaConfig(**SIZES, num_labels=3)
    model = OpenLlamaForSequenceClassification(config)
    here = setting(config, Batch(1, 8, 1), outputs=3, dtype_bytes=4)
    assert weights_bytes(here) == 4 * model.num_parameters()
    tuned = attach.attach(model, AdapterConfig(rank=8), 0)
    assert trained_weights(here) == sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    causal = OpenLlamaForCausalLM(OpenLlamaConfig(**SIZES))
    whole = setting(causal.config, Batch(1, 8, 8), dtype_bytes=4, adapter=None)
    assert weights_bytes(whole) == 4 * causal.num_parameters()
    assert trained_weights(whole) == causal.num_parameters()


def test_split_weights_take_a_share_and_two_layers():
    config = OpenLlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=10
    )
    here = setting(config, Batch(1, 8, 8))
    layer = 2 * here.shape.linear_weights // 10
    others = weights_bytes(here) - 10 * layer
    assert weights_bytes(replace(here, shares=2)) == others + (5 + 2) * layer
    assert weights_bytes(replace(here, shares=10)) == others + (1 + 2) * layer
    short = setting(OpenLlamaConfig(**{**SIZES, "num_hidden_layers": 2}), Batch(1, 8, 8))
    assert weights_bytes(replace(short, shares=2)) == weights_bytes(short)  # both layers are whole at a time


def test_quantized_weights_take_the_bytes_of_their_format():
    shape = Shape.of(empty_model(LlamaConfig()))  # 7B
    linear = shape.linear_weights
    assert linear == 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    here = setting(LlamaConfig(), Batch(1, 8, 8))
    others = weights_bytes(here) - 2 * linear
    for method, bits in (("int8", 8), ("nf4", 4.127), ("fp4", 4.127)):
        quantized = setting(
            LlamaConfig(), here.batch, quantization=QuantizationConfig(method=QuantizationMethod[method])
        )
        assert 8 * (weights_bytes(quantized) - others) / linear == pytest.approx(bits, abs=1e-3)


def test_only_targeted_layers_are_trained():
    here = setting(
        OpenLlamaConfig(**SIZES),
        Batch(1, 8, 8),
        adapter=AdapterConfig(rank=8, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 2}),
    )
    assert trained_weights(here) == 3 * (8 * (64 + 64) + 2 * (64 + 32))


def test_adalora_holds_its_importances_beside_the_moments():
    config, batch = OpenLlamaConfig(**SIZES), Batch(4, 32, 128)
    options = {"init_r": 6, "target_r": 2}
    section = AdapterConfig(method=AdapterMethod.adalora, options=options)
    model = OpenLlamaForCausalLM(config)
    layers = attach.attach(model, section, seed=0).base_model
    trained = sum(weight.numel() for weight in layers.parameters() if weight.requires_grad)
    layers.rankallocator.set_total_step(9)
    layers(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    layers.update_and_allocate(1)
    allocator = layers.rankallocator
    held = [*allocator.ipt.values(), *allocator.exp_avg_ipt.values(), *allocator.exp_avg_unc.values()]
    parts = peak_parts(setting(config, batch, adapter=section, adapter_weights=trained))
    assert parts["optimizer"] == 2 * parts["adapter"] + sum(4 * tensor.numel() for tensor in held)


def test_ways_out_end_with_one_that_fits_or_with_all():
    here = setting(LlamaConfig(), Batch(8, 8 * 1024, 8 * 1024))
    peak = sum(peak_parts(here).values())
    ways = ways_out(here, peak // 2)
    assert ways[0][0] == "train.gradient_checkpointing=true"
    assert ways[-1][1] <= peak // 2
    assert all(size > peak // 2 for _, size in ways[:-1])
    peaks = [size for _, size in ways_out(here, 0)]
    assert peaks == sorted(peaks, reverse=True)
    assert ways_out(here, 0)[-1][0] == "quantization=nf4"


def test_a_whole_model_that_does_not_fit_is_given_an_adapter_and_then_quantized():
    here = setting(LlamaConfig(), Batch(1, 512, 512), adapter=None, masters=True)
    changes = dict(ways_out(here, 0))
    assert list(changes)[-2:] == ["adapter=lora", "quantization=nf4"]
    lora = setting(LlamaConfig(), Batch(1, 512, 512), adapter=AdapterConfig(), checkpointing=True)
    assert changes["adapter=lora"] == sum(peak_parts(lora).values())


def test_ways_out_that_save_nothing_are_left_out():
    here = setting(LlamaConfig(), Batch(1, 0, 0))
    peak = sum(peak_parts(here).values())
    assert all(size < peak for _, size in ways_out(here, 0))
    assert [change for change, _ in ways_out(here, 0)] == ["quantization=nf4"]


def test_operations_are_two_for_each_weight_and_pass():
    here = setting(OpenLlamaConfig(**SIZES), Batch(1, 100, 50), adapter=None)
    shape = here.shape
    flops = step_flops(here, tokens=100, labelled=50, length=0)
    assert flops == 6 * (100 * shape.linear_weights + 50 * 300 * 64)


def test_a_forecast_counts_the_tokens_of_all_steps_and_finds_the_largest_batch():
    rows = causal_rows(24)
    train = TrainConfig(per_device_batch_size=4, num_epochs=2, gradient_accumulation_steps=2)
    work = forecast(row_sizes(rows), train, 7)
    assert work.steps == 6
    assert work.tokens == 2 * sum(rows["length"])
    assert work.labelled == 2 * sum(len(labels) - labels.count(-100) for labels in rows["labels"])
    assert max(rows["length"]) < work.largest.tokens <= 4 * max(rows["length"])
    padded = forecast(row_sizes(class_rows(24)), train, 7)
    assert padded.largest == Batch(4, 4 * 10, 4)


def test_a_forecast_counts_the_short_step_at_the_end_of_each_epoch():
    """Six batches in steps of four: two steps an epoch, of which the second takes two batches."""
    rows = causal_rows(24)
    each = {"per_device_batch_size": 4, "gradient_accumulation_steps": 4}
    for epochs in (3, 50):
        work = forecast(row_sizes(rows), TrainConfig(num_epochs=epochs, **each), 7)
        assert (work.steps, work.tokens) == (2 * epochs, epochs * sum(rows["length"]))
    part = forecast(row_sizes(rows), TrainConfig(max_steps=3, **each), 7)
    assert sum(rows["length"]) < part.tokens < 2 * sum(rows["length"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_forecast_is_that_of_all_processes(monkeypatch, rank):
    rows = causal_rows(20)
    alone = forecast(row_sizes(rows), TrainConfig(per_device_batch_size=4), 7)
    monkeypatch.setattr(forecast_module, "rank_and_world_size", lambda: (rank, 2))
    work = forecast(row_sizes(rows), TrainConfig(per_device_batch_size=4), 7)
    assert (alone.steps, work.steps) == (5, 3)
    assert work.tokens == alone.tokens == sum(rows["length"])


OTHER_NAMES = {
    "GPT2": {"n_embd": 32, "n_head": 4},
    "OPT": {"hidden_size": 32, "ffn_dim": 128, "num_attention_heads": 4},
    "Bloom": {"hidden_size": 32},
    "Falcon": {"hidden_size": 32, "num_attention_heads": 2},
    "GPTJ": {"n_embd": 32},
    "GPTNeo": {"hidden_size": 32},
    "Mpt": {"d_model": 32},
    "CodeGen": {"n_embd": 32},
    "XGLM": {"d_model": 32, "ffn_dim": 128},
    "Mamba": {"hidden_size": 32, "intermediate_size": 128},
}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_the_sizes_of_models_that_name_them_otherwise_are_found(name):
    model = empty_model(getattr(transformers, f"{name}Config")(**OTHER_NAMES[name]))
    shape = Shape.of(model, factor=NATIVE)
    assert (shape.hidden, shape.inner) == (32, 128)
    assert shape.layers > 0 and shape.vocabulary > 0
    assert shape.linear_weights + shape.other_weights == model.num_parameters()


def test_a_token_passes_through_two_of_mixtrals_eight_experts():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 100}
    shape = Shape.of(empty_model(MixtralConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)))
    assert shape.expert_weights == 2 * 2 * (3 * 32 * 48)
    assert shape.inner == 2 * 48


def test_experts_in_4_bits_are_counted_and_those_that_are_dequantized_at_a_time():
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 100}
    config = MixtralConfig(num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, **sizes)
    layer = 4 * 3 * 64 * 128
    plain, int8, nf4, checkpointed = (
        setting(
            config,
            Batch(1, 8, 8),
            quantization=QuantizationConfig(method=QuantizationMethod[method]),
            checkpointing=checkpointing,
        )
        for method, checkpointing in (("none", False), ("int8", False), ("nf4", False), ("nf4", True))
    )
    linear = plain.shape.linear_weights
    assert plain.shape.experts == 3 * layer and plain.shape.layer_experts == layer
    assert weights_bytes(plain) - weights_bytes(int8) == linear
    per_weight = 2 - (weights_bytes(plain) - weights_bytes(nf4)) / (linear + 3 * layer)
    assert 8 * per_weight == pytest.approx(4.127, abs=1e-3)
    parts = [peak_parts(here)["passing"] for here in (plain, nf4, checkpointed)]
    assert parts[1] - parts[0] == 2 * 3 * layer and parts[2] - parts[0] == 2 * layer


@pytest.mark.parametrize("checkpointing", [False, True])
def test_float32_copies_of_16_bit_weights_are_counted_as_autograd_keeps_them(checkpointing):
    torch.manual_seed(0)
    config = OpenLlamaConfig(**SIZES)
    model = OpenLlamaForCausalLM(config).train()
    ids = torch.randint(1, 300, (1, 1024))
    inputs = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(256).repeat(4)[None]}
    if checkpointing:
        model.activation_checkpointing_enable()
    counted = setting(config, Batch(4, 1024, 1024), checkpointing=checkpointing, adapter=None, masters=True)
    with torch.autocast("cpu", torch.bfloat16):
        kept = saved_bytes(model, inputs)
    parts = peak_parts(counted)
    copies, four_each = 2 * counted.shape.linear_weights, 4 * model.num_parameters()
    assert (parts["gradients"], parts["optimizer"]) == (four_each, 2 * four_each)
    assert parts["weights"] == four_each + copies
    # The loss keeps the gradients of its rows and of the head.
    head = 4 * 64 * (1024 + 300)
    expected = 4 * 1024 * 64 * 4 if checkpointing else activations_bytes(counted) + copies
    assert kept - head == pytest.approx(expected, rel=0.08)


def test_the_rate_of_a_slow_machine_is_that_of_its_first_product(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(forecast_module.time, "perf_counter", lambda: next(seconds))
    assert product_rate(torch.float32, 8, 16) == 2 * 64 * 8 * 16
    assert next(seconds) == 3
