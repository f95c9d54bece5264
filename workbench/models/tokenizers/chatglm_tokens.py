"""Tokens that the code of ChatGLM2's and ChatGLM3's tokenizer adds to its SentencePiece model.

Source: tokenization_chatglm.py of huggingface.co/THUDM/chatglm3-6b.
"""

from dataclasses import replace

from tokenizers import Tokenizer, processors

from workbench.models.tokenizers.sentencepiece_file import CONTROL, UNMATCHED, Piece, SentencePieceModel

CLASS = "ChatGLMTokenizer"
WORDS = ("sop", "eop")
"""Tokens that also occur as letters of words: text becomes them only if tokenizer_config.json lists them."""
SPECIAL = (
    *("[MASK]", "[gMASK]", "[sMASK]", *WORDS),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
"""Special tokens; their ids follow those of the SentencePiece model."""
PREFIX = ("[gMASK]", "sop")
"""Tokens that are put before every text."""


def with_special_pieces(model: SentencePieceModel) -> SentencePieceModel:
    """Return a SentencePiece model with ChatGLM's special tokens appended to its pieces."""
    added = (Piece(text, 0.0, UNMATCHED if text in WORDS else CONTROL) for text in SPECIAL)
    return replace(model, pieces=(*model.pieces, *added))


def prefix(tokenizer: Tokenizer) -> processors.PostProcessor:
    """Return a post-processor that puts ChatGLM's special tokens `PREFIX` before every text."""
    ids = [(token, tokenizer.token_to_id(token)) for token in PREFIX]
    return processors.TemplateProcessing(single=[*PREFIX, "$A"], special_tokens=ids)
