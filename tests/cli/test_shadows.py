"""A file in the current folder is never run because it has the name of a package."""

import subprocess
import sys

import pytest

from workbench.cli.shadows import shadows
from workbench.errors import ConfigError

MARK = "from pathlib import Path\nPath('marker').touch()\nraise SystemExit('the wrong one')\n"


def test_files_with_names_of_packages_are_named_and_not_run(tmp_path):
    for name in ("evaluate.py", "torch.py", "random.py", "logging.py", "hydra/__init__.py", "yaml.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(MARK)
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "mine.py").write_text(MARK)
    command = [sys.executable, "-m", "workbench", "recipe=quickstart", "--cfg", "job"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "method: nf4" in result.stdout, result.stderr
    note = "note: evaluate.py, hydra, torch.py, yaml.py: has the name of a package, and is ignored\n"
    assert result.stderr == note and not (tmp_path / "marker").exists()


def test_where_python_looks_into_the_folder_first_the_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "datasets.py").write_text(MARK)
    assert shadows(tmp_path) == ["datasets.py"]
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="datasets.py: is imported instead of the package 'datasets'"):
        shadows(tmp_path)


def test_names_that_no_package_has_are_no_matter(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_script.py", "quiz.csv", "evaluate.csv", "torch"):
        (tmp_path / name).write_text("")
    (tmp_path / "runs").mkdir()
    assert shadows(tmp_path) == []
