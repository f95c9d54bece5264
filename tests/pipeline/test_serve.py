"""A run's models behind the server: the texts of the predict step, adapters on one load, a clean stop."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
import torch
from test_chat import ANSWER, ASKED, LENGTH, OPTIONS, predicted, prepare
from toy_adapters import TOY, toy_adapter

import workbench as wb
from workbench.config import AdapterConfig, Config, ModelConfig, ServeConfig
from workbench.config.data import DataConfig
from workbench.config.model import Task
from workbench.errors import CheckpointError, ConfigError, MissingStepError
from workbench.pipeline.chat.models import ChatModels
from workbench.pipeline.run_state import Run
from workbench.pipeline.serve import check_servable, served_names
from workbench.run_dir import RunDir
from workbench.serving.access import KEY_VARIABLE

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(run_once) -> Path:
    return run_once(prepare, "sft", *OPTIONS, "steps=[train,merge]")


@contextmanager
def server(*options: str):
    """Starts the recipe in a process of its own; yields the process and its port."""
    command = [sys.executable, "-m", "workbench", "recipe=serve", "serve.port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = []
        while not (found := re.search(r"http://127.0.0.1:(\d+)/v1", lines[-1] if lines else "")):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(port: int, path: str, body=None) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    kind = {"Content-Type": "application/json"}
    connection.request("POST" if body else "GET", path, body and json.dumps(body), kind)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    return text


def question(name: str, text: str) -> dict:
    return {"model": name, "messages": [{"role": "user", "content": text}], "max_tokens": LENGTH}


def test_served_models_write_what_the_predict_step_writes_and_stop_when_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    expected = {
        name: predicted(name, "served.txt", "\n".join(ASKED)) for name in ("adapter", "base", "merged")
    }
    with server(*OPTIONS) as (process, port):
        models = json.loads(ask(port, "/v1/models"))["data"]
        assert [model["id"] for model in models] == ["adapter", "merged", "base"]
        for name in ("base", "adapter", "merged", "base"):
            answers = [json.loads(ask(port, CHAT, question(name, text))) for text in ASKED]
            texts = [answer["choices"][0]["message"]["content"] for answer in answers]
            assert texts == expected[name]
        events = ask(port, CHAT, {**question("adapter", ASKED[0]), "stream": True}).split("\n\n")
        parts = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-2]]
        texts = [part.get("content", "") for part in parts]
        assert "".join(texts) == ANSWER and len(texts) > 2 and events[-2] == "data: [DONE]"
        assert set("".join(texts[:-1])) <= set(ANSWER)  # whole characters, each of several tokens
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[0]
        assert process.returncode == 0 and rest.endswith("serve: stopped\n")
        assert ASKED[0] not in rest and "Traceback" not in rest


def test_ctrl_c_stops_the_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = toy_adapter(tmp_path / "other", 1)
    with server(f"model.path={TOY}", f"serve.adapters={{other: {other}}}") as (process, port):
        assert json.loads(ask(port, "/health")) == {"status": "ok"}
        assert [model["id"] for model in json.loads(ask(port, "/v1/models"))["data"]] == ["base", "other"]
        texts = [ask(port, "/v1/completions", {"model": name, "prompt": "x"}) for name in ("base", "other")]
        assert json.loads(texts[0])["choices"] != json.loads(texts[1])["choices"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0].endswith("serve: stopped\n")
        assert process.returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["other"]  # it leaves no run's folder


def toy_run(tmp_path: Path, adapter: str | None = None, **serve) -> Run:
    sections = {"model": ModelConfig(path=str(TOY)), "adapter": AdapterConfig(path=adapter)}
    config = Config(data=DataConfig(template="chatml"), serve=ServeConfig(port=0, **serve), **sections)
    return Run(config, RunDir(tmp_path / "run"))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(20, 60)[None]).logits


def test_further_adapters_on_one_load_compute_as_each_alone(tmp_path):
    paths = {"adapter": toy_adapter(tmp_path / "a", 1)}
    paths["other"] = toy_adapter(tmp_path / "b", 2, r=2, target_modules=["v_proj"])
    paths["third"] = toy_adapter(tmp_path / "c", 3, use_rslora=True)
    expected = {name: logits(wb.load_model(TOY, adapter=path)[0]) for name, path in paths.items()}
    expected["base"] = logits(wb.load_model(TOY)[0])
    further = {name: path for name, path in paths.items() if name != "adapter"}
    models = ChatModels(toy_run(tmp_path, paths["adapter"]), further)
    loaded = set()
    for name in ("other", "base", "adapter", "third", "other", "base", "third", "adapter"):
        with models.answering(name) as decoder:
            assert torch.allclose(logits(decoder.lm.model), expected[name], atol=1e-5), name
            loaded.add(id(decoder.lm.model))
    assert len(loaded) == 1
    assert not torch.allclose(expected["other"], expected["third"], atol=1e-2)


def test_adapters_without_one_of_the_run_itself_are_served(tmp_path):
    run = toy_run(tmp_path, adapters={"mine": toy_adapter(tmp_path / "a", 1)})
    assert served_names(run) == ["base", "mine"]
    check_servable(run)


def test_an_adapter_that_replaces_layers_is_refused_beside_others(tmp_path):
    whole = toy_adapter(tmp_path / "b", 2, modules_to_save=["lm_head"])
    models = ChatModels(toy_run(tmp_path, toy_adapter(tmp_path / "a", 1)), {"whole": whole})
    with models.answering("adapter"):
        pass
    with pytest.raises(CheckpointError, match="modules_to_save"), models.answering("whole"):
        pass


def test_each_adapters_answers_end_at_its_own_tokens(tmp_path):
    first, second = toy_adapter(tmp_path / "a", 1), toy_adapter(tmp_path / "b", 2)
    (tmp_path / "a" / "generation_config.json").write_text('{"eos_token_id": 7}')
    (tmp_path / "b" / "generation_config.json").write_text('{"eos_token_id": [8, 9]}')
    models = ChatModels(toy_run(tmp_path, first), {"other": second})
    ends = {}
    for name in ("other", "adapter", "base"):
        with models.answering(name) as decoder:
            ends[name] = decoder.endings.tokens
    assert {7} == ends["adapter"] - ends["base"] and {8, 9} == ends["other"] - ends["base"]


def test_what_can_not_be_served_is_named_before_a_model_is_loaded(tmp_path, monkeypatch):
    with pytest.raises(MissingStepError, match="serve.models: the run has no merged"):
        check_servable(toy_run(tmp_path, models=["merged"]))
    with pytest.raises(CheckpointError, match="missing"):
        check_servable(toy_run(tmp_path, adapters={"mine": str(tmp_path)}))
    classifier = toy_run(tmp_path)
    classifier.config.model = replace(classifier.config.model, task=Task.sequence_classification)
    with pytest.raises(ConfigError, match="classifier"):
        check_servable(classifier)
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    with pytest.raises(ConfigError, match="serve.port: 192.0.2.1"):
        check_servable(toy_run(tmp_path, host="192.0.2.1"))
    with pytest.raises(ConfigError, match="serve.host: 'é..x' is not a host's name"):
        check_servable(toy_run(tmp_path, host="é..x"))
