"""recipe=push: what of a run goes to the Hub, sent to a server on this machine with the Hub's protocol."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from workbench import shown
from workbench.errors import CheckpointError, ConfigError, MissingStepError

TOKEN = "hf_" + "x" * 30


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits as the Hub does, small files only, and keeps what it was sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        url = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer({"url": f"{url}/me/mine"}, 409 if self.server.exists else 200)
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.answer({"commitUrl": f"{url}/me/mine/commit/abc", "commitOid": "a" * 40, "success": True})

    def do_GET(self):
        self.answer({"id": "me/mine", "private": not self.server.is_public, "tags": [], "siblings": []})

    def answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    server.created, server.files, server.tokens = [], {}, set()
    server.is_public = server.exists = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(shown, "_secrets", set())
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def trained(run_once):
    return run_once(
        lambda folder: None, "quickstart", "train.max_steps=2", "steps=[train,merge]", "run_dir=run"
    )


@pytest.fixture
def run_copy(trained, tmp_path):
    """A copy of the trained run, in the current folder."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def test_without_send_the_files_are_shown_and_the_hub_hears_nothing(run, run_copy, hub, caplog):
    run("push", "run_dir=run", "push.repo=me/mine")
    assert "model.safetensors" in caplog.text and "nothing was sent (push.send=true sends" in caplog.text
    assert "README.md: there is no model card" in caplog.text
    assert not hub.created and not hub.files


def test_the_files_arrive_byte_by_byte_in_a_private_repository(run, run_copy, hub, caplog):
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=adapter", "push.send=true")
    on_disk = {file.name: file.read_bytes() for file in (run_copy / "adapter").iterdir() if file.is_file()}
    assert hub.files == on_disk and hub.created[0].get(
        "private", hub.created[0].get("visibility") == "private"
    )
    assert hub.tokens == {f"Bearer {TOKEN}"} and TOKEN not in caplog.text
    assert "/me/mine/commit/abc" in caplog.text


def test_the_base_is_named_by_its_hub_id_in_what_is_sent_only(run, run_copy, hub, caplog):
    local = (run_copy / "adapter" / "adapter_config.json").read_bytes()
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=adapter")
    assert "push.base=OWNER/NAME names it" in caplog.text
    run(
        "push",
        "run_dir=run",
        "push.repo=me/mine",
        "push.folder=adapter",
        "push.base=s-JoL/base",
        "push.send=true",
    )
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == "s-JoL/base"
    assert (run_copy / "adapter" / "adapter_config.json").read_bytes() == local
    assert "push.base" not in caplog.text


def test_a_token_that_reads_like_a_path_is_not_a_path_of_this_machine(run, run_copy, hub, caplog, tmp_path):
    folder = run_copy / "export"
    folder.mkdir()
    tokenizer = {"model": {"merges": [["/", "tmp"]], "vocab": {"/": 0}}, "added_tokens": [{"content": "/"}]}
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "pre_tokenizer": None}))
    (folder / "config.json").write_text(json.dumps({"_name_or_path": str(tmp_path)}))
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=export")
    assert f"config.json: names '{tmp_path}', a path of this machine" in caplog.text
    assert "tokenizer.json: names" not in caplog.text


def test_an_export_without_a_card_is_not_promised_one_by_the_leaderboard(run, run_copy, hub, caplog):
    (run_copy / "export").mkdir()
    (run_copy / "export" / "config.json").write_text("{}")
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=export")
    assert "no model card (copy that of the run's model: recipe=leaderboard writes none" in caplog.text


def test_a_damaged_json_file_of_an_export_is_named(run, run_copy, hub, caplog):
    (run_copy / "export").mkdir()
    (run_copy / "export" / "config.json").write_text("{")
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=export")
    assert "config.json: not JSON, Expecting property name" in caplog.text


def test_a_public_repository_is_not_written_to_unless_that_is_asked_for(run, run_copy, hub):
    hub.is_public = hub.exists = True
    arguments = ["push", "run_dir=run", "push.repo=me/mine", "push.send=true"]
    with pytest.raises(ConfigError, match="is public already"):
        run(*arguments)
    assert not hub.files
    run(*arguments, "push.public=true")
    assert "model.safetensors" in hub.files


def test_pickles_hidden_files_and_links_that_lead_out_are_left_out(run, run_copy, hub, caplog, tmp_path):
    (run_copy / "export").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    for name in ("a.json", "b.bin", ".hidden.json", "training_args.pt"):
        (run_copy / "export" / name).write_text("{}")
    (run_copy / "export" / "link.json").symlink_to(tmp_path / "secret.json")
    run("push", "run_dir=run", "push.repo=me/mine", "push.folder=export", "push.send=true")
    assert list(hub.files) == ["a.json"]
    assert "left out: .hidden.json, b.bin, link.json, training_args.pt" in caplog.text


def test_a_file_with_the_token_is_never_sent(run, run_copy, hub):
    (run_copy / "export").mkdir()
    (run_copy / "export" / "config.json").write_text(json.dumps({"note": f"made with {TOKEN}"}))
    with pytest.raises(CheckpointError, match=r"config.json: contains a token of the environment"):
        run("push", "run_dir=run", "push.repo=me/mine", "push.folder=export", "push.send=true")
    assert not hub.created


def test_weights_that_were_changed_since_are_refused(run, run_copy, hub):
    path = run_copy / "merged" / "generation_config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(MissingStepError, match="is not proven"):
        run("push", "run_dir=run", "push.repo=me/mine", "push.send=true")
    path = run_copy / "adapter" / "adapter_config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CheckpointError, match="was changed since the train step"):
        run("push", "run_dir=run", "push.repo=me/mine", "push.folder=adapter")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run_dir=run"], "push.repo: not given"),
        (["run_dir=run", "push.repo=a/b/c"], "is not a name on the Hub"),
        (["run_dir=run", "push.repo=me/mine", "push.folder=combined"], "has no combined"),
    ],
)
def test_what_is_missing_is_named(run, run_copy, arguments, text):
    with pytest.raises((ConfigError, MissingStepError), match=text):
        run("push", *arguments)


def test_a_hub_that_cannot_be_reached_is_one_line(run, run_copy, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"push.repo: me/mine: the Hub says: "):
        run("push", "run_dir=run", "push.repo=me/mine", "push.send=true")


def test_offline_is_said(run, run_copy, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        run("push", "run_dir=run", "push.repo=me/mine", "push.send=true")
    assert Path("run").is_dir()
