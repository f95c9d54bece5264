"""How long threads look for work before they sleep: LoRA steps and the quickstart, alone and beside others.

    python tests/performance/waiting.py
    python tests/performance/waiting.py --work quickstart

A number is given to the OpenMP of PyTorch as GOMP_SPINCOUNT; `default` is OpenMP's own, `workbench` what the
command line chooses. The busy neighbour is one endless loop. The policies take turns, each run is a process
of its own. Seconds pass on the clock; those of a step are of all steps but the first.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rounds import ratios, shown

from workbench.cli import set_up_process

BY_NUMBER = "GOMP_SPINCOUNT"
OWN = 300_000
"""GOMP_SPINCOUNT that libgomp chooses by itself (libgomp manual, GOMP_SPINCOUNT)."""
STEPS = 5
TOY = Path(__file__).parents[2] / "workbench/toy/data/instruct.jsonl"


@contextmanager
def neighbour(*, busy: bool) -> Iterator[None]:
    """An endless loop beside the block."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if other:
            other.kill()
            other.wait()


def environment(spins: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in (BY_NUMBER, "OMP_WAIT_POLICY")}
    if spins == "workbench":
        return kept
    return kept | {BY_NUMBER: str(OWN) if spins == "default" else spins}


def quickstart(spins: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "workbench", "recipe=quickstart", f"run_dir={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(spins), cwd=folder)
        return time.perf_counter() - start


def steps(spins: str, dtype: str) -> float:
    """Seconds that a LoRA step of 4 rows takes in the shape of SmolLM2-135M."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--job", folder, "--dtype", dtype]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(spins))
        lines = [json.loads(line) for line in Path(folder, "train.jsonl").read_text("utf-8").splitlines()]
    return float(lines[-1]["seconds"] - lines[0]["seconds"]) / (len(lines) - 1)


def write_rows(file: Path) -> None:
    """Write rows of about 350 tokens, each of 13 of the toy's questions with their answers."""
    texts = [row["prompt"] + row["completion"] for row in map(json.loads, TOY.open(encoding="utf-8"))]
    drawn = random.Random(0)
    with file.open("w", encoding="utf-8") as rows:
        for _ in range(4 * STEPS):
            joined = drawn.sample(texts, 13)
            row = {"prompt": " ".join(joined[:6]) + " ", "completion": " ".join(joined[6:])}
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")


def train(folder: Path, dtype: str) -> None:
    set_up_process()  # before torch is loaded
    import training

    given = training.write_checkpoint(None, folder / "model"), str(training.TOY / "base")
    write_rows(folder / "rows.jsonl")
    data = [str(folder / "rows.jsonl")]
    work = training.Work(*given, data, rows=4, steps=STEPS, max_length=512, dtype=dtype)
    training.train_ours(work, training.Setting(), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spins", nargs="+", default=["default", "workbench"])
    parser.add_argument("--work", choices=("step", "quickstart"), default="step")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", type=int, nargs="+", choices=(0, 1), default=[0, 1])
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        train(given.job, given.dtype)
        return
    took: dict[tuple[int, str], list[float]] = {}
    for _ in range(given.rounds):
        for busy in given.neighbours:
            for spins in given.spins:
                with neighbour(busy=bool(busy)):
                    seconds = quickstart(spins) if given.work == "quickstart" else steps(spins, given.dtype)
                took.setdefault((busy, spins), []).append(seconds)
    for (busy, spins), seconds in took.items():
        beside = ratios(seconds, took[busy, given.spins[0]])
        print(
            f"{given.work}, {'beside a busy process' if busy else 'alone':21}, {spins:>9}: "
            f"{shown(seconds, 2)} s, {shown(beside, 2)} times {given.spins[0]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
