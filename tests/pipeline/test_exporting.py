"""The export step: of which model, and where to."""

import json
import re
import shutil

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from toy_adapters import TOY
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from workbench.errors import CheckpointError, ConfigError, MissingStepError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.exported import llama_cpp
from workbench.run_dir import new_folder, settle_folder

SHORT = ("train.max_steps=2", "train.learning_rate=0.01", "quantization=none")


def weights(folder):
    return load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]


def test_an_adapter_is_exported_merged_or_not_at_all(run, tmp_path):
    folder = run("quickstart", *SHORT, "steps=[train]")
    given = (f"adapter.path={folder.adapter}", "model.path=${toy:base}")
    for asked in ((f"run_dir={folder.path}", *given), ("run_dir=other", *given)):
        with pytest.raises(MissingStepError, match=r"export: the adapter in '.*adapter' is not merged in"):
            run("export", *asked)
    assert not (folder.path / "export").exists() and not (tmp_path / "other").exists()

    run("quickstart", *SHORT, "steps=[merge,export]")
    assert torch.equal(weights(folder.path / "export"), weights(folder.merged))
    again = run("quickstart", *SHORT, "run_dir=again", "seed=7", "steps=[train]")
    shutil.copytree(folder.merged, again.merged)
    shutil.copy(folder.merge_report, again.merge_report)
    with pytest.raises(MissingStepError, match="is not merged"):
        run("quickstart", *SHORT, "run_dir=again", "seed=7", "steps=[export]")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ("model.path=native",),
            "only a checkpoint of Open-Llama or LLaMA can be exported .model_type 'gpt2' is not a LLaMA; "
            "recipe=merge writes a folder that transformers loads",
        ),
        (("export.format=gguf",), "llama.cpp doesn't have the pre-tokenizer Split . ByteLevel"),
        (("export.path=file",), "export.path: 'file'"),
        (("steps=[train,export]",), "the adapter is trained, but not merged before"),
        (("steps=[train,export]", "adapter=none", "model.path=native"), "only a checkpoint of Open-Llama"),
    ],
)
def test_an_export_that_is_refused_is_refused_before_the_training(run, tmp_path, settings, words):
    (tmp_path / "file").write_text("")
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    sizes |= {"vocab_size": 776, "bos_token_id": 1, "eos_token_id": 2}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path / "native")
    AutoTokenizer.from_pretrained(TOY).save_pretrained(tmp_path / "native")
    with pytest.raises((ConfigError, CheckpointError, MissingStepError), match=words) as refusal:
        run("quickstart", *SHORT, "steps=[train,merge,export]", *settings, "run_dir=refused")
    assert "\n" not in str(refusal.value) and not (tmp_path / "refused").exists()


def test_a_merged_model_that_is_not_the_proven_one_is_neither_exported_nor_scored(run, caplog):
    folder = run("quickstart", *SHORT, "steps=[train,merge]")
    (folder.merged / "config.json").write_text((folder.merged / "config.json").read_text() + " ")
    with pytest.raises(MissingStepError, match="is not merged"):
        run("quickstart", *SHORT, "steps=[export]")
    asked = ("benchmark=[toy_choice_en]", "benchmarks.toy_choice_en.limit=4", "evaluate.models=[merged]")
    with pytest.raises(MissingStepError, match="has no merged model yet"):
        run("quickstart", *SHORT, *asked, "steps=[evaluate]")


def test_an_export_is_said_once_and_named_at_the_end_wherever_it_is(run, tmp_path, caplog):
    run("export", "model.path=${toy:base}", "export.path=elsewhere")
    lines = [line for line in caplog.text.splitlines() if "elsewhere" in line]
    assert len(lines) == 2 and "export: " in lines[0] and "as llama" in lines[0]
    assert re.search(r"made +elsewhere +exported model", lines[1])


def test_a_lora_is_exported_without_a_merge_and_only_for_its_base(run, tmp_path, caplog):
    folder = run("quickstart", *SHORT, "steps=[train]")
    asked = ("export.format=gguf-lora", "model.path=${toy:base}")
    exported = run("export", f"run_dir={folder.path}", *asked)
    assert exported.adapter_gguf.is_file() and not exported.merged.exists()
    run("export", *asked, f"adapter.path={folder.adapter}", "export.path=lora.gguf")
    assert (tmp_path / "lora.gguf").read_bytes() == exported.adapter_gguf.read_bytes()
    assert re.search(r"made .*lora.gguf +exported LoRA", caplog.text)
    with pytest.raises(MissingStepError, match="export: no adapter in 'none' .run the train step before"):
        run("export", *asked, "run_dir=none")
    other = OpenLlamaForCausalLM.from_pretrained(TOY)
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    for file in TOY.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "other")
    with pytest.raises(CheckpointError, match="was trained on"):
        run("export", asked[0], "model.path=other", f"adapter.path={folder.adapter}", "export.path=b.gguf")
    assert not (tmp_path / "b.gguf").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/none/adapter", "adapter.path: there is no file or folder 'runs/none/adapter'"),
        ("${toy:base}", "not an adapter, adapter_config.json is missing"),
    ],
)
def test_a_wrong_path_of_an_adapter_is_what_an_export_complains_of(run, path, words):
    with pytest.raises(CheckpointError, match=words):
        run("export", "model.path=${toy:base}", f"adapter.path={path}", "run_dir=new")


@pytest.mark.parametrize("killed_at", ["putting the new one there", "deleting the old one"])
def test_a_merge_killed_between_two_renames_loses_nothing_and_leaves_nothing(run, killed_at):
    folder = run("quickstart", *SHORT, "steps=[train,merge]")
    proven = weights(folder.merged)
    old = folder.path / ".merged.old.k1ll_ed0"
    old.mkdir()
    shutil.copytree(folder.merged, folder.path / ".merged.k1ll_ed0")
    if killed_at == "putting the new one there":
        folder.merged.rename(old / "merged")
    else:
        shutil.copytree(folder.merged, old / "merged")
    for name in (".results.json.k1ll_ed0", ".export.gguf.part"):
        (folder.path / name).touch()

    run("quickstart", *SHORT, "steps=[export]")
    assert torch.equal(weights(folder.merged), proven) and torch.equal(weights(folder.export), proven)
    assert [path.name for path in folder.path.glob(".*")] == [".lock"]


def test_an_earlier_export_comes_back_and_one_that_is_being_written_is_left_alone(run, tmp_path):
    asked = ("model.path=${toy:base}", "export.path=out", "export.format=open-llama")
    run("export", *asked)
    (tmp_path / ".out.old.k1ll_ed0").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.old.k1ll_ed0" / "out")
    with new_folder(tmp_path / "out") as unfinished:
        assert weights(tmp_path / "out") is not None
        settle_folder(tmp_path / "out")
        assert unfinished.is_dir()
    assert not list(tmp_path.glob(".out*"))


def test_what_a_killed_process_was_writing_is_cleared_away(run):
    folder = run("quickstart", *SHORT, "steps=[train,merge]")
    with pytest.raises(KeyboardInterrupt), new_folder(folder.merged) as unfinished:
        shutil.copytree(folder.merged, folder.path / ".merged.k1ll_ed0")
        raise KeyboardInterrupt
    assert len(unfinished.suffix) == len(".k1ll_ed0")
    run("quickstart", *SHORT, "steps=[merge]")
    assert folder.merged.is_dir() and not (folder.path / ".merged.k1ll_ed0").exists()


def test_a_gguf_file_needs_no_path_and_has_16_bits(run, tmp_path, caplog, monkeypatch):
    (tmp_path / "text.jsonl").write_text('{"text": "the cat sees the dog"}\n')
    model = run("tokenizer", "data.path=text.jsonl", "tokenizer.vocab_size=300").tokenizer
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    OpenLlamaForCausalLM(OpenLlamaConfig(**sizes, num_attention_heads=4)).save_pretrained(model)
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    folder = run("export", f"model.path={model}", "export.format=gguf", "run_dir=runs/given")
    types = {field.tensor_type.name for field in GGUFReader(folder.export_gguf).tensors}
    assert types == {"F16", "F32"} and "llama-cpp-python isn't installed" in caplog.text
    run("export", f"model.path={model}", "export.format=gguf", "run_dir=runs/given", "export.measure=false")
    assert "isn't installed" not in caplog.text


def test_what_a_smaller_type_costs_is_said(run, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    (tmp_path / "text.jsonl").write_text('{"text": "the cat sees the dog"}\n')
    model = run("tokenizer", "data.path=text.jsonl", "tokenizer.vocab_size=300").tokenizer
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    OpenLlamaForCausalLM(OpenLlamaConfig(**sizes, num_attention_heads=4)).save_pretrained(model)
    asked = (f"model.path={model}", "export.format=gguf", "run_dir=runs/given", "export.gguf_type=q8_0")
    folder = run("export", *asked)
    assert "what q8_0 costs isn't known (recipe=quantization-report" in caplog.text
    lines = [{"held_as": "q8_0", "fidelity": {"kl": 0.0123, "agreement": 0.953}}]
    folder.quantization_json.write_text(json.dumps({"formats": lines}))
    run("export", *asked)
    assert "q8_0 has a KL of 0.012 nats a token, and keeps 95.3%" in caplog.text


@pytest.mark.parametrize("step", ["train", "merge"])
def test_an_adapter_on_random_weights_is_refused(run, tmp_path, step):
    trained = run("quickstart", *SHORT, "steps=[train]")
    init = "model.init={hidden_size:32,num_attention_heads:4,intermediate_size:48,num_hidden_layers:2}"
    asked = (init, "model.tokenizer=${toy:base}", "run_dir=new", f"adapter.path={trained.adapter}")
    with pytest.raises(ConfigError, match="adapter.method: model.init draws random weights"):
        run("quickstart", *SHORT, *asked, "model.path=null", f"steps=[{step}]")
    assert not (tmp_path / "new").exists()
