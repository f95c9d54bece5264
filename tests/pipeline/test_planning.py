import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from workbench import cli
from workbench.errors import ConfigError, WorkbenchError
from workbench.machine import resident_bytes
from workbench.models import device

TOY = (
    "model.path=${toy:base}",
    "data.path=${toy:data/instruct.jsonl}",
    "data.limit=40",
    "data.max_length=64",
)


def unwrapped(caplog):
    """The log as one line, without the breaks of a plan's long lines."""
    return " ".join(record.message for record in caplog.records).replace("plan:     ", "")


def test_a_plan_names_the_parts_and_leaves_no_folder(run, caplog):
    run("plan", *TOY, "train.num_epochs=2")
    said = caplog.text
    for part in ("GiB at the peak on cpu", "plan:   process", "activations", "plan: 20 steps, ", "about "):
        assert part in said
    assert "does not fit" not in said
    assert not Path("runs").exists()


def test_what_does_not_fit_is_said_with_what_to_change(run, caplog):
    run("plan", *TOY, "plan.memory_gib=0.001")
    said = unwrapped(caplog)
    ways = [way.partition(" plan:")[0] for way in said.split(" GiB with ")[1:] if "=" in way.split(" ")[0]]
    assert ways[0] == "train.gradient_checkpointing=true"
    assert ways[1] == "train.per_device_batch_size=2 train.gradient_accumulation_steps=2"
    assert ways[-1] == "quantization=nf4"


def test_a_named_gpu_is_planned_for_without_having_it(run, caplog):
    run("plan", *TOY, "plan.gpu=l4", "quantization=nf4")
    assert "of 22.35 GiB at the peak on l4" in caplog.text
    assert "at least " in caplog.text


@pytest.mark.parametrize("gpu", ["t4", "v100-32gb"])
def test_a_gpu_without_bfloat16_is_named_and_float16_is_scaled(run, caplog, gpu):
    run("plan", *TOY, f"plan.gpu={gpu}", "model.dtype=bfloat16")
    assert f"bfloat16 is emulated on {gpu}, which is several times slower" in unwrapped(caplog)
    assert "the loss is scaled" not in unwrapped(caplog)
    caplog.clear()
    run("plan", *TOY, f"plan.gpu={gpu}", "model.dtype=float16")
    assert "emulated" not in caplog.text and "float16: the loss is scaled" in unwrapped(caplog)
    caplog.clear()
    run("plan", *TOY, "plan.gpu=l4", "model.dtype=bfloat16")
    assert "emulated" not in caplog.text
    run("plan", *TOY, "model.dtype=float16", "model.device=cpu")
    assert "float16: small gradients vanish on a CPU" in unwrapped(caplog)


@pytest.mark.parametrize("has_instructions", [False, True])
def test_a_processor_without_bfloat16_is_said_with_the_way_out(run, caplog, monkeypatch, has_instructions):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: has_instructions)
    said = "this processor has no bfloat16 instructions"
    run("plan", *TOY, "model.device=cpu", "model.dtype=bfloat16")
    assert (said in unwrapped(caplog)) is not has_instructions
    caplog.clear()
    run("quickstart", *TOY, "model.device=cpu", "model.dtype=bfloat16", "steps=[train]", "train.max_steps=4")
    warned = [each.message for each in caplog.records if each.message.startswith("model.dtype:")]
    assert any("model.dtype=float32 is faster" in message for message in warned) is not has_instructions
    caplog.clear()
    run("plan", *TOY, "model.device=cpu", "model.dtype=float32")
    assert said not in unwrapped(caplog)


def test_a_gpu_is_not_planned_for_a_processor(run):
    with pytest.raises(ConfigError, match=r"plan\.gpu: 'h100', together with model\.device='cpu'"):
        run("plan", *TOY, "plan.gpu=h100", "model.device=cpu")


def test_every_training_begins_with_its_plan(run, caplog):
    run("quickstart", "steps=[train]", "train.max_steps=2", "data.limit=40")
    messages = [record.message for record in caplog.records]
    planned = next(number for number, said in enumerate(messages) if said.startswith("plan:"))
    loaded = next(number for number, said in enumerate(messages) if "parameters" in said)
    assert planned < loaded


@pytest.mark.parametrize(
    ("override", "words"),
    [("plan.memory_gib=0", "plan.memory_gib"), ("data.path=nothing.jsonl", "nothing.jsonl")],
)
def test_a_plan_finds_the_mistakes_that_the_training_would(run, override, words):
    with pytest.raises((ConfigError, WorkbenchError), match=words):
        run("plan", *TOY, override)


def test_a_plan_of_streamed_rows_leaves_no_folder_either(run, caplog):
    run("plan", *TOY, "data.streaming=true")
    assert "plan: 10 steps" in caplog.text
    assert not Path("runs").exists()


def long_rows(folder):
    rows = [{"instruction": "add", "output": "yes " * count} for count in (3, 700, 900)]
    (folder / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("recipe", ["plan", "sft"])
def test_a_row_longer_than_a_rotary_context_is_refused_with_the_way_out(run, caplog, tmp_path, recipe):
    long_rows(tmp_path)
    words = (
        r"data.max_length: long.jsonl:2 has .* tokens, the model's context has 512 \(2 of 3 rows are longer; "
        r"data.max_length=512, or max_position_embeddings in config.json"
    )
    with pytest.raises(ConfigError, match=words):
        run(recipe, *TOY[:1], "data.path=long.jsonl", "data.max_length=5000")
    run("plan", *TOY[:1], "data.path=long.jsonl", "data.max_length=512")
    assert "plan: " in caplog.text


LLAMA_7B = {"model_type": "llama", "torch_dtype": "float16", "max_position_embeddings": 4096}
QWEN2_7B = {
    **{"model_type": "qwen2", "torch_dtype": "bfloat16", "hidden_size": 3584, "intermediate_size": 18944},
    **{"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
}
MISTRAL_7B = {
    **{"model_type": "mistral", "torch_dtype": "bfloat16", "intermediate_size": 14336},
    **{"num_key_value_heads": 8, "sliding_window": None},
}
PARAMETERS = [  # by the models' pages on the Hub
    (LLAMA_7B, (), 6_738_415_616),
    (QWEN2_7B, ("model.architecture=native",), 7_615_616_512),
    (MISTRAL_7B, (), 7_241_732_096),
]


def config_alone(folder, values):
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text(json.dumps(values))
    return "model.path=model"


@pytest.mark.parametrize(("values", "overrides", "count"), PARAMETERS, ids=["llama", "qwen2", "mistral"])
def test_a_config_json_alone_gives_the_bytes_of_the_weights(run, caplog, tmp_path, values, overrides, count):
    run("plan", config_alone(tmp_path, values), *overrides, "plan.gpu=l4", "train.max_steps=100")
    assert f"weights {2 * count / 2**30:.2f}," in caplog.text
    assert "plan: no weights: sizes and number format are those of config.json" in caplog.text
    assert "plan: 100 steps, 204,800 tokens with padding, at least " in caplog.text


def test_a_plan_from_a_config_json_says_what_it_assumes_of_the_rows(run, caplog, tmp_path):
    model = config_alone(tmp_path, LLAMA_7B)
    run("plan", model, "plan.gpu=l4", "quantization=nf4")
    assert "no data.path: each row is assumed to have data.max_length=512 tokens" in unwrapped(caplog)
    assert "no tokenizer: the vocabulary has 32,000 tokens by config.json" in unwrapped(caplog)
    assert "plan: a step: 2,048 tokens, at least " in unwrapped(caplog)
    run("plan", model, TOY[1], "data.limit=40", "plan.gpu=l4", "quantization=nf4")
    assert "no tokenizer: each of 40 rows is assumed to have data.max_length=512 tokens" in unwrapped(caplog)
    assert "plan: 10 steps, 20,480 tokens with padding" in caplog.text


@pytest.mark.parametrize(
    ("values", "overrides", "words"),
    [
        ({"model_type": "t5"}, ("model.architecture=native",), "'t5' is an encoder-decoder"),
        ({**LLAMA_7B, "num_attention_heads": 0}, (), "num_attention_heads, or another divisor, is 0"),
        (LLAMA_7B, ("data.max_length=5000",), "data.max_length: 5000 is more than the model's context"),
        (LLAMA_7B, ("adapter.target_modules=[c_attn]",), "'c_attn' matches no layer"),
    ],
)
def test_a_config_json_that_cannot_be_planned_is_refused(run, tmp_path, values, overrides, words):
    with pytest.raises(WorkbenchError, match=words):
        run("plan", config_alone(tmp_path, values), *overrides)


def test_no_line_of_a_plan_is_longer_than_80_columns(run, caplog, tmp_path):
    run("plan", config_alone(tmp_path, LLAMA_7B), "plan.memory_gib=1", "train.max_steps=10")
    lines = [record.message for record in caplog.records if record.message.startswith("plan: ")]
    assert len(lines) > 8
    assert max(map(len, lines)) <= 80


def small_gpt2():
    """A GPT-2 with the toy's tokenizer, in the folder `gpt2`."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    config = GPT2Config(vocab_size=686, n_embd=64, n_layer=2, n_head=2, n_positions=128, **ends)
    GPT2LMHeadModel(config).save_pretrained("gpt2")
    AutoTokenizer.from_pretrained(cli.PACKAGE / "toy" / "base").save_pretrained("gpt2")


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_layers_that_hold_their_weights_the_other_way_round_are_merged_from_a_quantized_base(
    run, quantization
):
    small_gpt2()
    how = (
        "model.path=gpt2",
        "model.architecture=native",
        f"quantization={quantization}",
        "train.max_steps=2",
    )
    rows = ("data.limit=8", "data.max_length=128", "steps=[train,merge]")
    assert run("quickstart", *how, *rows, "run_dir=run").merged.is_dir()


def planned_gib(caplog, purpose):
    """Planned GiB for a purpose; 0 if it isn't mentioned."""
    amounts = re.findall(rf"\b{purpose} ([0-9.]+)", unwrapped(caplog))
    caplog.clear()
    return float(amounts[0]) if amounts else 0.0


def test_a_plan_knows_layers_that_store_no_float32_copies(run, caplog, tmp_path):
    phi3 = {"model_type": "phi3", "torch_dtype": "bfloat16", "num_hidden_layers": 8}
    how = ("plan.gpu=h200", "train.max_steps=10", "quantization=none")
    run("plan", config_alone(tmp_path, phi3), *how)
    tried = planned_gib(caplog, "activations")
    run("plan", "model.path=model", *how, "model.fused=false")
    assert planned_gib(caplog, "activations") > 1.3 * tried


def test_a_plan_counts_the_scores_that_eager_attention_stores(run, caplog, tmp_path):
    """Twice as many tokens in a row take more than twice the memory."""
    gemma2 = {"model_type": "gemma2", "torch_dtype": "bfloat16", "num_hidden_layers": 4}
    how = ("plan.gpu=h200", "train.max_steps=10", "quantization=none", "data.packing=true")
    run("plan", config_alone(tmp_path, gemma2), *how, "data.max_length=2048")
    short = planned_gib(caplog, "activations")
    run("plan", "model.path=model", *how, "data.max_length=4096")
    long = planned_gib(caplog, "activations")
    assert long > 2.5 * short
    run("plan", "model.path=model", *how, "data.max_length=4096", "model.fused=false")
    assert planned_gib(caplog, "activations") > 1.05 * long


def test_a_plan_counts_all_logits_only_if_training_stores_them(run, caplog, tmp_path):
    gemma = {"model_type": "gemma2", "torch_dtype": "bfloat16", "num_hidden_layers": 4, "vocab_size": 256_000}
    mixtral = {"model_type": "mixtral", "torch_dtype": "bfloat16", "num_hidden_layers": 2}
    how = ("plan.gpu=h200", "train.max_steps=10", "quantization=none")
    run("plan", config_alone(tmp_path, gemma), *how)
    assert "it may be less" not in unwrapped(caplog)
    chunked = planned_gib(caplog, "logits")
    run("plan", "model.path=model", *how, "model.fused=false")
    assert "it may be less" not in unwrapped(caplog)
    assert planned_gib(caplog, "logits") > 5 * chunked > 0
    (tmp_path / "model/config.json").write_text(json.dumps({**mixtral, "output_router_logits": True}))
    run("plan", "model.path=model", *how)
    assert "it may be less: all logits are counted" in unwrapped(caplog)
    routed = planned_gib(caplog, "logits")
    (tmp_path / "model/config.json").write_text(json.dumps(mixtral))
    run("plan", "model.path=model", *how)
    assert routed > planned_gib(caplog, "logits")


def test_a_model_with_learned_positions_trains_and_refuses_a_row_that_is_too_long(run, tmp_path):
    small_gpt2()
    how = ("model.path=gpt2", "model.architecture=native", "quantization=none", "train.max_steps=2")
    how = (*how, "steps=[train]", "run_dir=run")
    assert run("quickstart", *how, "data.limit=8", "data.max_length=128").adapter.is_dir()
    long_rows(tmp_path)
    with pytest.raises(
        ConfigError, match="data.max_length: long.jsonl:2 has .* tokens, the model's context has 128"
    ):
        run("quickstart", *how[:-1], "data.path=long.jsonl", "data.max_length=5000", "run_dir=other")


LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32_000,
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def gib_to_merge(caplog):
    """GiB to merge, with the proof, and on the disk."""
    said = unwrapped(caplog)
    numbers = re.search(
        r"to merge: ([\d.]+) GiB at the peak, ([\d.]+) GiB .*, ([\d.]+) GiB on the disk", said
    )
    return [float(number) for number in numbers.groups()]


def test_a_plan_counts_no_proof_on_texts_that_is_left_out(run, tmp_path, caplog):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    run("plan", f"model.path={tmp_path}", "merge.probe=false", "data.max_length=64")
    assert "to merge: " in unwrapped(caplog) and "proof" not in unwrapped(caplog)


@pytest.mark.parametrize("method", ["none", "nf4"])
def test_a_plan_says_what_a_merge_and_its_proof_take(method, run, tmp_path, caplog):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    run("plan", f"model.path={tmp_path}", f"quantization={method}", "adapter.rank=16", "data.max_length=64")
    merge, proof, disk = gib_to_merge(caplog)
    layers = 2 * (4 * 1536 * 1536 + 3 * 1536 * 4096 + 2 * 1536)
    heads = 2 * 32_000 * 1536
    assert disk == pytest.approx(2 * (layers + heads + 1536) / 2**30, abs=0.006)
    adapter = 2 * 16 * (4 * (1536 + 1536) + 3 * (1536 + 4096))
    # The largest block is the head: its weights, the adapter twice, and the logits of 4 x 64 tokens twice.
    # The head's product copies its weights, too.
    expected = 4 * (32_000 * 1536 + 2 * adapter + 2 * 4 * 64 * 32_000) + 2 * 32_000 * 1536
    expected += round(8.5 * 1536 * 4096) if method == "nf4" else 0  # copies of the largest quantized layer
    assert proof == pytest.approx((resident_bytes() + expected) / 2**30, abs=0.02)
    assert merge < proof - 0.2


def test_a_plan_for_another_machine_takes_kernels_that_this_one_lacks(run, caplog):
    toy = f"model.path={cli.PACKAGE / 'toy' / 'base'}"
    how = (toy, f"data.path={cli.PACKAGE / 'toy' / 'data' / 'instruct.jsonl'}", "model.loss=liger")
    run("plan", *how, "plan.gpu=h100")
    assert "at the peak on h100" in unwrapped(caplog)
    with pytest.raises(WorkbenchError, match=r"^model\.loss: liger"):
        run("sft", *how)
