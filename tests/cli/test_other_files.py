"""A configuration file of another tool is answered with the command that does the same here."""

import json

import pytest

from workbench.cli.arguments import prepare
from workbench.errors import ConfigError

LLAMA_FACTORY = """
model_name_or_path: Qwen/Qwen3-0.6B
quantization_bit: 4
stage: {stage}
do_train: true
lora_rank: 8
lora_target: all
dataset: mine
template: qwen
logging_steps: 5
neftune_noise_alpha: 5
output_dir: saves/x
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "rows.json"}}))
    (tmp_path / "x.yaml").write_text(LLAMA_FACTORY.format(stage="sft"))


def refusal(*words):
    with pytest.raises(ConfigError) as error:
        prepare(words)
    return str(error.value)


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    "words", [["train", "x.yaml"], ["x.yaml"], ["recipe=x.yaml"], ["--config", "x.yaml"]]
)
def test_a_file_of_llama_factory_is_answered_with_the_command(words):
    assert refusal(*words) == (
        "x.yaml: not a recipe (here it is python -m workbench recipe=sft data.path=data/rows.json "
        "model.path=Qwen/Qwen3-0.6B quantization=nf4 adapter.rank=8 'adapter.target_modules=[all-linear]' "
        "data.template=auto train.logging_steps=5 run_dir=saves/x; without a counterpart: "
        "neftune_noise_alpha: 5)"
    )


@pytest.mark.usefixtures("file")
def test_a_stage_that_does_not_exist_here_is_said(tmp_path):
    (tmp_path / "x.yaml").write_text(LLAMA_FACTORY.format(stage="dpo"))
    assert "without a counterpart: stage: dpo" in refusal("x.yaml")


def test_a_recipe_file_is_named_without_its_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft.yaml").write_text("steps: [train]\n")
    assert refusal("recipe=sft.yaml") == "sft.yaml: a recipe is named without its ending (recipe=sft)"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("lora_dropout: 0\nwarmup_steps: 0\nseed: 0", "adapter.dropout=0 train.warmup_steps=0 seed=0)"),
        ("packing: false\nbf16: false\nuse_flash_attention_2: false", "model.path=m data.packing=false)"),
        ("dataset: [a, b]", "'data.path=[a,b]')"),
        ("stage: [sft]", "model.path=m; without a counterpart: stage: ['sft'])"),
        ("datasets:\n  - {path: it's.jsonl, type: alpaca}", """'data.path=it'"'"'s.jsonl' """),
        ("datasets:\n  - {path: a}\n  - {path: b}", "counterpart: datasets: [{'path': 'a'}, {'path': 'b'}])"),
        ("hub_token: hf_abcdefgh\nneftune_noise_alpha: 5", "hub_token: ***, neftune_noise_alpha: 5)"),
    ],
)
def test_values_of_other_tools_are_kept_and_credentials_are_not_shown(tmp_path, monkeypatch, lines, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(f"model_name_or_path: m\nlora_rank: 8\n{lines}\n")
    assert words in refusal("x.yaml").replace(" adapter.rank=8", "")


def test_a_file_of_aliases_of_aliases_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    aliases = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    (tmp_path / "x.yaml").write_text("\n".join(["lora_rank: 8", "lora_alpha: 8", "a0: &a0 [1]", *aliases]))
    assert refusal("x.yaml") == "x.yaml: not in ./recipes (move it there, then recipe=x)"
