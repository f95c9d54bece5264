"""Models whose tokens, classes, chat templates or end tokens differ from those of the model they make."""

import json
import logging
import shutil

import pytest
import torch

from workbench.config.merge import MergeConfig, WeightedPart
from workbench.config.model import ModelConfig, Task
from workbench.errors import CheckpointError
from workbench.models import OpenLlamaForCausalLM, OpenLlamaForSequenceClassification
from workbench.models.combining.combine_models import combine_models
from workbench.shipped import PACKAGE

TOY = PACKAGE / "toy" / "base"


@pytest.fixture
def merge(tmp_path):
    """Merges the folders `one` and `two` into the base, all made by `write`."""

    def merge(task=Task.causal_lm, tokenizer=None):
        parts = [WeightedPart(path=str(tmp_path / name), weight=0.5) for name in ("one", "two")]
        section = ModelConfig(path=str(tmp_path / "base"), task=task, tokenizer=tokenizer)
        return combine_models(section, MergeConfig(models=parts), tmp_path / "merged")

    return merge


@pytest.fixture
def folders(tmp_path):
    """The toy model, and two that were tuned from it, with its tokenizer."""
    return written(tmp_path, OpenLlamaForCausalLM.from_pretrained(TOY))


def written(tmp_path, model):
    for seed, name in enumerate(("base", "one", "two")):
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters() if seed else ():
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
        model.save_pretrained(tmp_path / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(TOY / file, tmp_path / name / file)
    return {name: tmp_path / name for name in ("base", "one", "two")}


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def exchange_two_tokens(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def add_a_token(tokenizer):
    last = {**tokenizer["added_tokens"][-1], "content": "<|im_start|>", "id": 685}
    vocabulary = tokenizer["model"]["vocab"]
    replaced = next(token for token, index in vocabulary.items() if index == 685)
    tokenizer["model"]["merges"] = [
        pair for pair in tokenizer["model"]["merges"] if "".join(pair) != replaced
    ]
    del vocabulary[replaced]
    tokenizer["added_tokens"].append(last)


def test_a_token_with_another_id_is_refused_by_name(folders, merge):
    edit(folders["two"] / "tokenizer.json", exchange_two_tokens)
    with pytest.raises(
        CheckpointError, match=r"merge.models: the token '.*' is number 30\d in '.*two' and 30\d"
    ):
        merge()


def test_a_token_that_the_result_lacks_is_warned_about(folders, merge, caplog):
    edit(folders["two"] / "tokenizer.json", add_a_token)
    merge()
    assert "two has 1 token that the merged model's tokenizer lacks, such as '<|im_start|>'" in caplog.text


def test_a_chat_template_that_the_result_lacks_is_warned_about(folders, merge, caplog):
    (folders["two"] / "chat_template.jinja").write_text("{{ messages[0].content }}")
    merge()
    assert "two has a chat template, and the merged model has none (model.tokenizer=" in caplog.text
    caplog.clear()
    merge(tokenizer=str(folders["two"]))
    assert "chat template" not in caplog.text
    (folders["base"] / "chat_template.jinja").write_text("{{ messages[1].content }}")
    merge()
    assert "two has another chat template, and the merged model keeps the base's" in caplog.text


def test_an_end_token_that_the_result_lacks_is_warned_about(folders, merge, caplog):
    edit(folders["one"] / "generation_config.json", lambda settings: settings.update(eos_token_id=[2, 5]))
    merge()
    assert "one end with the token 5, which does not end the merged model's" in caplog.text


def test_models_alike_are_merged_without_a_word(folders, merge, caplog):
    caplog.set_level(logging.WARNING)
    merge()
    assert not caplog.records


@pytest.fixture
def classifiers(tmp_path):
    model = OpenLlamaForSequenceClassification.from_pretrained(TOY, num_labels=3)
    return written(tmp_path, model)


def name_classes(folder, *names):
    labels = {str(index): name for index, name in enumerate(names)}
    edit(folder / "config.json", lambda config: config.update(id2label=labels))


@pytest.mark.parametrize("namer", ["base", "one"])
def test_classes_in_another_order_are_refused(namer, classifiers, merge):
    name_classes(classifiers[namer], "bad", "fair", "good")
    name_classes(classifiers["two"], "good", "fair", "bad")
    where = "the base" if namer == "base" else "'.*one'"
    with pytest.raises(CheckpointError, match=f"class 0 is 'good' in '.*two' and 'bad' in {where}"):
        merge(Task.sequence_classification)


def test_classes_without_names_and_equal_ones_are_merged(classifiers, merge):
    name_classes(classifiers["one"], "bad", "fair", "good")
    name_classes(classifiers["two"], "bad", "fair", "good")
    merge(Task.sequence_classification)


def test_a_model_of_other_rotary_parameters_is_refused(folders, merge):
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    edit(folders["two"] / "config.json", lambda config: config.update(rope_parameters=rope))
    with pytest.raises(CheckpointError, match="config.json has rope_theta=500000.0 instead of 10000.0"):
        merge()
