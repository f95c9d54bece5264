"""Loads the two models that are asked in turn; base and adapter of one run share one load."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from workbench.api.loading import load_adapter
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.errors import ConfigError, MissingStepError
from workbench.models.adapters import adapter_config, attach
from workbench.models.adapters.adapter_config import CONFIG_FILE
from workbench.models.loading import check_model, load_model
from workbench.pipeline.run_models import Identity, loaded_models, model_identities
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder
from workbench.pipeline.tokenizers import tokenizer_for
from workbench.run_dir import RunDir

FOLDER = "compare"
"""Name of the folder, in a run's folder, with the answers of a comparison."""


@dataclass(frozen=True)
class Asked:
    """One of the two models to compare, before it is loaded."""

    label: str
    """`a` or `b` for a model that the configuration names, else the model's name in the run."""
    run: Run
    """Configuration and folder from which the model is loaded."""
    name: str
    """base, adapter, merged or trained."""
    identity: Identity

    @property
    def title(self) -> str:
        """Name of the model for reports: its name in the run, or its label with the path of its base."""
        return self.name if self.label == self.name else f"{self.label} ({self.run.config.model.path})"

    def values(self) -> dict[str, str | None]:
        """Return `model` (the title), `name`, `weights`, `adapter` and `quantization`, for compare.json.

        `weights` and `adapter` are fingerprints; None: the model has none.
        """
        keys = ("weights", "adapter", "quantization")
        return {"model": self.title, "name": self.name, **{key: self.identity.get(key) for key in keys}}

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return a copy of the model's tokenizer, with the model's chat template."""
        return tokenizer_for(self.name, self.run)


def asked_models(run: Run) -> tuple[Asked, Asked]:
    """Return the models `compare.a` and `compare.b`; those not given are the run's base and trained model.

    The trained model is the run's adapter, else its trained, else its merged model.

    Raises:
        MissingStepError: The run has no trained model, or no base because it began with new weights.
        ConfigError: Both are the same model.
        CheckpointError: There is no model or adapter at a given path.
    """
    config = run.config.compare
    own = model_identities(run) if not (config.a and config.b) else {}
    trained = next((name for name in (ADAPTER, TRAINED, MERGED) if name in own), None)
    if not config.b and trained is None:
        raise MissingStepError(
            f"compare.b: missing, and {str(run.run_dir.path)!r} has no trained model "
            "(b=MODEL, or run_dir=RUN)"
        )
    if not config.a and BASE not in own:
        raise MissingStepError("compare.a: missing, and a run with model.init has no base model (a=MODEL)")
    first = _given("a", config.a, run) if config.a else Asked(BASE, run, BASE, own[BASE])
    second = (
        _given("b", config.b, run)
        if config.b
        else Asked(trained or "", run, trained or "", own[trained or ""])
    )
    if first.identity == second.identity:
        raise ConfigError(f"compare: a and b are the same model ({first.title})")
    return first, second


def _given(label: str, path: str, run: Run) -> Asked:
    """Return the model at a path; if an adapter is there, the configured model with this adapter.

    Raises:
        CheckpointError: There is no model or adapter at the path.
    """
    config = run.config
    is_adapter = (Path(path) / CONFIG_FILE).is_file()
    model = config.model if is_adapter else replace(config.model, path=path, revision=None)
    adapter = replace(config.adapter, path=path if is_adapter else None)
    check_model(model, config.quantization)
    own = Run(replace(config, model=model, adapter=adapter), RunDir(run.run_dir.path / FOLDER / label))
    name = ADAPTER if is_adapter else BASE
    return Asked(label, own, name, model_identities(own)[name])


Enter = Callable[[], AbstractContextManager[PreTrainedModel]]
"""Returns a context in which a model can be used; the other model, which may share its weights, can't be used
meanwhile."""


def loaded(first: Asked, second: Asked) -> tuple[Enter, Enter]:
    """Load both models; return two functions, each of which opens a context that yields its model.

    Base and adapter of one run can share one load, so only one context may be open at a time.

    Raises:
        WorkbenchError: An adapter was changed since its training, or a model can't be loaded.
    """
    folder = adapter_folder(second.run)
    is_one_load = first.run is second.run and (first.name, second.name) == (BASE, ADAPTER)
    if is_one_load and folder is not None and not adapter_config.changes_base(folder):
        return _with_and_without(second.run, folder)
    models = [next(loaded_models(asked.run, [asked.name]))[1] for asked in (first, second)]
    return (lambda: nullcontext(models[0])), (lambda: nullcontext(models[1]))


def _with_and_without(run: Run, folder: Path) -> tuple[Enter, Enter]:
    """Load a model with its adapter once; return two functions that open contexts with the model.

    In the first context the adapter is off, in the second it is on.
    """
    config = run.config
    set_seed(config.seed)  # so that an untrained head has the same weights each time
    model = load_model(config.model, config.quantization, adapter_config.num_labels(folder))
    plain = deepcopy(getattr(model, "generation_config", None))
    adapted = load_adapter(model, folder)
    inner = attach.base_model(adapted)

    @contextmanager
    def without() -> Iterator[PreTrainedModel]:
        own = getattr(inner, "generation_config", None)
        try:
            if plain is not None:
                inner.generation_config = plain
            with adapted.disable_adapter():
                yield inner
        finally:
            if own is not None:
                inner.generation_config = own

    return without, (lambda: nullcontext(inner))
