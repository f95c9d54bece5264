"""With rope types that depend on a text's length, a text is computed as if it were alone in a new model."""

import copy

import pytest
import torch
from datasets import Dataset
from tiny_checkpoints import PLAIN, SIZES, VOCABULARY, at, words_tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Phi3Config,
    Phi3ForCausalLM,
)

from workbench.config.adapter import AdapterConfig
from workbench.config.model import Architecture, Task
from workbench.config.train import TrainConfig
from workbench.models.adapters import attach
from workbench.models.loading import load_model, load_tokenizer
from workbench.models.ops.packed_sequences import text_lengths
from workbench.training.fit import fit

THRESHOLD = 24
LENGTHS = (5, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 40, 1, 3 * THRESHOLD)
CLOSE = {"rtol": 0, "atol": 2e-5}
DYNAMIC = {
    "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    "max_position_embeddings": THRESHOLD,
}
LONG = {
    "rope_parameters": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 6.0, 7.0, 8.0],
        "original_max_position_embeddings": THRESHOLD,
        "factor": 4.0,
        "rope_theta": 10000.0,
    },
    "max_position_embeddings": 4 * THRESHOLD,
}
# Name -> configuration and class of transformers, fields, and the architecture that is loaded.
KINDS = {
    "longrope, phi3": (Phi3Config, Phi3ForCausalLM, LONG, "native"),
    "longrope, llama": (LlamaConfig, LlamaForCausalLM, LONG, "native"),
    "longrope, open-llama": (LlamaConfig, LlamaForCausalLM, LONG, "open-llama"),
    "dynamic, llama": (LlamaConfig, LlamaForCausalLM, DYNAMIC, "native"),
    "dynamic, open-llama": (LlamaConfig, LlamaForCausalLM, DYNAMIC, "open-llama"),
}


def saved(name, folder, class_=None):
    """The model of transformers' own class, and the configuration section that loads it as `name` says."""
    config_class, causal, rope, architecture = KINDS[name]
    fields = SIZES | copy.deepcopy(rope) | {"pad_token_id": 0, "num_key_value_heads": 2}
    if config_class is Phi3Config:
        fields["original_max_position_embeddings"] = THRESHOLD
    torch.manual_seed(0)
    made = (class_ or causal)(config_class(**fields)).eval()
    made.save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    task = Task.causal_lm if class_ is None else Task.sequence_classification
    return made, at(folder, architecture=Architecture[architecture], task=task)


def texts(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (1, length), generator=generator) for length in lengths]


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def alone(reference, ids):
    """Logits and summed loss of a text in a model that has seen no other text; gradients are added up."""
    fresh = copy.deepcopy(reference)
    for weight, own in zip(fresh.parameters(), reference.parameters(), strict=True):
        weight.grad = own.grad
    logits = fresh(ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")
    if ids.shape[1] > 1:
        loss.backward()
    for weight, own in zip(fresh.parameters(), reference.parameters(), strict=True):
        own.grad = weight.grad
    return logits.detach()[0], loss.detach() if ids.shape[1] > 1 else 0


def packed():
    ids = torch.cat(texts(), 1)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    labels = ids.masked_fill(positions == 0, -100)
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def padded(side):
    longest = max(LENGTHS)
    ids, mask = torch.zeros(2, len(LENGTHS), longest, dtype=torch.long)
    for row, text in enumerate(texts()):
        width = text.shape[1]
        columns = slice(0, width) if side == "right" else slice(longest - width, longest)
        ids[row, columns], mask[row, columns] = text[0], 1
    labels = ids.masked_fill(mask == 0, -100)
    if side == "left":
        labels[torch.arange(len(LENGTHS)), longest - torch.tensor(LENGTHS)] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


BATCHES = {"packed": packed, "padded": lambda: padded("right"), "padded left": lambda: padded("left")}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", KINDS)
def test_rows_of_texts_across_the_threshold_train_as_each_text_alone(name, batch, tmp_path):
    reference, section = saved(name, tmp_path)
    model = load_model(section, PLAIN)
    together = BATCHES[batch]()
    model(torch.cat(texts((4 * THRESHOLD,)), 1))  # a longer text before it changes nothing
    with torch.no_grad():
        arguments = {key: value for key, value in together.items() if key != "labels"}
        logits = model(**arguments, use_cache=False).logits
    mask = together.get("attention_mask", torch.ones_like(together["input_ids"])).bool()
    outputs = [alone(reference, text) for text in texts()]
    torch.testing.assert_close(logits[mask], torch.cat([logits for logits, _ in outputs]), **CLOSE)
    num_labels = sum(LENGTHS) - len(LENGTHS)
    model.train()
    loss = model(**together, use_cache=False).loss
    loss.backward()
    wanted = sum(loss for _, loss in outputs)
    torch.testing.assert_close(loss.detach() * num_labels, wanted, rtol=1e-5, atol=0)
    expected = gradients(reference)
    found = gradients(model)
    for weight in found:
        torch.testing.assert_close(found[weight] * num_labels, expected[weight], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in KINDS if "llama" in name])
def test_a_classifier_scores_each_row_of_a_padded_batch_as_if_alone(name, tmp_path):
    reference, section = saved(name, tmp_path, LlamaForSequenceClassification)
    model = load_model(section, PLAIN, 2)
    batch = padded("right")
    with torch.no_grad():
        together = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        expected = torch.cat([copy.deepcopy(reference)(text).logits for text in texts()])
    torch.testing.assert_close(together, expected, **CLOSE)


def rows():
    return Dataset.from_list(
        [
            {"input_ids": ids, "labels": [-100, *ids[1:]], "length": len(ids), "row": row, "where": ""}
            for row, ids in enumerate(text[0].tolist() for text in texts((12, 24, 25, 30, 60, 23, 44, 90)))
        ]
    )


@pytest.mark.parametrize("name", KINDS)
def test_training_joined_rows_across_the_threshold_is_training_each_row_alone(name, tmp_path):
    _, section = saved(name, tmp_path)
    adapters = []
    for rows_at_once in (4, 1):
        folder = tmp_path / f"{rows_at_once} at once"
        model = attach.attach(load_model(section, PLAIN), AdapterConfig(rank=4, dropout=0.0), seed=1)
        sizes = {"per_device_batch_size": rows_at_once, "gradient_accumulation_steps": 4 // rows_at_once}
        train = TrainConfig(**sizes, max_steps=4, warmup_steps=0, learning_rate=1e-2)
        fit(model, load_tokenizer(section), rows(), None, train, folder, 0)
        adapters.append({name: weight for name, weight in model.named_parameters() if weight.requires_grad})
    joined, alone = adapters
    for weight in alone:
        torch.testing.assert_close(joined[weight], alone[weight], rtol=0, atol=1e-4)


def test_the_length_of_each_tokens_text_is_found_from_positions():
    positions = torch.tensor([[0, 1, 2, 0, 0, 1], [3, 4, 5, 6, 7, 8]])
    assert text_lengths(positions).tolist() == [[3, 3, 3, 1, 2, 2], [9] * 6]


@pytest.mark.parametrize("caching", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_generation_across_the_threshold_computes_a_text_of_longrope_again(caching, tmp_path):
    reference, section = saved("longrope, open-llama", tmp_path)
    model, count = load_model(section, PLAIN), 12
    batch = [text[0] for text in texts((THRESHOLD - 14, THRESHOLD - 4, THRESHOLD, THRESHOLD + 3))]
    width = max(len(text) for text in batch)
    ids, mask = torch.zeros(2, len(batch), width, dtype=torch.long)
    for row, text in enumerate(batch):
        ids[row, width - len(text) :], mask[row, width - len(text) :] = text, 1
    options = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, **caching}
    answers = model.generate(ids, attention_mask=mask, **options)[:, width:]
    for text, answer in zip(batch, answers, strict=True):
        for length in range(count):
            with torch.no_grad():
                logits = reference(torch.cat([text, answer[:length]])[None]).logits[0, -1]
            assert logits.argmax() == answer[length]
