"""Begin and end tokens that rows bring along, where the template or the tokenizer writes them anyway."""

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from workbench.data.chat.render_turns import Renderer
from workbench.data.classification import LabelledText
from workbench.data.conversations import Conversation
from workbench.data.tokens.control_tokens import skeleton_of, stripped, with_text, written_once
from workbench.data.tokens.segments import special_frame
from workbench.errors import DataError


def without_doubled(conversation: Conversation, render: Renderer) -> Conversation:
    """The conversation without the begin and end tokens that would stand twice, with a note for each.

    Raises:
        DataError: An answer is nothing but such tokens.
    """
    control = render.marks
    if not any(control.begins_or_ends(turn.text) for turn in conversation.turns):
        return conversation
    skeleton = skeleton_text(conversation, render)
    around = control.surroundings(skeleton, len(conversation.turns)) if skeleton else []
    notes: list[str] = []
    turns = list(conversation.turns)
    for number, (begins, ends) in enumerate(around):
        text, taken = stripped(turns[number].text, begins, ends)
        if taken and turns[number].trained and not text.strip() and "tool_calls" not in turns[number].extra:
            raise DataError(
                f"{conversation.where}: the answer in turn {number + 1} is nothing but {', '.join(taken)}"
            )
        if taken:
            turns[number] = with_text(turns[number], text, taken)
            notes += map(written_once, taken)
    return replace(
        conversation, turns=tuple(turns), notes=tuple(dict.fromkeys([*conversation.notes, *notes]))
    )


def skeleton_text(conversation: Conversation, render: Renderer) -> str | None:
    """The training row with a sentinel for each turn's text; None: the template refuses that."""
    text = render.writes(skeleton_of(conversation))
    if text is None:
        return None
    if conversation.turns[-1].role == "assistant":
        text = "".join(render.answer_and_rest(text, is_last=True))
    return render.prefix_text() + text


def frame_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], list[str]]:
    """The texts of the tokens that the tokenizer puts before and behind a text."""
    before, behind = special_frame(tokenizer)
    return list(tokenizer.convert_ids_to_tokens(before)), list(tokenizer.convert_ids_to_tokens(behind))


def once(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    begins: bool = True,
    ends: bool = True,
    eos: bool = False,
) -> tuple[str, list[str]]:
    """A text without the tokens that its encoding puts around it anyway, and these tokens.

    Args:
        text: A document, or a text to be classified.
        tokenizer: The model's.
        begins: Take them from the beginning of the text.
        ends: Take them from its end.
        eos: An end-of-sequence token is written behind the text, also where the tokenizer does not do so.
    """
    before, behind = frame_tokens(tokenizer)
    if eos and tokenizer.eos_token is not None:
        behind = [*behind, str(tokenizer.eos_token)]
    return stripped(text, before if begins else [], behind if ends else [])


def labelled_once(
    example: LabelledText, tokenizer: PreTrainedTokenizerBase
) -> tuple[LabelledText, list[str]]:
    """A text to be classified without the tokens that the tokenizer puts around it, and these tokens."""
    *earlier, last = example.texts
    first, begins = once(earlier[0], tokenizer, ends=False) if earlier else ("", [])
    last, ends = once(last, tokenizer, begins=not earlier)
    texts = (first, *earlier[1:], last) if earlier else (last,)
    return replace(example, texts=texts), list(dict.fromkeys([*begins, *ends]))
