"""Computes the fingerprint of everything that decides the trained weights, to find their checkpoints."""

import hashlib

import pyarrow
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel

from workbench.config.train import TrainConfig
from workbench.distributed import rank_and_world_size
from workbench.run_dir import fingerprint


def training_identity(
    model: PreTrainedModel | PeftModel, dataset: Dataset, train: TrainConfig, seed: int, inputs: str
) -> str:
    """Return a fingerprint of a training; a training may resume only from checkpoints with its fingerprint.

    The fingerprint covers names, shapes and dtypes of the trained weights (not their values), the rows, the
    settings of `train` that change the weights, the seed, `inputs` (a fingerprint of anything else), and the
    number of processes, which changes how many rows a step has.
    """
    shapes = {name: (list(p.shape), str(p.dtype)) for name, p in model.named_parameters() if p.requires_grad}
    return fingerprint(
        [shapes, train.learned(), rows_fingerprint(dataset), seed, inputs, rank_and_world_size()[1]]
    )


def rows_fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256, in hex digits, of the token ids and labels of all rows, in order."""
    digest = hashlib.sha256()
    for table in dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(batch_size=1000):
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()
