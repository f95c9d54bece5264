"""Trainings that are killed: python interrupted.py FOLDER BASE [random]

Forks a training that runs through, then some that end themselves at a moment and are repeated,
and prints whether the weights are the same, as JSON. A fork costs nothing, an import of torch seconds.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_training import causal_rows, class_rows, load_with_lora, tiny_tokenizer

from workbench.config.train import TrainConfig
from workbench.models.adapters import attach
from workbench.run_dir import file_fingerprint
from workbench.training.callbacks import StepCallback, WriteManifest
from workbench.training.fit import fit

NUM_KILLS = 20
SETTINGS = {
    "num_epochs": 2.0,
    "per_device_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "logging_steps": 4,
    "save_steps": 3,
    "warmup_steps": 2.0,
}
"""12 steps, 6 an epoch; checkpoints at ends of epochs and in their middle, off the beat of the log."""


def killed_before(owner: type, method: str, step: int) -> Callable[[], None]:
    """End the process in a callback of ours at a step."""

    def plant() -> None:
        original = getattr(owner, method)

        def deadly(self, args, state, *rest, **options):
            if state.global_step == step:
                os._exit(9)
            return original(self, args, state, *rest, **options)

        setattr(owner, method, deadly)

    return plant


def killed_writing(name: str, step: int) -> Callable[[], None]:
    """End the process when half of a file of a checkpoint is on the disk."""

    def plant() -> None:
        original = torch.save

        def deadly(value, path, *rest, **options):
            original(value, path, *rest, **options)
            if str(path).endswith(f"checkpoint-{step}/{name}"):
                os.truncate(path, os.path.getsize(path) // 2)
                os._exit(9)

        torch.save = deadly

    return plant


def damaged(folder: Path, checkpoint: str, name: str) -> None:
    """Flip a byte in a finished file."""
    path = folder / "checkpoints" / checkpoint / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


MOMENTS = {
    "in the first step": killed_before(StepCallback, "on_step_end", 1),
    "in the middle of an epoch": killed_before(StepCallback, "on_step_end", 8),
    "right after a checkpoint": killed_before(StepCallback, "on_step_end", 10),
    "while a checkpoint is written": killed_writing("optimizer.pt", 6),
    "before a checkpoint is sealed": killed_before(WriteManifest, "on_save", 9),
}


def train(folder: Path, base: Path, task: str, method: str) -> None:
    torch.set_num_threads(1)
    classifies = task == "sequence_classification"
    rows = class_rows() if classifies else causal_rows()
    model = load_with_lora(base, task, method)
    fit(model, tiny_tokenizer(), rows, rows.select(range(5)), TrainConfig(**SETTINGS), folder, 7)
    attach.save(model, folder / "adapter")


def forked(action: Callable[[], None], seconds: float | None = None) -> int:
    """The exit status of an action in a process of its own, killed after so many seconds if given."""
    process = os.fork()
    if process:
        if seconds is not None:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        action()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def journal(folder: Path) -> list[dict]:
    """train.jsonl without what is measured."""
    lines = map(json.loads, (folder / "train.jsonl").read_text().splitlines())
    measured = {"seconds", "tokens_per_second", "peak_bytes"}
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def main(folder: Path, base: Path, task: str, method: str, moments: list[str]) -> dict[str, list]:
    """For each moment: exit status of the killed run and of the repeated one; same weights; same journal."""
    assert forked(lambda: train(folder / "through", base, task, method)) == 0
    expected = file_fingerprint(folder / "through" / "adapter"), journal(folder / "through")
    found = {}
    for name in moments:
        plant, place = MOMENTS[name], folder / name.replace(" ", "-")
        killed = forked(lambda plant=plant, place=place: (plant(), train(place, base, task, method)))
        if name == "right after a checkpoint":
            damaged(place, "checkpoint-9", "adapter_model.safetensors")
        repeated = forked(lambda place=place: train(place, base, task, method))
        same = repeated == 0 and file_fingerprint(place / "adapter") == expected[0]
        found[name] = [killed, repeated, same, repeated == 0 and journal(place) == expected[1]]
    return found


def killed_at_random(folder: Path, base: Path, task: str, method: str) -> list[list]:
    """For each random moment: exit status of the killed run; same weights and same journal in the end."""
    assert forked(lambda: train(folder / "through", base, task, method)) == 0
    started = time.monotonic()
    assert forked(lambda: train(folder / "again", base, task, method)) == 0
    lasted = time.monotonic() - started
    expected = file_fingerprint(folder / "through" / "adapter"), journal(folder / "through")
    generator, found, number = random.Random(0), [], 0
    while len(found) < NUM_KILLS:
        number += 1
        assert number < 3 * NUM_KILLS, "most trainings ended before they were killed"
        place = folder / str(number)
        killed = forked(
            lambda place=place: train(place, base, task, method), generator.uniform(0.1, 1) * lasted
        )
        if killed == 0:  # it was faster than the one that was timed
            lasted *= 0.9
            continue
        assert forked(lambda place=place: train(place, base, task, method)) == 0
        found.append(
            [killed, file_fingerprint(place / "adapter") == expected[0], journal(place) == expected[1]]
        )
    return found


if __name__ == "__main__":
    place, given = Path(sys.argv[1]), Path(sys.argv[2])
    middle = ["in the middle of an epoch"]
    found = (
        {"random": killed_at_random(place / "random", given, "causal_lm", "nf4")}
        if "random" in sys.argv
        else {
            "nf4": main(place / "nf4", given, "causal_lm", "nf4", list(MOMENTS)),
            "int8": main(place / "int8", given, "causal_lm", "int8", middle),
            "classifier": main(place / "classifier", given, "sequence_classification", "none", middle),
        }
    )
    print(json.dumps(found))
