"""evaluate.invariant: the same bytes of predictions whatever is computed together, and after kill -9."""

import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from card import LLAMA_1B, Day, arguments, day_of, our_model, tokenizer
from cmmlu import ROOT, files_of, subjects

BUDGETS = (512, 4096, 16384)
"""Tokens computed at once."""


class Runs:
    """Runs of recipe=evaluate on one saved model, each in a process and a folder of its own."""

    def __init__(self, day: Day, folder: Path) -> None:
        self.day, self.folder = day, folder
        self.names = subjects(2 if day.is_dry else 3)
        self.files = files_of(day, folder, len(self.names))
        self.limit = 8 if day.is_dry else 40
        model = our_model(day, shape=LLAMA_1B)
        model.save_pretrained(folder / "model")
        tokenizer(day).save_pretrained(folder / "model")

    def command(self, name: str, *keys: str) -> list[str]:
        return [
            *(sys.executable, "-m", "workbench", "recipe=evaluate", "steps=[evaluate]"),
            *(f"run_dir={self.folder / name}", f"model.path={self.folder / 'model'}"),
            *(f"model.device={self.day.device}", "model.dtype=bfloat16", "benchmark=[cmmlu]"),
            *(f"benchmarks.cmmlu.path={self.files}", f"benchmarks.cmmlu.limit={self.limit}"),
            f"benchmarks.cmmlu.only=[{','.join(self.names)}]",
            *keys,
        ]

    def digest(self, name: str, *keys: str) -> str:
        """Run to the end, and return the sha256 of the predictions."""
        done = subprocess.run(self.command(name, *keys), capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{name}: {(done.stdout + done.stderr)[-1500:]}")
        [file] = (self.folder / name / "predictions").rglob("cmmlu.jsonl")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def killed(self, name: str, *keys: str) -> str:
        """End a run with SIGKILL once a third of the answers are on disk; return its repetition's digest."""
        process = subprocess.Popen(
            self.command(name, *keys), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        answers = 0
        while process.poll() is None:
            answers = sum(file.read_bytes().count(b"\n") for file in (self.folder / name).rglob("*.jsonl"))
            if answers >= self.limit * len(self.names) // 3:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        self.day.record("killed", answers=answers, of=self.limit * len(self.names), signal=-code)
        if code != -signal.SIGKILL:
            raise SystemExit(f"{name}: the run ended before it was killed (exit status {code})")
        return self.digest(name, *keys)


def main() -> None:
    day = day_of(arguments(__doc__).parse_args())
    invariant = "evaluate.invariant=true"
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2 if day.is_dry else 4) as pool:
        runs = Runs(day, Path(folder))
        digests = {
            str(budget): pool.submit(runs.digest, str(budget), invariant, f"evaluate.batch_tokens={budget}")
            for budget in (BUDGETS[:1] + BUDGETS[2:] if day.is_dry else BUDGETS)
        }
        digests["killed"] = pool.submit(runs.killed, "killed", invariant)
        sha256 = {name: digest.result() for name, digest in digests.items()}
    day.record("bytes", is_same=len(set(sha256.values())) == 1, sha256=sha256)


if __name__ == "__main__":
    main()
