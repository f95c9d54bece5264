"""Merged folders as PEFT, LLaMA-Factory and axolotl write them, by their published steps.

PEFT: merge_and_unload and save_pretrained, no tokenizer. LLaMA-Factory (src/llamafactory/train/tuner.py,
export_model): as PEFT, then the model in the dtype of its configuration, in shards, and the tokenizer with
left padding. axolotl (src/axolotl/cli/merge_lora.py): shard by shard, the sum in float32, with the files
beside the weights copied from the base; its older way samples by default.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

VOCABULARY = 144
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
TRAINED_TEMPLATE = "{% for m in messages %}w9 {{ m.content }} w10{% endfor %}"
LINEAR = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def tokenizer(template: str = TEMPLATE, size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, size)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    fast.chat_template = template
    return fast


def write_base(folder: Path, dtype: str = "bfloat16", seed: int = 0, **fields: Any) -> Path:
    """A LLaMA of 2 layers in shards, with norms that aren't ones."""
    torch.manual_seed(seed)
    sizes = dict(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.05,
    )  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, "eos_token_id": 2, "bos_token_id": 1, **fields}))
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data += 0.1 * torch.randn_like(weight)
    model.generation_config.eos_token_id = 2
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="200KB")
    tokenizer().save_pretrained(folder)
    return folder


def load(base: Path, labels: int | None = None, dtype: str = "auto") -> Any:
    if labels is None:
        return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    torch.manual_seed(3)
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, dtype=dtype)


def write_adapter(
    folder: Path, base: Path, config: Any = None, labels: int | None = None, size: float = 0.03, seed: int = 1
) -> Path:
    """An adapter whose updates have about `size` of the weights' norm (LoRA), with the trained tokenizer."""
    config = config or LoraConfig(r=8, lora_alpha=16, target_modules=LINEAR)
    if labels is not None:
        config.task_type = "SEQ_CLS"
    model = get_peft_model(load(base, labels), config)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            largest = size if "lora_B" in name or "embedding_B" in name else max(0.02, size)
            weight.data += largest * 0.5 * torch.randn_like(weight)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def merged_model(base: Path, adapter: Path, labels: int | None = None, dtype: str = "auto") -> Any:
    return PeftModel.from_pretrained(load(base, labels, dtype), adapter).merge_and_unload()


def peft_way(base: Path, adapter: Path, folder: Path, labels: int | None = None, dtype: str = "auto") -> Path:
    merged_model(base, adapter, labels, dtype).save_pretrained(folder)
    return folder


def llama_factory_way(
    base: Path, adapter: Path, folder: Path, labels: int | None = None, dtype: str = "auto"
) -> Path:
    model = merged_model(base, adapter, labels)
    model = model.to(model.config.dtype if dtype == "auto" else getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="150KB")
    saved = tokenizer(
        json.loads((adapter / "tokenizer_config.json").read_text()).get("chat_template", TEMPLATE)
    )
    saved.padding_side = "left"
    shutil.copy(adapter / "chat_template.jinja", folder) if (
        adapter / "chat_template.jinja"
    ).exists() else None
    saved.chat_template = (adapter / "chat_template.jinja").read_text()
    saved.save_pretrained(folder)
    return folder


def axolotl_way(
    base: Path, adapter: Path, folder: Path, labels: int | None = None, dtype: str = "auto"
) -> Path:
    """Shard by shard for plain LoRA on a causal model, else the older way."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    if (
        labels is not None
        or config["peft_type"] != "LORA"
        or config.get("use_dora")
        or config["modules_to_save"]
    ):
        model = merged_model(base, adapter, labels, dtype)
        if model.can_generate():
            model.generation_config.do_sample = True
        model.config.use_cache = True
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return folder
    folder.mkdir(parents=True)
    tensors = load_file(adapter / "adapter_model.safetensors")
    index: dict[str, str] = {}
    for shard in sorted(base.glob("model*.safetensors")):
        written = {}
        for name, weight in load_file(shard).items():
            down, up = (
                tensors.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight")
                for part in "AB"
            )
            if down is not None:
                scale = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
                weight = (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)
            written[name] = weight.to(weight.dtype if dtype == "auto" else getattr(torch, dtype)).contiguous()
        save_file(written, folder / shard.name, metadata={"format": "pt"})
        index |= dict.fromkeys(written, shard.name)
    for file in base.iterdir():
        if file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
            shutil.copy(file, folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


TOOLS: dict[str, Callable[..., Path]] = {
    "peft": peft_way,
    "llama-factory": llama_factory_way,
    "axolotl": axolotl_way,
}


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def rewrite(folder: Path, change: Callable[[str, Tensor], Tensor | None]) -> Path:
    """Change tensors of a folder in place; None removes one."""
    index: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")):
        changed = {name: change(name, tensor) for name, tensor in load_file(file).items()}
        kept = {name: tensor.contiguous() for name, tensor in changed.items() if tensor is not None}
        save_file(kept, file, metadata={"format": "pt"})
        index |= dict.fromkeys(kept, file.name)
    if (folder / "model.safetensors.index.json").exists():
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": index})
        )
    return folder


def as_pickle(folder: Path, prefix: str = "module.") -> Path:
    """The weights as one pickle with the prefix that DistributedDataParallel adds."""
    torch.save(
        {prefix + name: tensor for name, tensor in tensors_of(folder).items()}, folder / "pytorch_model.bin"
    )
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        file.unlink()
    return folder


def edited(folder: Path, copy: Path, file: str = "adapter_config.json", **values: Any) -> Path:
    """A copy of a folder in which a JSON file has other values."""
    shutil.copytree(folder, copy)
    content = json.loads((copy / file).read_text()) if (copy / file).exists() else {}
    (copy / file).write_text(json.dumps({**content, **values}))
    return copy
