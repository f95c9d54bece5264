"""The recipes adapter-info and extract, on adapters of the toy model."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

import workbench.toy
from workbench import files
from workbench.config.names import ADAPTER
from workbench.errors import ConfigError
from workbench.pipeline.inspection.picture import bars, grid, picture_svg
from workbench.run_record import RunRecord

BASE = str(Path(workbench.toy.__file__).parent / "base")


@pytest.fixture(scope="module")
def trained(run_once):
    return run_once(
        lambda folder: None, "quickstart", "train.max_steps=4", "steps=[train,merge]", "run_dir=run"
    )


def test_an_adapter_of_a_run_is_shown_with_its_data_and_layers(run, trained, caplog, capsys):
    run("adapter-info", f"adapter.path={trained / 'run' / 'adapter'}", "adapter_info.picture=norms.svg")
    assert re.search(r"LORA: r=\d+, lora_alpha=", caplog.text)
    assert re.search(r"data: .*trained tokens", caplog.text)
    assert "fingerprint of base, data and settings" in caplog.text
    shown = capsys.readouterr().out
    assert re.search(r"q_proj +\d+ +\d+ +[\d.]+ .*[▁▂▃▄▅▆▇█]", shown)
    assert Path("norms.svg").read_text().count("<rect") > 5
    assert not Path("runs").exists()


def test_two_adapters_are_compared_and_one_with_itself_overlaps_wholly(run, trained, capsys):
    path = trained / "run" / ADAPTER
    run("adapter-info", f"adapter.path={path}", f"adapter_info.other={path}")
    line = next(line for line in capsys.readouterr().out.splitlines() if "0 to 0" in line)
    assert re.search(r" 1 +0 to 0 +0 to 0 +1 +█+$", line)


def test_without_an_adapter_the_key_is_named(run):
    with pytest.raises(ConfigError, match="adapter.path: not given"):
        run("adapter-info")


def test_a_lora_is_extracted_from_a_merged_model_and_merged_again(run, trained, caplog):
    arguments = [f"model.path={BASE}", f"merged.path={trained / 'run' / 'merged'}", "run_dir=extracted"]
    made = run("extract", *arguments, "extract.max_rank=64")
    config = json.loads((made.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE and config["peft_type"] == "LORA"
    assert "layers, of rank" in caplog.text
    run("extract", *arguments, "extract.max_rank=64")
    assert "already done" in caplog.text
    run("merge", f"model.path={BASE}", f"adapter.path={made.adapter}", "run_dir=again")
    assert "logits differ from the adapter model's" in caplog.text


@pytest.fixture(scope="module")
def loha(tmp_path_factory):
    """An adapter of another method on the toy model, as another tool would save it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    folder = tmp_path_factory.mktemp("loha") / "adapter"
    config = LoHaConfig(target_modules=["q_proj", "up_proj"], r=3, init_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about a name that peft uses
        get_peft_model(model, config).save_pretrained(folder)
    return folder


def test_an_adapter_of_another_method_becomes_a_lora_that_merges(run, loha, caplog):
    made = run("extract", f"model.path={BASE}", f"adapter.path={loha}", "run_dir=lora", "extract.share=1")
    config = json.loads((made.adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["base_model_name_or_path"] == BASE
    found = re.search(
        r"keeps 100% of the update's energy at rank 9; (\d+) of (\d+) layers whole", caplog.text
    )
    assert found and found[1] == found[2]
    run("merge", f"model.path={BASE}", f"adapter.path={made.adapter}", "run_dir=merged")
    assert "logits differ from the adapter model's" in caplog.text


def test_a_conversion_reads_the_base_for_one_checksum_only(run, loha, monkeypatch):
    opened = []
    monkeypatch.setattr(files, "add_file", lambda digest, file: opened.append(file))
    run("extract", f"model.path={BASE}", f"adapter.path={loha}", "run_dir=once", "extract.max_rank=2")
    assert opened and not [file for file in opened if file.parent == Path(BASE) and file.suffix != ".json"]


def test_a_rank_too_small_is_said_with_the_energy_that_is_kept(run, loha, caplog):
    run("extract", f"model.path={BASE}", f"adapter.path={loha}", "run_dir=small", "extract.max_rank=4")
    assert re.search(r"keeps \d\d\.\d+% of the update's energy at rank 4; 0 of \d+ layers whole", caplog.text)
    assert "extract.max_rank is too small" in caplog.text


def test_an_adapter_is_not_replaced_by_its_own_conversion(run, loha):
    own = Path("mine") / "adapter"
    shutil.copytree(loha, own)
    with pytest.raises(ConfigError, match="run_dir: 'mine' has an adapter that would be replaced"):
        run("extract", f"model.path={BASE}", f"adapter.path={own}", "run_dir=mine")
    assert json.loads((own / "adapter_config.json").read_text())["peft_type"] == "LOHA"


def test_an_adapter_that_was_trained_where_one_was_extracted_is_not_replaced(run, loha):
    asked = (f"model.path={BASE}", f"adapter.path={loha}", "run_dir=first")
    made = run("extract", *asked)
    RunRecord(made.run_json).finish("train", "of it", made.adapter, {})
    with pytest.raises(ConfigError, match="run_dir: 'first' has an adapter that would be replaced"):
        run("extract", *asked, "extract.max_rank=2")


def test_a_conversion_is_made_again_when_a_file_that_it_copies_has_changed(run, loha, tmp_path, caplog):
    shutil.copytree(loha, tmp_path / "source")
    asked = (f"model.path={BASE}", "adapter.path=source", "run_dir=again", "extract.max_rank=2")
    run("extract", *asked)
    run("extract", *asked)
    assert "already done" in caplog.text
    (tmp_path / "source" / "tokenizer_config.json").write_text("{}")
    run("extract", *asked)
    assert "already done" not in caplog.text


def test_two_sources_of_a_lora_are_refused(run, loha, trained):
    merged = trained / "run" / "merged"
    with pytest.raises(ConfigError, match=r"a LoRA of merged.path or of adapter.path .give one"):
        run("extract", f"model.path={BASE}", f"adapter.path={loha}", f"merged.path={merged}")


@pytest.mark.filterwarnings("ignore:Adapter 'default':")  # of peft, about a bias of one dimension
def test_magnitudes_of_dora_and_biases_of_b_are_shown(run, tmp_path, capsys):
    shown = {}
    for name in ("use_dora", "lora_bias"):
        layer = nn.Module()
        layer.q_proj = nn.Linear(2, 3)
        config = LoraConfig(r=1, lora_alpha=2, target_modules=["q_proj"], **{name: True})
        with torch.no_grad():
            layer.q_proj.weight.copy_(torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 1.0]]))  # norms 5, 10, 1
            model = get_peft_model(layer, config)
            for key, values in model.named_parameters():
                if key.endswith("lora_B.default.bias"):
                    values.copy_(torch.tensor([3.0, 0.0, 4.0]))
        model.save_pretrained(tmp_path / name)
        run("adapter-info", f"adapter.path={tmp_path / name}")
        shown[name] = [
            line for line in capsys.readouterr().out.splitlines() if line[:6] in ("module", "q_proj")
        ]
    assert re.search(r"norm +magnitude +norm by layer", shown["use_dora"][0])
    assert re.search(r" 0 +1 to 10 ", shown["use_dora"][1])
    assert re.search(r"norm +bias +norm by layer", shown["lora_bias"][0])
    assert re.search(r" 0 +10 ", shown["lora_bias"][1])  # the scale, alpha / r = 2, times |(3, 0, 4)| = 5


def test_modules_are_sorted_into_kinds_and_layers():
    values = {"model.layers.0.q_proj": 1.0, "model.layers.2.q_proj": 4.0, "lm_head": 2.0}
    rows = grid(values)
    assert rows == {"q_proj": [1.0, None, 4.0], "lm_head": [2.0]}
    assert bars(rows["q_proj"], 4.0) == "▃·█"
    assert picture_svg(rows, "a <b>").count("<rect") == 3
    assert "a &lt;b&gt;" in picture_svg(rows, "a <b>")
