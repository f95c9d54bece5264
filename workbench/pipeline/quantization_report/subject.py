"""Finds the model that a quantization report measures, and the base that its adapter was trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from workbench.config import QuantizationConfig
from workbench.config.model import ModelConfig
from workbench.config.names import BASE, MERGED, TRAINED
from workbench.config.quantization import QuantizationMethod
from workbench.models.dequantized import save_dequantized
from workbench.models.loading import load_model
from workbench.pipeline.merge import merge
from workbench.pipeline.run_models import Identity, merge_fingerprint, model_identities, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder
from workbench.pipeline.tokenizers import tokenizer_for


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that is measured, before it is loaded in any number format."""

    name: str
    """base, merged or trained."""
    model: ModelConfig
    """The model with unquantized weights; for a base that was trained in 4 or 8 bits, with its effective
    weights."""
    whole: tuple[ModelConfig, QuantizationConfig]
    """Settings with which the model is loaded as the reference (number format `none`)."""
    tokenizer: PreTrainedTokenizerBase
    identity: Identity
    """Everything that the reference's answers depend on."""


def subject_of(run: Run) -> Subject:
    """Return the run's merged model, else its trained model, else the model at `model.path`.

    An adapter that isn't merged yet is merged first, into the run's folder.

    Raises:
        WorkbenchError: The adapter can't be merged, or a model was changed since it was trained.
    """
    adapter, run_dir = adapter_folder(run), run.run_dir
    if adapter is not None and not merge_fingerprint(adapter, run_dir):
        merge(run)
    identities = model_identities(run)
    name = next((name for name in (MERGED, TRAINED) if name in identities), BASE)
    folders = {MERGED: run_dir.merged, TRAINED: run_dir.model}
    model = model_in(folders[name], run.config.model) if name in folders else run.config.model
    return Subject(
        name=name,
        model=model,
        whole=(model, QuantizationConfig()),
        tokenizer=tokenizer_for(name, run),
        identity={**identities[name], "quantization": "none", "held": None},
    )


def base_of(run: Run, folder: Path) -> Subject | None:
    """Return the base that the run's adapter was trained on, with the weights that it had in training.

    The effective weights of a base that was trained in 4 or 8 bits are written into `folder`.

    Args:
        run: The run.
        folder: Folder for the effective weights.

    Returns:
        None if the run has no adapter, or no base because it began with new weights.

    Raises:
        WorkbenchError: The adapter was changed since its training, or the base can't be loaded.
    """
    config = run.config
    if adapter_folder(run) is None or config.model.init:
        return None
    model = config.model
    if config.quantization.method is not QuantizationMethod.none:
        save_dequantized(load_model(config.model, config.quantization), folder)
        model = replace(model_in(folder, config.model), tokenizer=config.model.tokenizer or config.model.path)
    return Subject(
        name=BASE,
        model=model,
        whole=(config.model, config.quantization),
        tokenizer=tokenizer_for(BASE, run),
        identity=model_identities(run)[BASE],
    )
