"""The run's folder: held against a second process, and only read where it can't be written to."""

import os
import tempfile
from pathlib import Path

import pytest

from workbench.pipeline.run_folder import locked_folder
from workbench.run_dir import RunDir


@pytest.mark.parametrize(("only_reads", "status"), [(True, 0), (False, 1)])
def test_a_finished_run_on_a_disk_that_is_read_only_can_be_read(only_reads, status):
    """As a user without root's rights, who may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text("")
        folder.chmod(0o555)
        process = os.fork()
        if not process:
            try:
                os.setuid(65534 if os.geteuid() == 0 else os.geteuid())
                with locked_folder(RunDir(folder), only_reads=only_reads):
                    os._exit(0)
            except PermissionError:
                os._exit(1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == status
        assert [path.name for path in folder.iterdir()] == ["config.yaml"]
        folder.chmod(0o755)
