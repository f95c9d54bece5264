"""Hub ids, against a small hub of our own on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_checkpoints import llama, words_tokenizer

from workbench.config.model import ModelConfig
from workbench.models.loading import has_weights, outline

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCES = Path(__file__).parents[2] / "workbench" / "models" / "checkpoints" / "hub.py"
# HF_ENDPOINT is read when huggingface_hub is imported; the file alone is loaded, because torch takes seconds.
LOCATE = f"""
import importlib.util, sys
from workbench.errors import WorkbenchError
spec = importlib.util.spec_from_file_location("sources", {str(SOURCES)!r})
sources = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sources)
try:
    locate = {{"model": "locate"}}.get(sys.argv[1], f"locate_{{sys.argv[1]}}")
    print(getattr(sources, locate)(sys.argv[2]))
except WorkbenchError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""

HELD = """
import importlib.util, sys
from workbench.errors import WorkbenchError
spec = importlib.util.spec_from_file_location("sources", {source!r})
sources = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sources)
try:
    with sources.held_commits({known!r}):
        print(sources.locate(sys.argv[2]), sources.hub_commits())
except WorkbenchError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def digest(content):
    return hashlib.sha1(content).hexdigest()


def described(file):
    content = file.read_bytes()
    return {"type": "file", "path": file.name, "size": len(content), "oid": digest(content)}


@pytest.fixture
def hub(tmp_path):
    """A hub with the one model `us/tiny`; it speaks as much of the protocol as is asked for."""
    folder = tmp_path / "hub"
    llama().save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    (folder / "consolidated.00.pth").write_bytes(b"a copy")
    (folder / "pytorch_model.bin").write_bytes(b"another copy")
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0]
            if path.startswith("/api/models/us/tiny/tree/"):
                return self.send(json.dumps([described(file) for file in sorted(folder.iterdir())]).encode())
            if path.startswith("/api/models/us/tiny"):
                siblings = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                return self.send(json.dumps({"id": "us/tiny", "sha": COMMIT, "siblings": siblings}).encode())
            if path.startswith("/us/tiny/resolve/") and (file := folder / Path(path).name).is_file():
                return self.send(file.read_bytes())
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{digest(body)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache")}

    def locate(path, kind="model", code=LOCATE, **more):
        env = os.environ | mirror | {"HF_HUB_DISABLE_XET": "1"} | more
        command = [sys.executable, "-c", code, kind, path]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=SOURCES.parents[2])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    locate.asked, locate.folder = asked, folder
    yield locate
    server.shutdown()
    server.server_close()


def test_a_hub_id_is_downloaded_from_the_mirror_once_and_without_copies(hub):
    folder = Path(hub("us/tiny"))
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "consolidated.00.pth", "tiny.gguf"}
    downloads = sum(line.startswith("GET /us/tiny/resolve") for line in hub.asked)
    assert Path(hub("us/tiny")) == folder
    assert sum(line.startswith("GET /us/tiny/resolve") for line in hub.asked) == downloads
    assert Path(hub("us/tiny", HF_HUB_OFFLINE="1")) == folder


def test_the_commit_of_the_first_step_is_held_whatever_the_branch_becomes(hub):
    """What is asked for is remembered by commit, and asked for by it the next time."""
    later = "f" * 40
    first, second = (
        HELD.format(source=str(SOURCES), known={}),
        HELD.format(source=str(SOURCES), known={"us/tiny@main": later}),
    )
    assert hub("us/tiny", code=first).endswith(f"{{'us/tiny@main': '{COMMIT}'}}")
    assert hub("us/tiny", code=second).endswith(f"snapshots/{later} {{'us/tiny@main': '{later}'}}")
    assert any(f"/{later}/" in line for line in hub.asked)


def test_pickled_weights_are_downloaded_where_there_are_no_others(hub):
    (hub.folder / "model.safetensors").unlink()
    names = {file.name for file in Path(hub("us/tiny")).iterdir()}
    assert {"config.json", "pytorch_model.bin"} <= names


def test_one_gguf_file_of_a_hub_id_is_downloaded_alone(hub):
    file = Path(hub("us/tiny/tiny.gguf"))
    assert file.read_bytes() == b"GGUF"
    assert [path.name for path in file.parent.iterdir()] == ["tiny.gguf"]


def test_a_model_that_is_planned_comes_from_the_hub_without_weights(hub):
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    folder = Path(hub("us/tiny", "description"))
    assert {"config.json", "model.safetensors.index.json"} <= {file.name for file in folder.iterdir()}
    assert "model.safetensors" not in {file.name for file in folder.iterdir()}
    assert not has_weights(ModelConfig(path=str(folder)))
    assert outline(ModelConfig(path=str(folder))).num_parameters() == llama().num_parameters()


def test_a_tokenizer_of_the_hub_comes_without_weights(hub):
    names = {file.name for file in Path(hub("us/tiny", "tokenizer")).iterdir()}
    assert "tokenizer.json" in names and "model.safetensors" not in names


def test_an_adapter_of_the_hub_comes_with_its_safetensors_alone(hub):
    (hub.folder / "adapter_config.json").write_text("{}")
    (hub.folder / "adapter_model.safetensors").write_bytes(b"weights")
    names = {file.name for file in Path(hub("us/tiny", "adapter")).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "pytorch_model.bin" not in names
    assert hub("us/none", "adapter").startswith(
        "CheckpointError: adapter.path: there is no folder 'us/none', and downloading it failed"
    )


def test_a_model_that_the_hub_does_not_have_is_one_line(hub):
    for path, more in (("us/none", {}), ("us/none", {"HF_HUB_OFFLINE": "1"})):
        said = hub(path, **more)
        assert said.startswith(
            "CheckpointError: model.path: there is no folder 'us/none', and downloading it failed: "
        )
        assert "\n" not in said
