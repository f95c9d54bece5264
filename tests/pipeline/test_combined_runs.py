"""recipe=merge with several adapters or models: combined, merged, proven and scored like one."""

import json
import re
import shutil

import pytest
import torch
from toy_adapters import TOY, toy_adapter

from workbench.config import Config
from workbench.config.model import ModelConfig
from workbench.config.predict import PredictModel
from workbench.errors import CheckpointError, ConfigError
from workbench.evaluation.records import read_predictions, read_results
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.pipeline import merge as merge_step
from workbench.pipeline.predict.predict import model_to_ask
from workbench.pipeline.step_inputs import content
from workbench.run_record import RunRecord
from workbench.weights.shard_writer import ShardWriter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MODEL = ("model.path=${toy:base}", "quantization=none")
ASKED = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=40")


@pytest.fixture
def two(tmp_path):
    toy_adapter(tmp_path / "zh", 0)
    toy_adapter(tmp_path / "en", 1, r=2, use_rslora=True)
    return "merge.adapters=[{path: zh, weight: 0.5},{path: en, weight: 0.7}]"


def answers(run_dir, model):
    return [one.loglikelihoods for one in read_predictions(run_dir.predictions(model, "toy_choice_en"))]


def test_two_adapters_are_combined_merged_and_scored_like_one(run, tmp_path, two, caplog):
    folder = run("merge", *MODEL, two, "run_dir=both")
    assert "0.5 x zh + 0.7 x en by cat, rank 6 in" in caplog.text
    assert "the exact weighted sum" in caplog.text
    report = json.loads((folder.combined / "combination.json").read_text())
    assert [(part["path"], part["weight"]) for part in report["adapters"]] == [("zh", 0.5), ("en", 0.7)]
    run("evaluate", *MODEL, *ASKED, "run_dir=both")
    scored = {score.model for score in read_results(folder.results_json)[1]}
    assert scored == {"base", "adapter", "merged"}
    for adapted, merged in zip(answers(folder, "adapter"), answers(folder, "merged"), strict=True):
        assert adapted == pytest.approx(merged, abs=1e-3)
    assert answers(folder, "adapter") != answers(folder, "base")


def test_the_same_command_again_skips_and_another_weight_combines_again(run, two, caplog):
    folder = run("merge", *MODEL, two, "run_dir=both")
    first = (folder.combined / "adapter_model.safetensors").read_bytes()
    run("merge", *MODEL, two, "run_dir=both")
    assert "combine: already done" in caplog.text and "merge: already done" in caplog.text
    run("merge", *MODEL, two.replace("0.7", "0.1"), "run_dir=both")
    assert "already done" not in caplog.text
    assert (folder.combined / "adapter_model.safetensors").read_bytes() != first


def test_the_combination_may_stay_an_adapter(run, two):
    folder = run("merge", *MODEL, two, "merge.result=adapter", "run_dir=both")
    assert folder.combined.is_dir() and not folder.merged.exists()
    run("evaluate", *MODEL, *ASKED, "run_dir=both")
    assert {score.model for score in read_results(folder.results_json)[1]} == {"base", "adapter"}


def test_a_combined_adapter_that_was_changed_is_refused(run, two):
    folder = run("merge", *MODEL, two, "merge.result=adapter", "run_dir=both")
    file = folder.combined / "adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 6', '"lora_alpha": 12'))
    with pytest.raises(CheckpointError, match="combined: was changed since the combine step wrote it"):
        run("evaluate", *MODEL, *ASKED, "run_dir=both")


def test_an_adapter_of_another_width_is_refused_before_anything_is_written(run, tmp_path, two):
    file = TOY / "config.json"
    wide = json.loads(file.read_text()) | {"hidden_size": 2 * json.loads(file.read_text())["hidden_size"]}
    (tmp_path / "wide").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "wide" / name).write_bytes((TOY / name).read_bytes())

    OpenLlamaForCausalLM(OpenLlamaConfig.from_dict(wide)).save_pretrained(tmp_path / "wide")
    with pytest.raises(
        CheckpointError, match="'zh' does not fit 'wide': .* in the adapter and .* in the model"
    ):
        run("merge", "model.path=wide", "quantization=none", two, "run_dir=both")
    assert not (tmp_path / "both" / "combined").exists()


def test_a_run_with_an_adapter_of_its_own_takes_no_combination(run, two):
    run(
        "sft", *MODEL, "data.path=${toy:data/instruct.jsonl}", "train.max_steps=1", "steps=[train]",
        "data.validation_fraction=0", "run_dir=trained",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="'trained' has an adapter of its own, adapter/"):
        run(
            "merge", *MODEL, two, "data.path=${toy:data/instruct.jsonl}", "data.validation_fraction=0",
            "run_dir=trained",
        )  # fmt: skip


def test_adapter_path_beside_the_list_is_refused(run, two):
    with pytest.raises(ConfigError, match="adapter.path: 'zh', together with merge.adapters"):
        run("merge", *MODEL, two, "adapter.path=zh", "run_dir=both")


def tuned(folder, seed):
    model = OpenLlamaForCausalLM.from_pretrained(TOY)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)


def test_a_merge_that_an_earlier_version_finished_is_not_repeated(run, tmp_path, caplog):
    words = (*MODEL, f"adapter.path={toy_adapter(tmp_path / 'zh', 0)}", "merge.probe=false", "run_dir=one")
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(merge_step, "base_content", lambda config: content(config.model.path))
        record = RunRecord(run("merge", *words).run_json)
    del record.values["steps"]["merge"][merge_step.BASE_DIGEST]
    record.note("made by", "an earlier version")
    run("merge", *words)
    assert "merge: already done" in caplog.text


def test_whole_models_are_merged_and_scored(run, tmp_path, caplog):
    for seed, name in enumerate(("a", "b")):
        tuned(tmp_path / name, seed)
    models = "merge.models=[{path: a, weight: 0.5},{path: b}]"
    folder = run("merge", *MODEL, models, "run_dir=soup")
    assert "0.5 x a + 1 x b by task_arithmetic" in caplog.text
    run("merge", *MODEL, models, "run_dir=soup")
    assert "merge: already done" in caplog.text
    run("evaluate", *MODEL, *ASKED, "run_dir=soup")
    assert {score.model for score in read_results(folder.results_json)[1]} == {"base", "merged"}
    assert answers(folder, "merged") != answers(folder, "base")


def test_merged_models_take_the_tokenizer_that_is_named(run, tmp_path):
    tuned(tmp_path / "a", 0)
    shutil.copytree(TOY, tmp_path / "base")
    (tmp_path / "other").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).rename(tmp_path / "other" / name)
    models = ("merge.models=[{path: a}]", "run_dir=soup", "quantization=none")
    folder = run("merge", "model.path=base", "model.tokenizer=other", *models)
    assert (folder.merged / "tokenizer.json").is_file()
    settings = tmp_path / "other" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 77}))
    run("merge", "model.path=base", "model.tokenizer=other", *models)
    assert json.loads((folder.merged / "tokenizer_config.json").read_text())["model_max_length"] == 77


def test_a_prediction_asks_the_merge_of_a_run_that_trained_nothing():
    config = Config(model=ModelConfig(path="base"))
    assert model_to_ask(config, {"base", "merged"}) == PredictModel.merged
    assert model_to_ask(config, {"base"}) == PredictModel.base
    assert model_to_ask(config, {"base", "adapter", "merged"}) == PredictModel.adapter


def test_merged_models_that_cannot_be_loaded_are_not_published(run, tmp_path, monkeypatch):
    tuned(tmp_path / "a", 0)
    monkeypatch.setattr(ShardWriter, "path", lambda writer, index: writer.folder / "model.other")
    said = "soup/merged: .*: nothing is published"
    with pytest.raises(CheckpointError, match=said):
        run("merge", *MODEL, "merge.models=[{path: a}]", "run_dir=soup")
    assert not (tmp_path / "soup" / "merged").exists()


def test_a_missing_model_is_named_by_its_key(run):
    with pytest.raises(CheckpointError, match="merge.models: there is no file or folder 'nowhere'"):
        run("merge", *MODEL, "merge.models=[{path: nowhere}]", "run_dir=soup")


def test_a_merge_says_what_was_proven_in_order(run, two, caplog):
    run("merge", *MODEL, two, "merge.dtype=bfloat16", "run_dir=both")
    proof = [record.getMessage() for record in caplog.records if record.getMessage().startswith("merge: ")]
    assert len(proof) == 3
    assert re.match(
        "merge: in float32, logits of the merged weights differ from those of base .* by at most", proof[0]
    )
    assert "the folder was read back, and its logits differ from those saved by at most" in proof[0]
    assert re.match(r"merge: saved in bfloat16, .* by at most [\d.e-]+ \(rounding explains ", proof[1])
    assert proof[2].startswith("merge: the merged model keeps ") and proof[2].endswith("both/merged")
