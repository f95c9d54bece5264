"""Embeddings that peft saves beside an adapter: equal to the base's, or the base that the adapter needs."""

import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.config.merge import MergeConfig, WeightedPart
from workbench.config.model import Dtype, ModelConfig
from workbench.config.publishing.export import ExportConfig, ExportFormat
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError
from workbench.models.adapters import attach
from workbench.models.checkpoints.model_folder import open_base
from workbench.models.combining.combine_adapters import combine_adapters
from workbench.models.combining.lora_factors import read_lora
from workbench.models.diagnosis.adapter_layers import adapter_layers
from workbench.models.export_lora import export_lora
from workbench.models.merging.job import MergeJob
from workbench.models.merging.tensor_plan import planned_merge

pytestmark = pytest.mark.filterwarnings("ignore")


def saved_base(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 12}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=False)).save_pretrained(folder)
    return folder


def saved_adapter(base, folder, change=None, targets=("q_proj",)):
    """An adapter of a peft script, which may change the base's embedding before the training."""
    model = LlamaForCausalLM.from_pretrained(base)
    if change is not None:
        change(model)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=list(targets))
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape) * 0.1)
    model.save_pretrained(folder, save_embedding_layers=True)
    return folder


def plan(base, adapter):
    model = ModelConfig(path=str(base), dtype=Dtype.float32)
    job = MergeJob(
        model=model,
        adapter_path=str(adapter),
        quantization=QuantizationConfig(),
        base_dtype=torch.float32,
        dtype=torch.float32,
        batches=[],
    )
    return planned_merge(job)


READERS = {
    "attach": lambda base, adapter: attach.load(LlamaForCausalLM.from_pretrained(base), adapter),
    "merge": plan,
    "diagnose": lambda base, adapter: adapter_layers(adapter, open_base(str(base))),
}


def shifted(model):
    with torch.no_grad():
        model.model.embed_tokens.weight[10:] += 1


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "targets", [("q_proj",), ("q_proj", "embed_tokens", "lm_head")], ids=["plain", "lora"]
)
def test_copies_of_the_bases_embeddings_are_left_aside(tmp_path, targets, read):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(base, tmp_path / "adapter", targets=targets)
    read(base, adapter)
    ids = torch.arange(12)[None]
    ours = attach.load(LlamaForCausalLM.from_pretrained(base), adapter)
    theirs = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapter)
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("targets", [("q_proj",), ("q_proj", "embed_tokens")], ids=["plain", "lora"])
def test_an_embedding_unlike_the_bases_is_refused(tmp_path, targets, read):
    """peft puts it into the base: left aside, merge and scores would be those of another model."""
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(base, tmp_path / "adapter", shifted, targets)
    said = "brings a (model.)?embed_tokens.weight of its own, with 2 of 12 rows unlike the base's"
    with pytest.raises(CheckpointError, match=said):
        read(base, adapter)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_an_embedding_with_more_rows_than_the_bases_is_refused(tmp_path, read):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(base, tmp_path / "adapter", lambda model: model.resize_token_embeddings(14))
    with pytest.raises(CheckpointError, match=r"of its own, \[14, 8\], and the base's is \[12, 8\]"):
        read(base, adapter)


def combine(base, adapter):
    twin = shutil.copytree(adapter, adapter.parent / f"{adapter.name}-twin")
    merge = MergeConfig(adapters=[WeightedPart(path=str(path)) for path in (adapter, twin)])
    return combine_adapters(ModelConfig(path=str(base)), merge, adapter.parent / "combined")


def export(base, adapter):
    section = ExportConfig(format=ExportFormat["gguf-lora"])
    return export_lora(ModelConfig(path=str(base)), adapter, section, adapter.parent / "lora.gguf")


def other_head(model):
    with torch.no_grad():
        model.lm_head.weight[3] += 1


@pytest.mark.parametrize("use", [combine, export])
def test_a_head_under_an_adapter_is_compared_where_its_copy_is_dropped(tmp_path, use):
    """The combination and the GGUF file have the matrices alone, so that nothing later could compare it."""
    base = saved_base(tmp_path / "base")
    targets = ("q_proj", "lm_head")
    use(base, saved_adapter(base, tmp_path / "adapter", targets=targets))
    changed = saved_adapter(base, tmp_path / "changed", other_head, targets)
    with pytest.raises(CheckpointError, match="brings a lm_head.weight of its own, with 1 of 12 rows unlike"):
        use(base, changed)


def test_an_adapter_with_embeddings_beside_its_matrices_is_not_combined(tmp_path):
    base = saved_base(tmp_path / "base")
    adapter = saved_adapter(base, tmp_path / "adapter", shifted)
    with pytest.raises(CheckpointError, match="can't be combined: .*weight is not LoRA's A or B"):
        read_lora(str(adapter))


def test_a_folder_without_weights_is_named_as_no_adapter(tmp_path):
    adapter = saved_adapter(saved_base(tmp_path / "base"), tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not an adapter, adapter_model.safetensors is missing"):
        read_lora(str(adapter))
