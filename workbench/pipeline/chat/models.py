"""The models that a chat can ask: base weights loaded once, the adapter switched on and off on them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from peft import PeftModel
from transformers import PreTrainedModel, set_seed

from workbench.config import QuantizationConfig
from workbench.config.benchmark import GenerationConfig
from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.errors import MissingStepError
from workbench.evaluation.inference.causal_lm import TransformersLM, evaluation_mode
from workbench.evaluation.inference.decoder import Decoder
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.pipeline.run_models import fingerprint_of_merge, plain
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import adapter_folder, check_trained
from workbench.pipeline.tokenizers import tokenizer_for


class ChatModels:
    """Loads each model when it is first asked."""

    def __init__(self, run: Run) -> None:
        """Look which models there are; none is loaded yet."""
        self.run, self.config, self.run_dir = run, run.config, run.run_dir
        self.adapter = adapter_folder(run)
        present = {
            TRAINED: self.run_dir.model.is_dir(),
            ADAPTER: self.adapter is not None,
            MERGED: self.run_dir.merged.is_dir(),
            BASE: not self.config.model.init,
        }
        self.names = [name for name in present if present[name]]
        """What was trained comes first."""
        self._decoders: dict[str, Decoder] = {}
        self._adapted: PeftModel | None = None

    @contextmanager
    def answering(self, name: str) -> Iterator[Decoder]:
        """A model at work, loaded if need be.

        Raises:
            MissingStepError: it isn't there, or the merged model isn't that of the run's adapter.
        """
        if name not in self.names:
            raise MissingStepError(f"chat.models: no {name} model here (there is: {', '.join(self.names)})")
        if name not in self._decoders:
            self._load(name)
        decoder, adapted = self._decoders[name], self._adapted
        bare = adapted.disable_adapter() if adapted and name == BASE else nullcontext()
        with bare, evaluation_mode(decoder.lm.model):
            yield decoder

    def _load(self, name: str) -> None:
        model, quantization = self.config.model, self.config.quantization
        set_seed(self.config.seed)  # a new model's weights are the same each time
        if name == MERGED:
            if fingerprint_of_merge(self.adapter, self.run_dir) is None:
                raise MissingStepError(
                    f"{self.run_dir.merged}: not the merge step's, or of an older adapter (recipe=merge)"
                )
            self._keep(name, load_model(plain(model, self.run_dir.merged), QuantizationConfig()))
        elif name == TRAINED:
            check_trained(self.run_dir, self.run_dir.model)
            self._keep(name, load_model(plain(model, self.run_dir.model), quantization))
        elif name == BASE:
            self._keep(name, load_model(model, quantization))
        elif self.adapter is not None and adapter_config.changes_base(self.adapter):
            self._put_adapter(load_model(model, quantization))  # on weights of its own
        else:
            with self.answering(BASE) as base:
                del self._decoders[BASE]  # until the adapter is whole: Ctrl-C leaves no half of it
                self._put_adapter(base.lm.model)
                self._decoders[BASE] = base

    def _put_adapter(self, model: PreTrainedModel) -> None:
        assert self.adapter is not None
        self._adapted = attach.load(model, self.adapter)
        end_at(model, adapter_config.end_tokens(self.adapter))
        self._keep(ADAPTER, attach.base_model(self._adapted))

    def _keep(self, name: str, model: PreTrainedModel) -> None:
        """Make what decodes with the model, as the predict step does; where answers end is settled now."""
        chat = self.config.chat
        limits = GenerationConfig(stop=[], temperature=chat.temperature, top_k=chat.top_k, top_p=chat.top_p)
        with evaluation_mode(model):
            lm = TransformersLM(model, tokenizer_for(name, self.run), self.config.evaluate)
            self._decoders[name] = Decoder(lm, limits)
