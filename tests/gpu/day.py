"""Everything that must be measured on a GPU, in under nine minutes on a machine with one card.

    pip install -e '.[dev,bench]'
    python tests/gpu/day.py                    # results in gpu-results.jsonl, goals beside figures at the end
    python tests/gpu/day.py --cmmlu DIR        # with CMMLU's own questions (dev/ and test/)
    python tests/gpu/day.py --parts train trl  # some parts
    python tests/gpu/day.py --dry              # all parts with tiny shapes, on a CPU

Every part is a process with a time limit of its own, and appends its results as they come. A part that fails
or runs out of time leaves the others as they are, and makes the exit status 1.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from card import Day, arguments, day_of
from goals import read, table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOTAL_SECONDS = 525


@dataclass(frozen=True)
class Part:
    """A process of the day."""

    name: str
    seconds: int
    """Time limit; a dry run has none of its own."""
    script: tuple[str, ...]
    """A script of this folder with its arguments; or a module of Python, after `-m`."""


PARTS = (
    Part("tests", 60, ("gpu_tests.py",)),
    Part("quickstart", 40, ("-m", "workbench", "recipe=quickstart", "model.dtype=bfloat16")),
    Part("train", 75, ("train_steps.py", "ours", "none")),
    Part("train", 45, ("train_steps.py", "ours", "nf4")),
    Part("trl", 75, ("train_steps.py", "trl", "none")),
    Part("trl", 45, ("train_steps.py", "trl", "nf4")),
    Part("scores", 90, ("cmmlu_scores.py",)),
    Part("bytes", 60, ("same_bytes.py",)),
    Part("decoding", 50, ("decoding.py",)),
)


def command(part: Part, day: Day) -> list[str]:
    """Return the command of a part."""
    if part.script[0].endswith(".py"):
        options = ["--out", str(day.out), "--tokenizer", day.tokenizer]
        options += ["--dry"] if day.is_dry else []
        options += ["--cmmlu", day.cmmlu] if day.cmmlu else []
        return [sys.executable, str(HERE / part.script[0]), *part.script[1:], *options]
    more = []
    if part.name == "quickstart":
        more = [f"model.device={day.device}", f"run_dir={day.out.parent / 'quickstart'}"]
        more += ["train.max_steps=2"] if day.is_dry else []
    return [sys.executable, *part.script, *more]


def run(part: Part, day: Day, seconds: float) -> bool:
    """Run a part, and record how it ended; return whether it succeeded.

    Of the output the last line is recorded, and of a part that failed the last 15.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": path}
    begin = time.monotonic()
    with subprocess.Popen(
        command(part, day),
        cwd=ROOT,
        env=os.environ | offline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        status: int | str
        try:
            output, _ = process.communicate(timeout=seconds)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the part has started
            output, _ = process.communicate()
            status = "time limit"
    last = output.strip().splitlines()[-1:] if status == 0 else output.strip().splitlines()[-15:]
    day.record(
        part.name,
        script=" ".join(part.script[:3]),
        exit_status=status,
        seconds=round(time.monotonic() - begin, 1),
        output=[line[:300] for line in last],
    )
    return status == 0


def main() -> None:
    parser = arguments(__doc__)
    names = list(dict.fromkeys(part.name for part in PARTS))
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--total", type=int, default=TOTAL_SECONDS, help="seconds for all parts")
    given = parser.parse_args()
    day = day_of(given)
    day.out.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.total
    all_succeeded = True
    for part in PARTS:
        if part.name not in given.parts:
            continue
        left = end - time.monotonic()
        seconds = left if day.is_dry else min(part.seconds, left)
        if seconds < 10:
            day.record(part.name, exit_status="no time left")
            all_succeeded = False
        else:
            all_succeeded &= run(part, day, seconds)
    lines = [line for line in read(day.out) if line["dry"] == day.is_dry]  # of earlier calls too
    print("\n" + table(lines))
    if not all_succeeded:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
