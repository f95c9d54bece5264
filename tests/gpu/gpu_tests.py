"""Runs the tests marked gpu, folder by folder, as their helpers have the same names in several folders."""

import subprocess
import sys

from card import arguments, day_of
from cmmlu import ROOT


def main() -> None:
    day = day_of(arguments(__doc__).parse_args())
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8")]
    codes = []
    for folder in sorted({file.parent for file in files if file.parent != ROOT / "tests" / "gpu"}):
        command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "gpu", *(["--collect-only"] if day.is_dry else [])]
        command += [str(file) for file in files if file.parent == folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        codes.append(done.returncode)
        lines = done.stdout.strip().splitlines()
        failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))]
        day.record("gpu tests", folder=folder.name, failed=failed, summary=lines[-1:], code=done.returncode)
    if any(codes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
