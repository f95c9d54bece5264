"""Every kind of causal model loads without further keys, trains, and scores as plain transformers does."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from causal_kinds import KINDS, kind
from datasets import Dataset
from tiny_checkpoints import PLAIN, at, words_tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from workbench.config.adapter import AdapterConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import Architecture
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import TrainConfig
from workbench.errors import CheckpointError, ConfigError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.models.adapters import attach
from workbench.models.loading import check_model, load_model, load_tokenizer, outline
from workbench.training.fit import fit
from workbench.training.packing_support import packing_fault

OFTEN = ("gemma2", "gemma3, multimodal", "qwen3_moe", "falcon_h1", "mamba")
LENGTHS = (5, 14, 15, 16, 17, 40, 47, 48, 70)
"""Around the window of 16 tokens, and three of it."""


def requests() -> list[TokenRequest]:
    """Texts with a common beginning of 12 tokens, after which everything is scored."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda count: torch.randint(3, 96, (count,), generator=generator).tolist()  # noqa: E731
    start = draw(12)
    return [TokenRequest((*start, *draw(length)), 12) for length in LENGTHS for _ in range(2)]


@torch.no_grad()
def alone(model, request: TokenRequest) -> float:
    logprobs = model(torch.tensor([request.tokens[:-1]])).logits[0].float().log_softmax(-1)
    return sum(logprobs[i - 1, request.tokens[i]].item() for i in range(request.first, len(request.tokens)))


def rows() -> Dataset:
    generator = torch.Generator().manual_seed(2)
    drawn = [torch.randint(3, 96, (4 + number % 7,), generator=generator).tolist() for number in range(8)]
    return Dataset.from_list(
        [
            {"input_ids": ids, "labels": ids, "length": len(ids), "row": number, "where": f"a:{number}"}
            for number, ids in enumerate(drawn)
        ]
    )


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def test_a_model_of_any_kind_loads_trains_and_scores_by_transformers_own_class(name, tmp_path, caplog):
    kind(name).save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    section = at(tmp_path)
    check_model(section, PLAIN)
    assert type(outline(section)) is type(kind(name))
    with caplog.at_level("INFO"):
        model, tokenizer = load_model(section, PLAIN), load_tokenizer(section)
    assert f"is not a LLaMA: transformers' own {type(model).__name__} runs the model" in caplog.text
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    expected = [alone(plain, request) for request in requests()]
    scores = [
        one.loglikelihood
        for one in TransformersLM(model, tokenizer, EvaluateConfig()).loglikelihoods(requests())
    ]
    torch.testing.assert_close(torch.tensor(scores), torch.tensor(expected), rtol=0, atol=1e-4)
    adapted = attach.attach(model, AdapterConfig(rank=4, alpha=8.0), seed=1)
    train = TrainConfig(max_steps=2, per_device_batch_size=4, warmup_steps=0, learning_rate=1e-2)
    fit(adapted, tokenizer, rows(), None, train, tmp_path / "run", 0)
    attach.check_did_something(adapted)
    after = alone(adapted, requests()[0])
    assert abs(after - expected[0]) > 1e-3
    attach.save(adapted, tmp_path / "adapter", str(tmp_path), tokenizer)
    reloaded = attach.load(load_model(section, PLAIN), tmp_path / "adapter")
    assert alone(reloaded, requests()[0]) == pytest.approx(after, abs=1e-5)


def test_open_llama_alone_refuses_other_kinds_and_names_the_way_out(tmp_path):
    kind("gemma2").save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'gemma2' is not a LLaMA .model.architecture=auto"):
        check_model(at(tmp_path, architecture=Architecture["open-llama"]), PLAIN)


def test_texts_train_the_text_model_of_a_composite_model_alone(tmp_path):
    adapted = attach.attach(kind("gemma3, multimodal"), AdapterConfig(rank=4, alpha=8.0), seed=1)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert trained and all(".language_model." in name for name in trained)


def test_an_adapter_leaves_out_layers_named_like_quantized_experts(tmp_path):
    kind("deepseek_v3").save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    model = load_model(at(tmp_path), QuantizationConfig(method=QuantizationMethod.nf4))
    adapted = attach.attach(model, AdapterConfig(rank=4), seed=1)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert trained and all("self_attn" in name for name in trained)


@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_a_layer_whose_weight_mamba_multiplies_itself_stays_unquantized(method, tmp_path):
    kind("mamba").save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    model = load_model(at(tmp_path), QuantizationConfig(method=QuantizationMethod[method]))
    mixer = model.backbone.layers[0].mixer
    assert type(mixer.dt_proj) is nn.Linear
    assert isinstance(mixer.x_proj, Linear4bit | Linear8bitLt)
    assert model(torch.tensor([[3, 5, 8]])).logits.isfinite().all()


def test_a_layer_that_peft_takes_for_experts_is_refused_by_name():
    with pytest.raises(ConfigError, match="'up_proj' can't be adapted, since peft takes it for the experts"):
        attach.attach(kind("deepseek_v3"), AdapterConfig(rank=4, target_modules=["up_proj"]), seed=1)


@pytest.mark.parametrize("name", KINDS)
def test_texts_share_a_row_in_training_unless_a_state_or_positions_would_pass_between_them(name):
    reach_each_other = ("bloom", "falcon_h1", "gpt_oss", "mamba", "qwen3_5")
    assert bool(packing_fault(kind(name), 0)) is (name in reach_each_other)
    assert bool(packing_fault(kind(name).bfloat16(), 0)) is (name in reach_each_other)


def test_the_reason_for_transformers_own_class_is_logged_once_in_a_process(tmp_path, caplog):
    kind("glm").save_pretrained(tmp_path)
    words_tokenizer().save_pretrained(tmp_path)
    with caplog.at_level("INFO"):
        for _ in range(2):
            load_model(at(tmp_path), PLAIN)
    assert caplog.text.count("runs the model") == 1
