"""Two real tokenizers, trained in a moment: byte-level, and SentencePiece-like with its leading space."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "user:三加四等于几？\nsystem:七",
    "user:What is the capital of France?\nsystem:Paris is the capital of France.",
    "### Instruction:\nWrite a poem.\n\n### Response:Roses are red.",
    "Below is an instruction that describes a task. Write a response that completes the request.",
    "下面是一条描述任务的指令。请写出恰当完成该任务的回答。### 指令：\n### 回答：",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrapped(tokenizer)


@pytest.fixture(scope="session")
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Puts a space before every text and <s> before every sequence, as LLaMA's does."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="always", split=False)])
    alphabet = sorted(
        set("".join([*CORPUS, "再加一呢八翻译成英文你好七。"]))
        | {chr(i) for i in range(32, 127)}
        | {"\n", "▁"}
    )
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return wrapped(tokenizer)


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file of the given name; rows become JSON lines."""

    def writer(name: str, content: str | bytes | list) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return writer
