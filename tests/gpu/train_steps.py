"""LoRA steps of 2 x 4,096 tokens, 8B shape, rank 16 on all linear layers; `ours` or `trl`, bf16 or NF4."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from card import (
    SWITCHES,
    Day,
    arguments,
    clear,
    clock,
    day_of,
    dense_flops,
    our_model,
    peak_gib,
    their_model,
    tokenizer,
)
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback

from workbench.config.adapter import AdapterConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.config.train import Scheduler, TrainConfig
from workbench.errors import DeviceError
from workbench.models import OpenLlamaConfig, OpenLlamaForCausalLM
from workbench.models.adapters.attach import attach
from workbench.models.ops.fused import check_compiles, enable_compiled
from workbench.training.estimate.memory import Batch, Setting, Shape, peak_parts, step_flops
from workbench.training.fit import fit

ROWS, RANK, WARM_STEPS = 2, 16, 2


@dataclass(frozen=True)
class Case:
    """A kind of rows and settings of the training."""

    name: str
    is_packed: bool = False
    checkpointing: bool = False
    deterministic: bool = True
    compiled: bool = False


OURS = {
    "none": (
        Case("full rows"),
        Case("full rows, not deterministic", deterministic=False),
        Case("packed", is_packed=True),
        Case("packed, checkpointing", is_packed=True, checkpointing=True),
        Case("full rows, compiled", compiled=True),
    ),
    "nf4": (Case("full rows"), Case("packed", is_packed=True)),
}
TRL = {
    "none": (
        Case("packed, checkpointing", is_packed=True, checkpointing=True),
        Case("packed", is_packed=True),
    ),
    "nf4": (Case("packed, checkpointing", is_packed=True, checkpointing=True),),
}


def rows_of(day: Day, case: Case, steps: int) -> Dataset:
    """Return random rows that fill the batches: of one text each, or of texts of 20 to 400 tokens."""
    width, high = (4096, 60000) if not day.is_dry else (128, 2000)
    longest = 400 if not day.is_dry else 40
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number in range(ROWS * steps):
        ids = torch.randint(10, high, (width,), generator=generator).tolist()
        lengths = [width]
        if case.is_packed:
            lengths = []
            while sum(lengths) < width:
                length = int(torch.randint(20, longest, (), generator=generator))
                lengths.append(min(length, width - sum(lengths)))
        positions = [position for length in lengths for position in range(length)]
        labels = [-100 if position == 0 else token for position, token in zip(positions, ids, strict=True)]
        row = {"input_ids": ids, "labels": labels, "length": width, "row": number, "where": ""}
        rows.append(row | ({"position_ids": positions} if case.is_packed else {}))
    return Dataset.from_list(rows)


def texts_of(rows: Dataset) -> Dataset:
    """Return the texts in packed rows as rows of their own, for a trainer that packs them itself."""
    texts = []
    for row in rows:
        begins = [index for index, position in enumerate(row["position_ids"]) if position == 0]
        for begin, end in zip(begins, [*begins[1:], row["length"]], strict=True):
            texts.append({key: row[key][begin:end] for key in ("input_ids", "labels")})
    return Dataset.from_list(texts)


def report(day: Day, name: str, case: Case, method: str, steps: list[dict[str, float]]) -> None:
    """Record the rate of the steps after the first ones, and the peak memory beside the plan's.

    `steps` have the tokens and the seconds since the start, and the loss.
    """
    rows = rows_of(day, case, 1)
    tokens = sum(rows["length"])
    labelled = sum(label != -100 for row in rows["labels"] for label in row)
    texts = sum(position == 0 for row in rows["position_ids"] for position in row) if case.is_packed else ROWS
    setting = Setting(
        shape=Shape.of(our_outline(day)),
        quantization=QuantizationConfig(method=QuantizationMethod[method]),
        adapter=AdapterConfig(rank=RANK, alpha=2 * RANK),
        batch=Batch(ROWS, tokens, labelled),
        checkpointing=case.checkpointing,
        dtype_bytes=2,
        on_cpu=day.device == "cpu",
    )
    first, last = steps[WARM_STEPS - 1], steps[-1]
    rate = (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])
    flops = step_flops(setting, tokens=tokens, labelled=labelled, length=tokens / texts)
    planned = sum(size for purpose, size in peak_parts(setting).items() if purpose != "process")
    card = dense_flops()
    day.record(
        name,
        case=case.name,
        method=method,
        tokens_per_second=round(rate, 1),
        share_of_card=round(flops / tokens * rate / card, 4) if card else None,
        peak_gib=peak_gib(),
        planned_gib=round(planned / 2**30, 2),
        losses=[step["loss"] for step in steps],
    )


def our_outline(day: Day) -> PreTrainedModel:
    """Return a model without weights, from which the plan takes its shape."""
    with torch.device("meta"):
        return OpenLlamaForCausalLM(OpenLlamaConfig(**{**day.shape(), **SWITCHES}))


def train_ours(day: Day, method: str, steps: int) -> None:
    """Time our trainer on every case; the adapter starts from the same weights each time."""
    begin = clock()
    adapted = attach(our_model(day, method), AdapterConfig(rank=RANK, alpha=2 * RANK), 7)
    day.record("load", method=method, seconds=round(clock() - begin, 1), weights_gib=peak_gib())
    start = {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}
    for case in OURS[method]:
        clear()
        if case.compiled:
            try:
                check_compiles(torch.device(day.device))
            except DeviceError as error:
                day.record("train", case=case.name, method=method, error=str(error))
                continue
        enable_compiled(case.compiled)
        adapted.load_state_dict(start, strict=False)
        train = TrainConfig(
            max_steps=steps,
            learning_rate=2e-4,
            lr_scheduler=Scheduler.constant,
            per_device_batch_size=ROWS,
            gradient_checkpointing=case.checkpointing,
            deterministic=case.deterministic,
            logging_steps=1,
            save_steps=1000,
            report_to=[],
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(adapted, tokenizer(day), rows_of(day, case, steps), None, train, Path(folder), 7)
            lines = [json.loads(line) for line in Path(folder, "train.jsonl").read_text().splitlines()]
        report(day, "train", case, method, [line for line in lines if "loss" in line])


class StepClock(TrainerCallback):
    """Notes when each step has ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(clock())


def train_trl(day: Day, method: str, steps: int) -> None:
    """Time TRL's SFTTrainer with packing on the same texts."""
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    for case in TRL[method]:
        clear()
        step_clock = StepClock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = SFTTrainer(
                model=their_model(day, method),
                args=SFTConfig(
                    output_dir=folder,
                    max_steps=steps,
                    learning_rate=2e-4,
                    lr_scheduler_type="constant",
                    per_device_train_batch_size=ROWS,
                    gradient_checkpointing=case.checkpointing,
                    packing=True,
                    max_length=4096 if not day.is_dry else 128,
                    bf16=True,
                    logging_steps=1,
                    save_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                    use_cpu=day.device == "cpu",
                    seed=7,
                ),
                train_dataset=texts_of(rows_of(day, case, steps + 1)),
                processing_class=tokenizer(day),
                peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
                callbacks=[step_clock],
            )
            clear()
            trainer.train()
        lines = [line for line in trainer.state.log_history if "loss" in line]
        steps_done = [
            {"tokens": line["num_tokens"], "loss": line["loss"], "seconds": seconds}
            for line, seconds in zip(lines, step_clock.seconds, strict=True)
        ]
        report(day, "trl", case, method, steps_done)
        del trainer


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("side", choices=("ours", "trl"))
    parser.add_argument("method", choices=("none", "nf4"))
    given = parser.parse_args()
    day = day_of(given)
    steps = 3 if day.is_dry else 7 if given.method == "none" else 5
    (train_ours if given.side == "ours" else train_trl)(day, given.method, steps)


if __name__ == "__main__":
    main()
