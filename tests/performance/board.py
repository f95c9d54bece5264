"""Seconds and peak memory of building a leaderboard from run folders, cold and with little changed.

    python tests/performance/board.py [--models 200] [--columns 40] [--items 500] [--folder FOLDER]

Makes the folders first (200 x 40 x 500 items take 3 GB and some minutes), then builds board, page and all
other files in processes of their own: once with nothing kept, once more, and after one run has changed, which
may be the one that all others are compared with.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from workbench.evaluation.records import Score, prompt_hash, write_results
from workbench.evaluation.result_checksums import facts_digest, score_digests
from workbench.files import file_fingerprint, read_json, write_json
from workbench.machine import peak_resident_bytes
from workbench.run_dir import RunDir
from workbench.run_record import DIGEST, self_digest
from workbench.statistics.intervals import interval, stderr

CONTEXT = "以下是关于{}的单项选择题，请选出其中的正确答案。 A passage with a question of usual length. " * 4
CHOICES = ["first answer", "second answer", "third answer", "fourth answer"]
CHANGED = {"one run changed": 100, "the reference changed": 0}
"""What is measured after a change -> number of the run that has changed."""
SUBJECTS = 10
"""Subjects of every fourth column."""


def items_of(column: int, count: int) -> list[tuple[str, str]]:
    """What the lines of a column's items have before and after the answer."""
    found = []
    for number in range(count):
        subset = f"subject{number % SUBJECTS}" if column % 4 == 0 else ""
        item = {
            "schema_version": 1,
            "id": f"{subset}/{number}" if subset else str(number),
            "subset": subset,
            "prompt_hash": f"{column:08x}{number:08x}",
            "context": CONTEXT.replace("{}", str(number)),
            "choices": CHOICES,
        }
        found.append((json.dumps(item, ensure_ascii=False)[:-1], f'"target": {number % 4}, "scores"'))
    return found


def write_model(folder: Path, model: int, columns: list[list[tuple[str, str]]], ability: float) -> None:
    """One run folder with one model scored on every column."""
    files, dice, scores = RunDir(folder), np.random.default_rng(model), []
    for number, items in enumerate(columns):
        name = f"benchmark{number:02d}"
        difficulty = np.random.default_rng([number, 7]).random(len(items))
        right = (dice.random(len(items)) < ability * 0.5 + difficulty * 0.5).astype(float)
        likelihoods = -dice.random((len(items), 4)) * 20
        lines = [
            f'{before}, "loglikelihoods": {likelihoods[k].tolist()}, "generation": null, '
            f'"prediction": {k % 4 if right[k] else (k + 1) % 4}, {after}: {{"acc": {right[k]}}}, '
            f'"num_shots_dropped": 0}}\n'
            for k, (before, after) in enumerate(items)
        ]
        path = files.predictions("base", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
        hashes = [f"{number:08x}{k:08x}" for k in range(len(items))]
        scores.append(
            Score(
                model="base",
                benchmark=name,
                language="zh" if number % 2 else "en",
                metric="acc",
                value=float(right.mean()),
                stderr=stderr(right.tolist()),
                interval=list(interval(right.tolist())),
                num_items=len(items),
                num_fewshot=0,
                protocol="default",
                prompts=prompt_hash(hashes),
                chance=0.25,
                rule="0" * 16,
                num_total=len(items),
            )
        )
    facts = {"quantization": "none", "dtype": "float32", "adapter": None, "weights": f"{model:064x}"}
    about = {
        "run": folder.name,
        "recipe": "evaluate",
        "task": "causal_lm",
        "base_model": f"org/model-{model}",
    }
    write_results(files.results_json, {**about, "models": {"base": facts}}, scores)
    record(files)


def record(files: RunDir) -> None:
    """The run's run.json, with the checksums of its scores and predictions."""
    steps = {
        f"evaluate/{model}/{name}": {
            "inputs": "0" * 64,
            "output": file_fingerprint(files.predictions(model, name)),
            "scores": digest,
        }
        for (model, name), digest in score_digests(files.results_json).items()
    }
    values = {"schema_version": 1, "steps": steps, "results": facts_digest(read_json(files.results_json))}
    write_json(files.run_json, {**values, DIGEST: self_digest(values)})


def make(folder: Path, models: int, columns: int, items: int) -> None:
    """All run folders that aren't there yet."""
    lines = [items_of(column, items) for column in range(columns)]
    abilities = np.random.default_rng(0).uniform(0.3, 0.9, models)
    for model in range(models):
        run = folder / f"run{model:03d}"
        if not (run / "run.json").is_file():
            write_model(run, model, lines, float(abilities[model]))


def build_once(folder: Path) -> None:
    """Build the whole leaderboard of a folder in this process, and print what each part took."""
    from workbench.config.leaderboard import LeaderboardConfig
    from workbench.leaderboard import page
    from workbench.leaderboard.board_cache import keeping
    from workbench.leaderboard.build import build
    from workbench.leaderboard.collect import collect
    from workbench.leaderboard.items.run_texts import RunTexts
    from workbench.leaderboard.outputs import writing
    from workbench.reading_once import reading_once

    wall, seconds = time.perf_counter(), {"imports": time.process_time()}
    with reading_once(), keeping(folder) as index:
        found = collect(folder)
        seconds["runs"] = time.process_time()
        board = build(found, LeaderboardConfig(), index)
        seconds["board"] = time.process_time()
        texts = RunTexts(board, found.runs, index)
        page.write(board, texts, folder)
        seconds["page"] = time.process_time()
        writing.write_texts(board, texts, folder)
        seconds["other files"] = time.process_time()
    if not writing.missing_pictures():
        writing.write_pictures(board, folder)
        seconds["pictures"] = time.process_time()
    total, peak = time.process_time(), peak_resident_bytes()
    ends = [0.0, *seconds.values()]
    parts = ", ".join(
        f"{name} {end - start:.1f}" for name, start, end in zip(seconds, ends[:-1], ends[1:], strict=True)
    )
    print(
        f"{len(board.models)} models, {len(board.columns)} columns, {len(board.differences):,} differences: "
        f"{total:.1f} s of processor time ({parts}), {time.perf_counter() - wall:.1f} s, "
        f"peak {peak / 2**30:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--columns", type=int, default=40)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument(
        "--folder", type=Path, help="where the runs are made and kept; else in a temporary one"
    )
    parser.add_argument(
        "--only-build", action="store_true", help="build the board of --folder in this process"
    )
    given = parser.parse_args()
    if given.only_build:
        return build_once(given.folder)
    folder = given.folder or Path(tempfile.mkdtemp())
    make(folder, given.models, given.columns, given.items)
    line = [sys.executable, __file__, "--folder", str(folder), "--only-build"]
    for name in ("cold", "warm", *CHANGED):
        if name == "cold":
            for kept in folder.glob(".leaderboard*"):
                kept.unlink()
        if name in CHANGED:
            lines = [items_of(column, given.items) for column in range(given.columns)]
            run = folder / f"run{CHANGED[name] % given.models:03d}"
            write_model(run, time.time_ns() // 10**6, lines, 0.5)
        print(f"{name:21}", end=" ", flush=True)
        subprocess.run(line, check=True)
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
