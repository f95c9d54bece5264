"""Loads the models of a chat: the base weights once, with the adapter enabled or disabled."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from peft import PeftModel
from transformers import PreTrainedModel, set_seed

from workbench.api.loading import load_adapter
from workbench.config import QuantizationConfig
from workbench.config.benchmark import GenerationConfig
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.contexts import evaluation_mode
from workbench.errors import MissingStepError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.models.adapters import adapter_config, attach
from workbench.models.loading import load_model
from workbench.pipeline.run_models import merge_fingerprint, model_in
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained
from workbench.pipeline.tokenizers import tokenizer_for


class ChatModels:
    """The models of a run, each loaded on first use.

    `workbench.load_model` is not called because base and adapter share one load.
    """

    def __init__(self, run: Run) -> None:
        """Find out which models the run has, without loading one."""
        self.run, self.config, self.run_dir = run, run.config, run.run_dir
        self.adapter = adapter_folder(run)
        present = {
            TRAINED: self.run_dir.model.is_dir(),
            ADAPTER: self.adapter is not None,
            MERGED: self.run_dir.merged.is_dir(),
            BASE: not self.config.model.init,
        }
        self.names = [name for name in present if present[name]]
        """Names of the models that the run has, trained ones first."""
        self._decoders: dict[str, Decoder] = {}
        self._adapted: PeftModel | None = None

    @contextmanager
    def answering(self, name: str) -> Iterator[Decoder]:
        """Yield the decoder of a model in evaluation mode; the model is loaded on first use.

        Raises:
            MissingStepError: The run doesn't have the model, or the merge was made from another adapter.
        """
        if name not in self.names:
            names = ", ".join(self.names)
            raise MissingStepError(f"chat.models: the run has no {name} model (it has: {names})")
        if name not in self._decoders:
            self._load(name)
        decoder, adapted = self._decoders[name], self._adapted
        without_adapter = adapted.disable_adapter() if adapted and name == BASE else nullcontext()
        with without_adapter, evaluation_mode(decoder.lm.model):
            yield decoder

    def _load(self, name: str) -> None:
        model, quantization = self.config.model, self.config.quantization
        set_seed(self.config.seed)  # so that a new model has the same weights each time
        if name == MERGED:
            if merge_fingerprint(self.adapter, self.run_dir) is None:
                raise MissingStepError(
                    f"{self.run_dir.merged}: was changed since the merge step, or made from an older adapter "
                    "(recipe=merge makes it again)"
                )
            self._add(name, load_model(model_in(self.run_dir.merged, model), QuantizationConfig()))
        elif name == TRAINED:
            check_trained(self.run_dir, self.run_dir.model)
            self._add(name, load_model(model_in(self.run_dir.model, model), quantization))
        elif name == BASE:
            self._add(name, load_model(model, quantization))
        elif self.adapter is not None and adapter_config.changes_base(self.adapter):
            self._attach_adapter(load_model(model, quantization))  # with a copy of the base weights
        else:
            with self.answering(BASE) as base:
                del self._decoders[BASE]  # so that Ctrl-C leaves no base with half an adapter
                self._attach_adapter(base.lm.model)
                self._decoders[BASE] = base

    def _attach_adapter(self, model: PreTrainedModel) -> None:
        assert self.adapter is not None
        self._adapted = load_adapter(model, self.adapter)
        self._add(ADAPTER, attach.base_model(self._adapted))

    def _add(self, name: str, model: PreTrainedModel) -> None:
        """Create and store a decoder for a loaded model, with the chat's sampling settings.

        The decoder copies the model's end tokens.
        """
        chat = self.config.chat
        limits = GenerationConfig(stop=[], temperature=chat.temperature, top_k=chat.top_k, top_p=chat.top_p)
        with evaluation_mode(model):
            lm = TransformersLM(model, tokenizer_for(name, self.run), self.config.evaluate)
            self._decoders[name] = Decoder(lm, limits)
