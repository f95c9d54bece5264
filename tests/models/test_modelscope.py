"""Models and rows of ModelScope, by its own client, from a stand-in of its server on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from workbench.data.readers.modelscope_files import place_of
from workbench.errors import CheckpointError, DataError
from workbench.models.checkpoints.hub import locate
from workbench.modelscope.download import newest_commit

OLD, NEW, LATER = "a" * 40, "b" * 40, "c" * 40
FILES = {
    "models": {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"a copy",
        "modeling_own.py": b"raise SystemExit",
        "onnx/model.onnx": b"large",
        "tiny.gguf": b"GGUF",
    },
    "datasets": {
        "README.md": b"# Rows",
        "train.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "test.jsonl": b'{"text": "three"}\n',
        "zh/train.jsonl": '{"text": "一"}\n'.encode(),
    },
}
IN_RUN = """
import sys
from workbench.models.checkpoints.hub import held_commits, hub_commits, locate
from workbench.data.rows import load_rows
from workbench.config.data import DataConfig
kind, path, known = sys.argv[1], sys.argv[2], dict([sys.argv[3].split("=")]) if len(sys.argv) > 3 else {}
with held_commits(known):
    if kind == "models":
        print(locate(path), hub_commits())
    else:
        print([row.values["text"] for row in load_rows(DataConfig(path=path, subset=known.get("subset")))])
"""


@pytest.fixture
def scope(tmp_path):
    """Locates models and loads rows in a process that knows this server only."""
    pytest.importorskip("modelscope_hub", reason="pip install 'open-llama-workbench[modelscope]'")
    asked = []

    class Scope(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append(self.path)
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            _, api, version, kind, owner, name, *rest = [*url.path.split("/"), *[""] * 3]
            files = (
                FILES.get(kind, {}) if (api, version, owner, name) == ("api", "v1", "us", "tiny") else None
            )
            if files is None or query.get("Revision", "master") not in ("master", OLD, NEW, LATER):
                return self.send(404, json.dumps({"Code": 404, "Message": "no such repository"}).encode())
            if rest[:2] in (["repo", "files"], ["repo", "tree"]):
                entries = [described(path, content) for path, content in sorted(files.items())]
                return self.send(200, json.dumps({"Code": 200, "Data": {"Files": entries}}).encode())
            return self.send(200, files[query["FilePath"]])

        def send(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scope)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = {
        "MODELSCOPE_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "MODELSCOPE_CACHE": str(tmp_path / "cache"),
        "MODELSCOPE_HOME": str(tmp_path / "home"),
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
    }

    def ask(kind, *words):
        command = [sys.executable, "-c", IN_RUN, kind, *words]
        done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, timeout=120)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    ask.asked = asked
    yield ask
    server.shutdown()
    server.server_close()


def described(path, content):
    changed = path in ("model.safetensors", "train.jsonl")
    return {
        "Path": path,
        "Name": Path(path).name,
        "Type": "blob",
        "Size": len(content),
        "Sha256": hashlib.sha256(content).hexdigest(),
        "Revision": NEW if changed else OLD,
        "CommittedDate": 1_700_000_000 + changed,
    }


def test_a_model_is_downloaded_once_at_its_commit_without_copies_and_code(scope):
    answer = scope("models", "modelscope:us/tiny")
    folder, _, commits = answer.partition(" ")
    assert commits == f"{{'modelscope:us/tiny@master': '{NEW}'}}" and Path(folder).name == NEW
    assert sorted(file.name for file in Path(folder).iterdir()) == ["config.json", "model.safetensors"]
    downloads = [path for path in scope.asked if "FilePath=" in path]
    assert scope("models", "modelscope:us/tiny") == answer
    assert [path for path in scope.asked if "FilePath=" in path] == downloads


def test_the_commit_of_a_run_is_asked_for_again(scope):
    scope("models", "modelscope:us/tiny", f"modelscope:us/tiny@master={LATER}")
    listings = [path for path in scope.asked if "/repo/files" in path]
    assert listings and all(f"Revision={LATER}" in path for path in listings)


def test_a_gguf_file_is_downloaded_alone(scope):
    file = Path(scope("models", "modelscope:us/tiny/tiny.gguf").partition(" ")[0])
    assert file.read_bytes() == b"GGUF" and [one.name for one in file.parent.iterdir()] == ["tiny.gguf"]


def test_rows_are_those_of_the_split_and_of_the_folder_that_is_named(scope):
    assert scope("datasets", "modelscope:us/tiny", "subset=zh") == "['一']"
    assert scope("datasets", "modelscope:us/tiny") == "['one', 'two', '一']"


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_a_name_that_is_not_there_is_one_line(scope, kind):
    key = "model.path" if kind == "models" else "data.path"
    assert f"{key}: downloading 'modelscope:us/none' from ModelScope failed" in scope(
        kind, "modelscope:us/none"
    )


def test_without_the_client_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(
        CheckpointError, match=r"^model\.path: .*pip install 'open-llama-workbench\[modelscope\]'"
    ):
        locate("modelscope:us/tiny")
    with pytest.raises(DataError, match=r"^data\.path: .*\[modelscope\]'"):
        place_of("modelscope:us/tiny", None, "data.path")


def test_a_name_of_another_shape_is_refused():
    with pytest.raises(CheckpointError, match=r"model\.path: 'modelscope:tiny' is not modelscope:OWNER/NAME"):
        locate("modelscope:tiny")


def test_the_commit_is_that_of_the_file_that_changed_last():
    files = [
        {"Revision": NEW, "CommittedDate": 5},
        {"Revision": OLD, "CommittedDate": 9},
        {"Revision": "master"},
    ]
    assert newest_commit(files) == OLD
    assert newest_commit([{"Revision": "master", "CommittedDate": 9}, {}]) is None
