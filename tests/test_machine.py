"""What is said about the memory of a process."""

import subprocess
import sys

import pytest

MIB = 1 << 20
PARENT = """
import subprocess, sys
memory = b"x" * (300 << 20)
del memory
child = "from workbench.machine import peak_resident_bytes; print(peak_resident_bytes())"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count a process alone")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    printed = subprocess.run([sys.executable, "-c", PARENT], check=True, capture_output=True, text=True)
    assert 5 * MIB < int(printed.stdout) < 150 * MIB
