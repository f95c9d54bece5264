"""Any module can be imported first: none needs another one to have been imported before it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.pipeline.run import STEPS

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "workbench"


def first_imports(package: Path, *modules: str) -> dict[str, str]:
    """Module -> why it can't be the first import of a process; all modules of the package, or the named."""
    command = [sys.executable, str(TESTS / "import_orders.py"), str(package), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=package.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["modules"]
    return found["problems"]


def test_each_step_of_a_run_can_be_the_first_import_of_a_process():
    steps = {f"workbench.pipeline.{name}" for name in STEPS.values()}
    assert {"workbench.pipeline.merge", "workbench.pipeline.train"} < steps
    others = ("workbench", "workbench.api", "workbench.cli", "workbench.pipeline.run")
    assert first_imports(PACKAGE, *sorted(steps), *others) == {}


@pytest.mark.slow
def test_every_module_can_be_the_first_import_of_a_process():
    assert first_imports(PACKAGE) == {}


def test_a_circle_of_two_modules_is_found(tmp_path):
    package = tmp_path / "circle"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("from circle.second import B\nA = 1\n")
    (package / "second.py").write_text("from circle.first import A\nB = 2\n")
    (package / "third.py").write_text("from circle.first import A\n")
    problems = first_imports(package)
    assert problems.keys() == {"circle.first", "circle.second", "circle.third"}
    assert "partially initialized module" in problems["circle.first"]
