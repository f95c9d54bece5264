"""Removes begin and end tokens (such as `<s>`) from the text of rows where training adds them anyway."""

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from workbench.data.chat.render_turns import Renderer
from workbench.data.classification import LabelledText
from workbench.data.conversations import Conversation
from workbench.data.tokens.control_tokens import skeleton_of, stripped, with_text, written_once
from workbench.data.tokens.segments import special_frame
from workbench.errors import DataError


def without_doubled(conversation: Conversation, render: Renderer) -> Conversation:
    """Return a conversation without control tokens at the ends of turns where the template writes the same.

    Each removed token is noted in the result. A conversation without such tokens is returned itself.

    Raises:
        DataError: An answer consists only of such tokens.
    """
    control = render.marks
    if not any(control.begins_or_ends(turn.text) for turn in conversation.turns):
        return conversation
    skeleton = skeleton_text(conversation, render)
    surroundings = control.surroundings(skeleton, len(conversation.turns)) if skeleton else []
    notes: list[str] = []
    turns = list(conversation.turns)
    for number, (begin_tokens, end_tokens) in enumerate(surroundings):
        text, removed = stripped(turns[number].text, begin_tokens, end_tokens)
        if removed and turns[number].trained and not text.strip() and "tool_calls" not in turns[number].extra:
            raise DataError(
                f"{conversation.where}: the answer in turn {number + 1} is nothing but {', '.join(removed)}"
            )
        if removed:
            turns[number] = with_text(turns[number], text, removed)
            notes += map(written_once, removed)
    return replace(
        conversation, turns=tuple(turns), notes=tuple(dict.fromkeys([*conversation.notes, *notes]))
    )


def skeleton_text(conversation: Conversation, render: Renderer) -> str | None:
    """Render a conversation with a placeholder, SENTINEL, for each turn's text; None if the template refuses.

    The text begins with the tokenizer's begin token and ends with the end of the last turn, as in training.
    """
    text = render.writes(skeleton_of(conversation))
    if text is None:
        return None
    if conversation.turns[-1].role == "assistant":
        text = "".join(render.answer_and_rest(text, is_last=True))
    return render.prefix_text() + text


def frame_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[str]]:
    """Return the special tokens, as strings, that the tokenizer adds before and after every text."""
    before, after = special_frame(tokenizer)
    return list(tokenizer.convert_ids_to_tokens(before)), list(tokenizer.convert_ids_to_tokens(after))


def strip_added_tokens(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    begins: bool = True,
    ends: bool = True,
    eos: bool = False,
) -> tuple[str, list[str]]:
    """Remove special tokens at the ends of a text that encoding adds anyway.

    Returns (the text, the distinct removed tokens).

    Args:
        text: A document, or a text to be classified.
        tokenizer: The model's tokenizer.
        begins: Remove them at the start of the text.
        ends: Remove them at the end of the text.
        eos: Also remove the end-of-sequence token, because the caller appends it.
    """
    before, after = frame_tokens(tokenizer)
    if eos and tokenizer.eos_token is not None:
        after = [*after, str(tokenizer.eos_token)]
    return stripped(text, before if begins else [], after if ends else [])


def strip_added_tokens_of_pair(
    example: LabelledText, tokenizer: PreTrainedTokenizerBase
) -> tuple[LabelledText, list[str]]:
    """Remove special tokens that encoding adds anyway: at the start of a text or pair, and at its end.

    Returns (a copy of the example with the shorter texts, the distinct removed tokens).
    """
    *earlier, last = example.texts
    first, begin_tokens = strip_added_tokens(earlier[0], tokenizer, ends=False) if earlier else ("", [])
    last, end_tokens = strip_added_tokens(last, tokenizer, begins=not earlier)
    texts = (first, *earlier[1:], last) if earlier else (last,)
    return replace(example, texts=texts), list(dict.fromkeys([*begin_tokens, *end_tokens]))
