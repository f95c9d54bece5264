"""A fingerprint of all that decides the trained weights, so that a checkpoint is known for its training."""

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
    """One fingerprint of the trained weights' shapes, the rows, the settings, the seed and `inputs`.

    The number of processes counts as well: it is one of the factors of a step's batch.
    """
    trained = {name: (list(p.shape), str(p.dtype)) for name, p in model.named_parameters() if p.requires_grad}
    return fingerprint(
        [trained, train.learned(), rows_fingerprint(dataset), seed, inputs, rank_and_world_size()[1]]
    )


def rows_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the token ids and labels of all rows, in their order."""
    digest = hashlib.sha256()
    for table in dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(batch_size=1000):
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()
