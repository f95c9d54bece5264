"""A configuration file of another tool is answered with the command that does the same here."""

import json
import shlex

import pytest

from workbench.cli.arguments import prepare
from workbench.cli.messages import one_line
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
        "x.yaml: not a recipe; here it is\n"
        "python -m workbench recipe=sft data.path=data/rows.json "
        "model.path=Qwen/Qwen3-0.6B quantization=nf4 adapter.rank=8 'adapter.target_modules=[all-linear]' "
        "data.template=auto train.logging_steps=5 run_dir=saves/x\n"
        "without a counterpart: neftune_noise_alpha: 5\n"
        "note: template: qwen becomes data.template=auto, the chat template that the model has itself"
    )


@pytest.mark.usefixtures("file")
def test_the_command_is_printed_on_a_line_of_its_own():
    with pytest.raises(ConfigError) as error:
        prepare(["x.yaml"])
    lines = one_line(error.value).splitlines()
    assert lines[1].startswith("python -m workbench recipe=sft ") and lines[1].endswith("run_dir=saves/x")
    assert len(lines) == 4


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("stage", ["dpo", "rm", "kto", "ppo"])
def test_a_stage_that_does_not_exist_here_is_said_without_a_command(tmp_path, stage):
    (tmp_path / "x.yaml").write_text(LLAMA_FACTORY.format(stage=stage))
    for words in (["x.yaml"], ["train", "x.yaml"], ["--stage", stage, "--dataset", "a"], [f"stage={stage}"]):
        message = refusal(*words)
        assert f"{stage} does not exist here" in message and "python -m" not in message


JOBS = {
    "export": "export_dir: out\nexport_size: 5",
    "infer": "template: llama3\ninfer_backend: huggingface",
    "eval": "task: mmlu_test\nn_shot: 5\nbatch_size: 4\nsave_dir: out",
    "predict": "stage: sft\ndo_predict: true\neval_dataset: mine\noutput_dir: out\n"
    "per_device_eval_batch_size: 1",
}


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("job", "command", "lost"),
    [
        (
            "export",
            "merge model.path=m adapter.path=a run_dir=out",
            "export_size: 5 (a merge writes files of at most 4 GB",
        ),
        ("infer", "chat model.path=m adapter.path=a", "infer_backend: huggingface"),
        (
            "eval",
            "evaluate model.path=m adapter.path=a 'benchmark=[mmlu]' benchmarks.mmlu.num_fewshot=5 "
            "run_dir=out",
            "batch_size: 4 (it counts rows",
        ),
        (
            "predict",
            "predict predict.input=data/rows.json model.path=m adapter.path=a run_dir=out",
            "per_device_eval_batch_size: 1 (it counts rows",
        ),
    ],
)
def test_a_file_that_trains_nothing_becomes_the_recipe_that_does_its_job(tmp_path, job, command, lost):
    (tmp_path / "x.yaml").write_text(f"model_name_or_path: m\nadapter_name_or_path: a\n{JOBS[job]}\n")
    lines = refusal("x.yaml").split("\n")
    assert lines[1] == f"python -m workbench recipe={command}"
    assert lines[2].startswith(f"without a counterpart: {lost}")


@pytest.mark.usefixtures("file")
def test_an_export_without_an_adapter_writes_the_model(tmp_path):
    (tmp_path / "x.yaml").write_text("model_name_or_path: m\nexport_dir: out\nexport_size: 5\n")
    command = "recipe=export model.path=m export.path=out export.max_shard_size=5GB"
    assert command in refusal("export", "x.yaml")


DATA_SETS = {
    "questions": {"file_name": "问答.json", "columns": {"prompt": "问题", "response": "output"}},
    "talks": {
        "file_name": "a b.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "turns"},
        "tags": {"role_tag": "role", "content_tag": "content"},
    },
    "hub": {"hf_hub_url": "owner/rows", "subset": "zh", "num_samples": 9},
}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("questions", ["data.path=data/问答.json", "data.columns={instruction: 问题}"]),
        ("hub", ["data.path=owner/rows", "data.subset=zh", "data.limit=9"]),
        (
            "questions, talks",
            [
                "data.sources={questions: {path: data/问答.json, columns: {instruction: 问题}}, "
                "talks: {path: 'data/a b.jsonl', columns: {messages: turns}}}"
            ],
        ),
    ],
)
def test_data_sets_of_dataset_info_keep_their_files_and_columns(tmp_path, monkeypatch, names, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(DATA_SETS), encoding="utf-8")
    (tmp_path / "x.yaml").write_text(f"model_name_or_path: m\nstage: sft\ndataset: {names}\n")
    typed = shlex.split(refusal("x.yaml").split("\n")[1])
    assert typed[3:] == ["recipe=sft", *words, "model.path=m"]
    assert prepare(typed[3:])
    flags = refusal("--stage", "sft", "--do_train", "--dataset", names, "--dataset_dir", "data")
    assert flags.count("data.path=") + flags.count("data.sources=") == 1
    assert all(word.split("=")[1].split(" ")[0] in flags for word in words)


def test_a_recipe_file_is_named_without_its_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft.yaml").write_text("steps: [train]\n")
    assert refusal("recipe=sft.yaml") == "sft.yaml: a recipe is named without its ending (recipe=sft)"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("lora_dropout: 0\nwarmup_steps: 0\nseed: 0", "adapter.dropout=0 train.warmup_steps=0 seed=0"),
        ("packing: false\nbf16: false\nuse_flash_attention_2: false", "model.path=m data.packing=false"),
        ("dataset: [a, b]", "'data.sources={a: {path: a}, b: {path: b}}'"),
        ("stage: [sft]", "model.path=m\nwithout a counterpart: stage: ['sft']"),
        ("datasets:\n  - {path: it's.jsonl, type: alpaca}", """'data.path=it'"'"'s.jsonl' """),
        ("datasets:\n  - {path: a}\n  - {path: b}", "counterpart: datasets: [{'path': 'a'}, {'path': 'b'}]"),
        ("hub_token: hf_abcdefgh\nneftune_noise_alpha: 5", "hub_token: ***, neftune_noise_alpha: 5"),
        ("finetuning_type: lora\nuse_dora: true", "model.path=m adapter=dora"),
        ("val_size: 500", "val_size: 500 (it counts rows; here a share of the rows"),
        ("val_size: 0.1", "data.validation_fraction=0.1"),
        ("save_total_limit: 1", "train.save_total_limit=2\nnote: save_total_limit: 1 becomes 2"),
        ("finetuning_type: freeze", "counterpart: finetuning_type: freeze ("),
        ("finetuning_type: oft", "model.path=m adapter.method=oft"),
        ("peft_type: LOHA", "model.path=m adapter.method=loha"),
        ("eval_dataset: mine", "counterpart: eval_dataset: mine (a share of the training rows"),
        ("lr_scheduler_type: cosine_with_restarts", "which does not restart"),
        ("trust_remote_code: true", "note: trust_code=true runs Python code"),
        ("plot_loss: true", "note: plot_loss: not needed, the curve of the loss is always drawn"),
        ("finetuning_type: full\nquantization_bit: 8", "so quantization=int8 is left out"),
        ("stage: pt", "recipe=sft data.format=text"),
        ("fp16: true\npure_bf16: true", "pure_bf16: true (contradicts model.dtype=float16)"),
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
