"""Every file that a run leaves, damaged in every way: named, made again or refused, and never believed."""

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from workbench import cli
from workbench.files import file_fingerprint

COMMAND = (
    "recipe=quickstart",
    *("train.max_steps=4", "train.save_steps=2", "run_dir=runs/it", "data.limit=300"),
    *("benchmark=[toy_choice_en,toy_exact_en]", "predict.input=mine.jsonl", "predict.max_new_tokens=4"),
    *("benchmarks.toy_choice_en.limit=4", "benchmarks.toy_exact_en.limit=4"),
    "steps=[train,merge,evaluate,predict,leaderboard]",
)
NUM_DAMAGES = 100


def truncated(path: Path, outside: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path, outside: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(path.name).randrange(len(content))] ^= 4
    path.write_bytes(content)


def emptied(path: Path, outside: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside)


DAMAGES: tuple[Callable[[Path, Path], None], ...] = (truncated, flipped, emptied, folder, link)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: str


class Commands:
    """Runs commands in this process, in a folder of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: str) -> Ended:
        GlobalHydra.instance().clear()
        self.monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        for name in ("HYDRA_FULL_ERROR", cli.TRACEBACK):
            self.monkeypatch.setenv(name, "0")
        self.capfd.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as exit:
            status = 0 if exit.code in (None, 0) else 1
            sys.stderr.write(f"{exit.code}\n" if isinstance(exit.code, str) else "")
        captured = self.capfd.readouterr()
        return Ended(status, captured.out + captured.err)


def scores(root: Path) -> list[tuple[str, str, float]]:
    """Every number of results.json."""
    values = json.loads((root / "runs" / "it" / "results.json").read_text())
    return sorted((s["model"], s["benchmark"], s["value"]) for s in values["scores"])


def products(root: Path) -> dict[str, str]:
    """What a run is made for, by the fingerprint of its content."""
    run = root / "runs" / "it"
    names = ["adapter", "merged", "predictions", "train.json", "config.yaml"]
    return {name: file_fingerprint(run / name) for name in names}


def damages(run: Path) -> Iterator[tuple[Path, Callable[[Path, Path], None]]]:
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    for path in files:
        for damage in DAMAGES:
            if (run / path).stat().st_size or damage in (folder, link):
                yield path, damage


@pytest.mark.slow
def test_a_damaged_file_is_named_and_made_again_or_refused_and_never_believed(tmp_path, monkeypatch, capfd):
    sound, outside = tmp_path / "sound", tmp_path / "outside.txt"
    sound.mkdir()
    outside.write_text("mine, and nobody else's\n")
    (sound / "mine.jsonl").write_text('{"prompt": "Question: Which is larger, 3 or 5?\\nAnswer:"}\n')
    command = Commands(monkeypatch, capfd)
    monkeypatch.chdir(sound)
    first = command(*COMMAND)
    assert first.status == 0, first.output
    expected, made = scores(sound), products(sound)
    everything = list(damages(sound / "runs" / "it"))
    chosen = sorted(random.Random(3).sample(range(len(everything)), min(NUM_DAMAGES, len(everything))))
    faults: list[str] = []
    for index in chosen:
        path, damage = everything[index]
        root = tmp_path / "damaged"
        shutil.copytree(sound, root)
        monkeypatch.chdir(root)
        damage(root / "runs" / "it" / path, outside)
        where = f"{path} {damage.__name__}"
        try:
            ended = command(*COMMAND)
        except BaseException as error:
            faults.append(f"{where}: {type(error).__name__}: {error}")
            ended = None
        if outside.read_text() != "mine, and nobody else's\n":
            faults.append(f"{where}: the file outside was changed")
            outside.write_text("mine, and nobody else's\n")
        if ended is not None and ended.status == 0 and (scores(root) != expected or products(root) != made):
            faults.append(f"{where}: exit 0 with other results")
        if ended is not None and ended.status and ended.output.count("error: ") != 1:
            faults.append(f"{where}: not one line: {ended.output[-300:]}")
        shutil.rmtree(root)
    assert not faults, "\n".join(faults)
