"""Every architecture through the whole job: python architecture_table.py FOLDER [NAME...]

Trains, resumes, packs, merges, scores and exports a tiny model of each architecture without quantization, in
int8 and in nf4, and compares losses and scores with plain transformers and peft. One process an architecture.
Prints tables; what came out is in FOLDER/NAME/outcome.json.
"""

import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import plain_model
import torch
from architecture_cells import Outcome, figures, table
from architectures import ARCHITECTURES, write_base, write_items, write_rows
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

sys.path += [str(Path(__file__).parents[1] / room) for room in ("training", "pipeline")]
from interrupted import forked, journal, killed_before
from run_recipe import run_recipe

from workbench.config.adapter import AdapterConfig
from workbench.config.model import Dtype, ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import WorkbenchError
from workbench.log_once import log_once
from workbench.models.adapters import attach
from workbench.models.loading import load_model
from workbench.run_dir import RunDir, file_fingerprint, read_json
from workbench.training.callbacks import StepCallback

METHODS = ("none", "int8", "nf4")
BENCHMARK = "toy_choice_en"
STEPS, SEED, KILLED_AT = 4, 42, 3
RATE = 1e-3
"""Learning rate. AdamW divides small gradients by their size, and a larger rate shows how they round."""
SETTINGS = (
    *(f"train.max_steps={STEPS}", "train.warmup_steps=0", f"train.learning_rate={RATE}"),
    *("train.logging_steps=1", "train.save_steps=2", "train.per_device_batch_size=10"),
    *("train.sample_answers=0", "train.report_to=[]", "data.max_length=160", f"seed={SEED}"),
    f"benchmark=[{BENCHMARK}]",
)


class Lines(logging.Handler):
    """Collects the lines of the workbench's log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Job:
    """One architecture in one quantization: its folder, its overrides, and the lines of the log so far."""

    def __init__(self, base: Path, rows: Path, folder: Path, method: str) -> None:
        self.base, self.folder, self.method = base, folder, method
        self.log = Lines()
        items = f"benchmarks.{BENCHMARK}.path={write_items(folder.parent / 'items.jsonl')}"
        paths = (f"model.path={base}", f"data.path={rows}", items)
        self.overrides = (*paths, f"quantization={method}", *SETTINGS)
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.training = training_texts(rows, self.tokenizer)

    def run(self, folder: str, *overrides: str, dtype: str = "float32") -> RunDir:
        """Run a recipe in one of the job's folders."""
        log_once.cache_clear()
        logger = logging.getLogger("workbench")
        logger.setLevel(logging.INFO)
        logger.addHandler(self.log)
        try:
            return run_recipe(
                "quickstart",
                *(*self.overrides, f"run_dir={self.folder / folder}", f"model.dtype={dtype}", *overrides),
            )
        finally:
            logger.removeHandler(self.log)

    def has_logged(self, words: str) -> bool:
        """Whether a line of the log has these words."""
        return any(words in line for line in self.log.lines)


def training_texts(rows: Path, tokenizer: PreTrainedTokenizerBase) -> list[plain_model.Text]:
    """The training rows as tokens; the prompts have no loss."""
    texts = []
    for row in map(json.loads, rows.read_text().splitlines()):
        ids = tokenizer(row["prompt"] + row["completion"]).input_ids
        start = len(tokenizer(row["prompt"]).input_ids)
        texts.append(([*ids, tokenizer.eos_token_id], start))
    return texts


def answers(run_dir: RunDir, model: str) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """(Prompt, choice) of all items, and the log-likelihoods that the workbench gave them."""
    texts, values = [], []
    for line in run_dir.predictions(model, BENCHMARK).read_text().splitlines():
        item = json.loads(line)
        texts += [(item["context"], f" {choice}") for choice in item["choices"]]
        values += item["loglikelihoods"]
    return texts, torch.tensor(values)


def difference(job: Job, run_dir: RunDir, name: str, model: torch.nn.Module) -> float:
    """Largest difference, in nats, of the log-likelihoods that a run gave to `name` from a plain model's."""
    texts, ours = answers(run_dir, name)
    encoded = []
    for context, choice in texts:
        ids, start = job.tokenizer(context + choice).input_ids, job.tokenizer(context).input_ids
        assert ids[: len(start)] == start
        encoded.append((ids, len(start)))
    return float((plain_model.scores(model, encoded) - ours).abs().max())


def start_adapter(job: Job) -> Path:
    """The adapter that a training of the job starts from, in a folder."""
    section = ModelConfig(path=str(job.base), dtype=Dtype.float32)
    quantization = QuantizationConfig(method=QuantizationMethod[job.method])
    model = load_model(section, quantization)
    attach.save(
        attach.attach(model, AdapterConfig(rank=16, alpha=32.0), SEED), job.folder / "start", str(job.base)
    )
    return job.folder / "start"


def plain_adapter(job: Job, folder: Path, trains: bool = False) -> PeftModel:
    """The base of plain transformers with an adapter of plain peft."""
    return PeftModel.from_pretrained(plain_model.load(job.base, job.method), folder, is_trainable=trains)


def reported_losses(run_dir: RunDir) -> torch.Tensor:
    """Losses of all steps, of train.jsonl."""
    return torch.tensor([line["loss"] for line in journal(run_dir.path) if "loss" in line])


def trained(job: Job) -> Outcome:
    """Train, merge and score; differences from plain transformers and peft."""
    run_dir = job.run("through", "steps=[train,merge,evaluate]", "evaluate.models=[base,adapter,merged]")
    report = read_json(run_dir.merge_report)
    plain = plain_adapter(job, start_adapter(job), trains=True)
    losses = torch.tensor(plain_model.losses(plain, job.training, STEPS, RATE))
    with torch.no_grad():
        models = {
            "base": plain_model.load(job.base, job.method),
            "adapter": plain_adapter(job, run_dir.adapter),
            "merged": plain_model.load(run_dir.merged, "none"),
        }
        scored = {name: difference(job, run_dir, name, model) for name, model in models.items()}
    (_, base), (_, adapted), (_, merged) = (answers(run_dir, name) for name in models)
    return {
        "class": next(line.split(" from ")[0] for line in job.log.lines if " parameters, " in line),
        "loss": float((losses - reported_losses(run_dir)).abs().max()),
        "learned": float((base - adapted).abs().max()),
        "scores": scored,
        "merged": float((merged - adapted).abs().max()),
        "proven": report["merged"]["largest"] <= report["merged"]["bound"],
        "effect": report["effect"]["kept"],
        "joined": not job.has_logged("rows are padded instead of joined"),
        "shared": not job.has_logged("shared prefixes are computed again"),
        "experts": next((line for line in job.log.lines if line.startswith("experts: ")), ""),
        "losses": losses.tolist(),
    }


def packed(job: Job, losses: list[float]) -> Outcome:
    """Train on packed rows; the difference of losses from plain transformers, which reads each row alone."""
    run_dir = job.run("packed", "steps=[train]", "data.packing=true")
    return {"loss": float((torch.tensor(losses) - reported_losses(run_dir)).abs().max())}


def resumed(job: Job) -> Outcome:
    """Kill a training and resume it; whether weights and journal are those of the one that ran through."""
    plant = killed_before(StepCallback, "on_step_end", KILLED_AT)
    status = forked(lambda: (plant(), job.run("killed", "steps=[train]")))
    run_dir, through = job.run("killed", "steps=[train]"), RunDir(job.folder / "through")
    same_weights = file_fingerprint(run_dir.adapter) == file_fingerprint(through.adapter)
    is_resumed = read_json(run_dir.run_json)["train"]["resumed_from"] is not None
    same = same_weights and journal(run_dir.path) == journal(through.path)
    return {"killed": status == 9, "resumed": is_resumed, "same": same}


def exported(job: Job) -> Outcome:
    """Train, merge and export; the scores of the folder beside plain transformers, which loads it."""
    run_dir = job.run("exported", "steps=[train,merge,export]")
    plain = AutoModelForCausalLM.from_pretrained(run_dir.export, dtype=torch.float32)
    return {
        "class": type(plain).__name__,
        "scores": difference(job, RunDir(job.folder / "through"), "merged", plain),
    }


def rounded(job: Job) -> Outcome:
    """Score in bfloat16; the difference from plain transformers in bfloat16."""
    run_dir = job.run("rounded", "steps=[evaluate]", "evaluate.models=[base]", dtype="bfloat16")
    return {
        "scores": difference(job, run_dir, "base", plain_model.load(job.base, job.method, torch.bfloat16))
    }


def attempt(job: Job, action: Callable[[], Outcome], folder: str) -> Outcome:
    """What came out of an action: its outcome, the line of a refusal, or a traceback."""
    seconds = time.process_time()
    try:
        return {**action(), "seconds": round(time.process_time() - seconds, 1)}
    except WorkbenchError as error:
        run_dir = RunDir(job.folder / folder)
        is_early = not any(path.exists() for path in (run_dir.train_jsonl, run_dir.adapter, run_dir.merged))
        return {"refused": str(error), "early": is_early}
    except Exception:
        return {"failed": traceback.format_exc()}


def outcome(name: str, folder: Path) -> dict[str, dict[str, Outcome]]:
    """What came out of one architecture: method -> step -> outcome."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    base, rows = write_base(name, folder / "base"), write_rows(folder / "rows.jsonl")
    outcomes: dict[str, dict[str, Outcome]] = {}
    for method in os.environ.get("METHODS", ",".join(METHODS)).split(","):
        job = Job(base, rows, folder / method, method)
        steps = outcomes[method] = {"trained": attempt(job, lambda job=job: trained(job), "through")}
        losses = steps["trained"].get("losses", [])
        steps["packed"] = attempt(job, lambda job=job, losses=losses: packed(job, losses), "packed")
        steps["resumed"] = attempt(job, lambda job=job: resumed(job), "killed")
        steps["bf16"] = attempt(job, lambda job=job: rounded(job), "rounded")
        steps["exported"] = attempt(job, lambda job=job: exported(job), "exported")
        (folder / f"{method}.log").write_text("\n".join(job.log.lines) + "\n")
    return outcomes


def outcomes(folder: Path, names: list[str]) -> dict[str, dict[str, dict[str, Outcome]]]:
    """What came out of each architecture, each in a process of its own."""
    made = {}
    for name in names:
        own = folder / name.replace(", ", "-")
        command = [sys.executable, __file__, "--alone", name, str(own)]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        made[name] = read_json(own / "outcome.json")
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return made


def main(arguments: list[str]) -> None:
    if arguments[0] == "--alone":
        folder = Path(arguments[2])
        made = outcome(arguments[1], folder)
        (folder / "outcome.json").write_text(json.dumps(made, indent=1))
        return
    made = outcomes(Path(arguments[0]).resolve(), arguments[1:] or list(ARCHITECTURES))
    print(table(made), figures(made), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
