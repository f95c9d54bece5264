"""Code from files that a configuration names runs only where it is trusted, and is then named."""

import io
import json
import logging
import os
import tarfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.config.evaluate import EvaluateConfig
from workbench.config.model import Architecture, ModelConfig
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError, ConfigError, DataError, WorkbenchError
from workbench.evaluation.metrics.lookup import metric_named
from workbench.evaluation.prepare_benchmarks import prepare_benchmarks
from workbench.models.loading import check_model, load_model, load_tokenizer
from workbench.models.tokenizers.load_tokenizer import read_tokenizer
from workbench.trust import check_trusted, is_trusted, trusting

MARK = "import pathlib\npathlib.Path('ran').touch()\n"
"""Code that leaves a trace."""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_trust_ends_with_its_block_and_names_each_source_once(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    with trusting(True) as trusted:
        check_trusted("metrics", "a.py")
        check_trusted("metrics", "a.py")
        assert is_trusted() and trusted.sources == ["a.py"]
    assert caplog.text.count("trust_code: runs the code of a.py, named by metrics") == 1
    for block in (trusting(False), trusting(True)):
        with block as trusted:
            pass
    with pytest.raises(ConfigError, match="metrics: 'a.py' contains code, which is not run .trust_code=true"):
        check_trusted("metrics", "a.py")


@pytest.mark.parametrize("name", ["./evil.py", "someone/metric", "folder/evil"])
def test_a_metric_file_is_not_run_untold(tmp_path, name):
    (tmp_path / "evil.py").write_text(MARK)
    (tmp_path / "folder" / "evil").mkdir(parents=True)
    (tmp_path / "folder" / "evil" / "evil.py").write_text(MARK)
    with pytest.raises(ConfigError, match=f"metrics: '{name}' contains code, which is not run"):
        metric_named(name)
    assert not (tmp_path / "ran").exists()


TASK = "task: mine\ndataset_path: json\noutput_type: multiple_choice\ndoc_to_text: '{{ q }}'\n"
TASKS = {
    "a function": {"mine.yaml": TASK + "doc_to_target: !function evil.target\n"},
    "a Python object": {"mine.yaml": TASK + "note: !!python/object/apply:pathlib.Path.touch [ran]\n"},
    "a Python name": {"mine.yaml": TASK + "note: !!python/name:os.system ''\n"},
    "in an included file": {
        "mine.yaml": TASK + "include: ../other/base.yaml\n",
        "../other/base.yaml": "process_results: !function evil.target\n",
    },
    "in another file of the folder": {"mine.yaml": TASK, "deep/more.yaml": "task: !function evil.target\n"},
    "a tag of its own": {"mine.yaml": TASK + "note: !unknown x\n"},
    "a metric of the hub": {"mine.yaml": TASK + "metric_list: [{metric: someone/metric}]\n"},
    "a metric beside": {"mine.yaml": TASK + "metric_list: [{metric: evil}]\n"},
    "hf_evaluate": {"mine.yaml": TASK + "metric_list: [{metric: acc, hf_evaluate: true}]\n"},
}


def own_task(tmp_path, kind):
    folder = tmp_path / "tasks"
    for name, text in TASKS[kind].items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "evil.py").write_text(MARK + "target = 0\n")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(MARK)
    return BenchmarkConfig(
        language="en", output_type=OutputType["lm-eval"], tasks=["mine"], include_path=str(folder), metrics=[]
    )


def test_a_pipe_or_a_device_among_the_task_files_is_refused_and_not_read(tmp_path):
    pytest.importorskip("lm_eval")
    benchmark = own_task(tmp_path, next(iter(TASKS)))
    file = Path(str(benchmark.include_path)) / "mine.yaml"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConfigError, match=r"mine\.yaml: not a regular file"):
        prepare_benchmarks({"own": benchmark}, EvaluateConfig())
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"/dev/zero: not a regular file"):
        prepare_benchmarks({"own": benchmark}, EvaluateConfig())


def test_a_pickle_among_the_rows_of_a_task_is_refused_in_one_line(tmp_path):
    pytest.importorskip("lm_eval")
    benchmark = own_task(tmp_path, next(iter(TASKS)))
    with tarfile.open(tmp_path / "rows.tar", "w") as archive:
        entry = tarfile.TarInfo("1.pth")
        code = b"cposix\nsystem\n(S'touch ran'\ntR."
        entry.size = len(code)
        archive.addfile(entry, io.BytesIO(code))
    (Path(str(benchmark.include_path)) / "mine.yaml").write_text(
        f"task: mine\ndataset_path: webdataset\ntest_split: test\noutput_type: loglikelihood\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.tar'}}}}}\n"
        "doc_to_text: '{{ q }}'\ndoc_to_target: '{{ a }}'\n"
    )
    with pytest.raises(DataError, match=r"'mine': can't be loaded: Weights only load failed"):
        prepare_benchmarks({"own": benchmark}, EvaluateConfig())
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", TASKS)
def test_code_of_a_task_file_is_not_run_untold(tmp_path, kind):
    pytest.importorskip("lm_eval")
    with pytest.raises(
        ConfigError, match=r"benchmarks.own.*mine.*code, which is not run|benchmarks.own: .*yaml"
    ):
        prepare_benchmarks({"own": own_task(tmp_path, kind)}, EvaluateConfig())
    assert not (tmp_path / "ran").exists()


def test_a_trusted_task_file_runs_and_is_named(tmp_path):
    pytest.importorskip("lm_eval")
    config = own_task(tmp_path, "a function")
    with trusting(True) as trusted, pytest.raises(WorkbenchError):  # it has no data
        prepare_benchmarks({"own": config}, EvaluateConfig())
    assert trusted.sources == ["!function evil.target"] and (tmp_path / "ran").exists()


def task_with_rows(tmp_path, text):
    """A task file of one's own with a row to ask."""
    (tmp_path / "tasks").mkdir()
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"q": "1 + 1?", "a": 0}\n')
    (tmp_path / "tasks" / "mine.yaml").write_text(
        f"{text}dataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\ndoc_to_target: a\n"
        "doc_to_choice: [two, three]\nmetric_list: [{metric: acc}]\n"
    )
    return BenchmarkConfig(
        language="en",
        output_type=OutputType["lm-eval"],
        tasks=[str(tmp_path / "tasks" / "mine.yaml")],
        include_path=str(tmp_path / "tasks"),  # the harness's own tasks take seconds to list
        metrics=[],
    )


@pytest.mark.parametrize("trust", [False, True])
def test_a_task_that_runs_a_model_s_programs_is_refused_even_where_code_is_trusted(tmp_path, trust):
    pytest.importorskip("lm_eval")
    config = task_with_rows(tmp_path, TASK + "unsafe_code: true\n")
    with (
        trusting(trust),
        pytest.raises(ConfigError, match="runs programs that the model writes"),
    ):
        prepare_benchmarks({"own": config}, EvaluateConfig())


@pytest.mark.parametrize("name", ["../../esc", "/abs", "a/b", "x" * 250, "题" * 60, "a\nb", ""])
def test_the_name_of_a_harness_task_stays_in_the_folder(tmp_path, name):
    pytest.importorskip("lm_eval")
    config = task_with_rows(tmp_path, TASK.replace("mine", json.dumps(name)))
    with pytest.raises(WorkbenchError, match="benchmarks.own"):
        prepare_benchmarks({"own": config}, EvaluateConfig())


def model_folder(tmp_path, **changes):
    """A folder with a model of a type that transformers doesn't have, whose module leaves a trace."""
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="a", eos_token="b").save_pretrained(folder)
    (folder / "evil.py").write_text(MARK + "class Config: pass\n")
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    described = {"model_type": "evil", "auto_map": names, "vocab_size": 2, **changes}
    described = {key: value for key, value in described.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def test_a_model_s_own_code_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    folder = model_folder(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: (tmp_path / "asked").touch() or "y\n")
    section = ModelConfig(path=str(folder), architecture=Architecture.native)
    with pytest.raises(ConfigError, match=r"config.json: auto_map: .*contains code, which is not run"):
        check_model(section, QuantizationConfig())
    with pytest.raises(ConfigError, match="auto_map"):
        load_model(section, QuantizationConfig())
    assert not (tmp_path / "ran").exists() and not (tmp_path / "asked").exists()
    with trusting(True) as trusted, pytest.raises(WorkbenchError):
        check_model(section, QuantizationConfig())
    assert trusted.sources == [str(folder)] and (tmp_path / "ran").exists()


def test_a_tokenizer_s_own_code_is_not_run(tmp_path):
    folder = model_folder(tmp_path, model_type="llama", auto_map=None)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "Evil"})
    )
    with pytest.raises(ConfigError, match=r"tokenizer_config.json: auto_map: .* code, which is not run"):
        load_tokenizer(ModelConfig(path=str(folder), architecture=Architecture.native))
    assert not (tmp_path / "ran").exists()


def test_what_transformers_says_of_code_becomes_our_key(tmp_path):
    folder = model_folder(tmp_path, model_type="llama", auto_map=None)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "Evil"})
    )
    with pytest.raises(
        CheckpointError, match=r"model: the tokenizer contains code, .*\(trust_code=true on the"
    ):
        read_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
@pytest.mark.parametrize("architecture", ["native", "auto"])
@pytest.mark.parametrize("place", ["top", "nested"])
def test_a_kernel_of_the_hub_named_by_a_model_is_refused(tmp_path, key, architecture, place):
    field = {key: "someone/kernel:forward"}
    changes = field if place == "top" else {"text_config": field}
    folder = model_folder(tmp_path, model_type="llama", auto_map=None, **changes)
    section = ModelConfig(path=str(folder), architecture=Architecture[architecture])
    with pytest.raises(CheckpointError, match=f"config.json: {key}='someone/kernel:forward' names a kernel"):
        check_model(section, QuantizationConfig())
