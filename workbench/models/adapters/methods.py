"""Lists the peft methods that can be trained, with which quantizations, and why others can't."""

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.config.adapter import AdapterMethod
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.errors import ConfigError

BEFORE_TEXT = "puts trained tokens before the text and changes no weight, so there is nothing to merge"
REFUSED: dict[AdapterMethod, str] = {
    **dict.fromkeys(
        (
            AdapterMethod.prompt_tuning,
            AdapterMethod.multitask_prompt_tuning,
            AdapterMethod.p_tuning,
            AdapterMethod.prefix_tuning,
            AdapterMethod.cpt,
            AdapterMethod.cartridge,
        ),
        BEFORE_TEXT,
    ),
    AdapterMethod.adaption_prompt: "adds trained tokens inside attention and changes no weight, so there is "
    "nothing to merge",
    AdapterMethod.xlora: "weights several trained LoRAs differently for each token, so it can't be merged "
    "(merge.adapters combines LoRAs with fixed weights)",
    AdapterMethod.poly: "weights its LoRAs by a task number, which rows don't have, and peft can't merge it",
    AdapterMethod.lily: "weights its matrices differently for each token, so peft can't merge it",
    AdapterMethod.shadow: "adds a second network to the model, so peft can't merge it",
    AdapterMethod.trainable_tokens: "trains embeddings alone (adapter.trainable_tokens trains them together "
    "with a LoRA)",
}
"""Method -> reason why it can't be trained, as the end of a sentence that starts with its name."""


@dataclass(frozen=True)
class Bases:
    """Quantizations of the base (8 or 4 bits) that an adapter method supports.

    Supported means that the adapter's layers compute the same as merged weights would.
    """

    int8: bool
    four_bit: bool


EVERY, NO_FOUR_BIT, UNQUANTIZED = Bases(True, True), Bases(True, False), Bases(False, False)
FROM_BASE = (AdapterMethod.adamss, AdapterMethod.frod, AdapterMethod.shira)
"""Methods whose layers are computed from the base's weights, so that the meta device can't have them."""
BASES: Mapping[AdapterMethod, Bases] = {
    AdapterMethod.loha: NO_FOUR_BIT,
    AdapterMethod.lokr: NO_FOUR_BIT,
    **dict.fromkeys(
        (
            AdapterMethod.adamss,
            AdapterMethod.deft,
            AdapterMethod.delora,
            AdapterMethod.frod,
            AdapterMethod.glora,
            AdapterMethod.hra,
            AdapterMethod.osf,
            AdapterMethod.peanut,
            AdapterMethod.psoft,
            AdapterMethod.supertuning,
            AdapterMethod.tinylora,
            AdapterMethod.unilora,
        ),
        UNQUANTIZED,
    ),
}
"""Method -> quantizations that it supports; methods that aren't listed support all."""


CONDITIONS: Mapping[AdapterMethod, str] = {
    AdapterMethod.adalora: "removes ranks until adapter.options.target_r is their mean; one process",
    AdapterMethod.beft: "adapter.target_modules names layers with a bias",
    AdapterMethod.ln_tuning: "trains all norms, or those in adapter.target_modules",
}
"""Method -> remark for users on the layers it trains, or on where it can run."""


def check_method(method: AdapterMethod, quantization: QuantizationConfig) -> None:
    """Check that a method can be trained and merged on a base with this quantization.

    Raises:
        ConfigError: The method can't be trained; the message says why.
    """
    if reason := REFUSED.get(method):
        raise ConfigError(f"adapter.method: {method.name} {reason}")
    held, bases = quantization.method, BASES.get(method, EVERY)
    is_possible = {
        QuantizationMethod.none: True,
        QuantizationMethod.int8: bases.int8,
        QuantizationMethod.nf4: bases.four_bit,
        QuantizationMethod.fp4: bases.four_bit,
    }[held]
    if not is_possible:
        raise ConfigError(
            f"adapter.method: peft's layers of {method.name} don't compute on weights in {held.name} "
            f"(quantization=none{', or int8' if bases.int8 else ''}; adapter=lora)"
        )
