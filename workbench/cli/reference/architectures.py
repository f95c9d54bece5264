"""What each architecture can do, for conf/README.md, as tests/models/test_architecture_table.py tries it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Support:
    """What a run with a model of one architecture can do beyond training, merging and scoring."""

    is_open_llama: bool = False
    """Whether it becomes an Open-Llama, which can be exported; else transformers' own class runs it."""
    has_experts: bool = False
    """Whether it is a mixture of experts."""
    packs: bool = True
    """Whether several texts can be in one row of a training."""
    shares: bool = True
    """Whether texts with a common prefix can share its computation."""
    remark: str = ""
    """What the tests vary, or why something is refused."""


OPEN_LLAMA, NATIVE = Support(is_open_llama=True), Support()
MIXTURE = Support(has_experts=True)
STATE = Support(packs=False, shares=False, remark="a recurrent state passes from text to text")
SUPPORT: Mapping[str, Support] = {
    "llama": Support(
        is_open_llama=True,
        remark="also tied, with biases, head_dim, and ropes linear, dynamic, yarn, llama3, longrope",
    ),
    "mistral": Support(is_open_llama=True, remark="with and without a window"),
    "qwen2": OPEN_LLAMA,
    "qwen3": OPEN_LLAMA,
    "granite": OPEN_LLAMA,
    "internlm3": OPEN_LLAMA,
    "gemma2": NATIVE,
    "gemma3_text": NATIVE,
    "gemma3": Support(remark="its text model is trained"),
    "glm": NATIVE,
    "glm4": NATIVE,
    "phi3": NATIVE,
    "olmo2": NATIVE,
    "cohere": NATIVE,
    "starcoder2": NATIVE,
    "minicpm3": NATIVE,
    "gpt2": NATIVE,
    "bloom": Support(packs=False, shares=False, remark="its ALiBi counts places in the row"),
    "qwen3_moe": MIXTURE,
    "mixtral": MIXTURE,
    "deepseek_v3": MIXTURE,
    "gpt_oss": Support(
        has_experts=True,
        packs=False,
        remark="transformers' class builds its masks without positions",
    ),
    "falcon_h1": STATE,
    "mamba": STATE,
    "qwen3_5_text": STATE,
}
"""model_type -> support, without quantization, in int8 and in nf4."""
