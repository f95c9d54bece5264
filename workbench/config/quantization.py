"""How the weights of the linear layers are held: whole, or in 8 or 4 bits (bitsandbytes)."""

from dataclasses import dataclass, field
from enum import Enum

from workbench.config.model import Dtype
from workbench.config.ranges import check_ranges, number


class QuantizationMethod(Enum):
    """The number format of the linear layers' weights."""

    none = "none"
    int8 = "int8"
    nf4 = "nf4"
    fp4 = "fp4"


@dataclass(kw_only=True)
class QuantizationConfig:
    """The `quantization` section. Output heads, embeddings and norms always stay whole."""

    method: QuantizationMethod = QuantizationMethod.none
    """int8: a scale a row (LLM.int8, arXiv:2208.07339); nf4, fp4: one per 64 (QLoRA, arXiv:2305.14314)."""
    double_quant: bool = True
    """nf4 and fp4: quantize the scales too, 0.37 bits a weight less (QLoRA, section 3)."""
    compute_dtype: Dtype = Dtype.auto
    """nf4 and fp4: the type that products are computed in; auto: the model's."""
    int8_threshold: float = number(6.0, 0, 10**4)
    """int8 on CUDA: input columns beyond this magnitude are multiplied unquantized; 0: none are."""
    skip_modules: list[str] = field(default_factory=list)
    """Further modules to keep whole, by the end of their names, e.g. [down_proj, layers.0.mlp]."""

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            ConfigError: a number out of its range.
        """
        check_ranges(self, "quantization")
