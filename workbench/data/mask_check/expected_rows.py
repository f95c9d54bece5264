"""Builds the tokens and labels that training rows should have, from rendered texts and the tokenizer alone.

Nothing here uses the segments of which training rows are built, so that faults in building them are found.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.config.data import DataConfig, Truncation
from workbench.config.names import IGNORED
from workbench.data.chat.prepare_chat import Chats
from workbench.data.conversations import Conversation, Turn
from workbench.data.mask_check.findings import Finding, Kind
from workbench.data.tokens.control_tokens import SENTINEL, skeleton_of
from workbench.data.tokens.segments import Tokens, ids_of, special_frame

Spans = list[tuple[str, bool]]
"""Text of a row as (span of text, whether it carries loss), in order."""


class RowTokens:
    """Builds the ids and labels that a row should have, and compares them with the training row."""

    def __init__(self, chats: Chats) -> None:
        """Look up the ids of the tokenizer's begin and end tokens."""
        self.encoder, self.tokenizer = chats.encoder, chats.renderer.tokenizer
        self.prefix = [] if chats.renderer.is_own else special_frame(self.tokenizer)[0]
        vocabulary = self.tokenizer.get_vocab()
        bos = vocabulary.get(str(self.tokenizer.bos_token))
        self.begin_ids = {*special_frame(self.tokenizer)[0], *([] if bos is None else [bos])}
        self.end_ids = {vocabulary.get(token) for token in chats.renderer.control.tokens}

    def ids(self, text: str) -> list[int]:
        """Encode a rendered text with its begin tokens, as for generation."""
        return [*self.prefix, *(next(ids_of([text], self.encoder)) if text else [])]

    def row(self, spans: Spans) -> Tokens:
        """Return the ids and labels that a row with these spans should have, with its begin tokens.

        No token crosses the boundary of two spans.
        """
        row, text = Tokens(list(self.prefix), [IGNORED] * len(self.prefix)), ""
        for span, trained in spans:
            ids = self.ids_after(text, span)
            row.input_ids.extend(ids)
            row.labels.extend(ids if trained else [IGNORED] * len(ids))
            text += span
        return row

    def ids_after(self, text: str, span: str) -> list[int]:
        """Return the ids of `span` as the continuation of `text`."""
        for context in (text, "\n"):
            before, both = self.ids(context), self.ids(context + span)
            if both[: len(before)] == before:
                return both[len(before) :]
        return self.ids(span)[len(self.prefix) :]

    def shortened(self, row: Tokens, data: DataConfig) -> Tokens:
        """Cut a row that is longer than `data.max_length`, at the side that `data.truncation` names.

        `cut-start` keeps the begin tokens, and masks the rest of an answer without its start.
        """
        excess = len(row.input_ids) - data.max_length
        if data.truncation is Truncation["cut-end"]:
            return Tokens(row.input_ids[:-excess], row.labels[:-excess])
        first = row.input_ids[:1] if set(row.input_ids[:1]) & self.begin_ids else []
        num_prefix = len(special_frame(self.tokenizer)[0]) or len(first)
        num_prefix = num_prefix if set(row.input_ids[:num_prefix]) <= self.begin_ids else 0
        ids, labels = row.input_ids[num_prefix + excess :], row.labels[num_prefix + excess :]
        if row.labels[num_prefix + excess - 1] != IGNORED:  # mask the rest of an answer without its start
            num_rest = next((i for i, label in enumerate(labels) if label == IGNORED), len(labels))
            labels = [IGNORED] * num_rest + labels[num_rest:]
        return Tokens(row.input_ids[:num_prefix] + ids, row.labels[:num_prefix] + labels)

    def compare(self, expected: Tokens, row: Tokens, where: str) -> Finding | None:
        """Return the first difference between a training row and the expected row, or a doubled token.

        None: the training row is right. `where` is the file and line of the row.
        """
        if expected.input_ids != row.input_ids and not self.is_equivalent(expected, row):
            index = first_difference(expected.input_ids, row.input_ids)
            kind = Kind.other_token
            if index == len(row.input_ids):
                return self.finding(where, Kind.too_short, expected.input_ids, index)
            if index == len(expected.input_ids):
                kind = Kind.too_long
            return self.duplicate(row, where) or self.finding(where, kind, row.input_ids, index)
        if expected.input_ids == row.input_ids and expected.labels != row.labels:
            index = first_difference(expected.labels, row.labels)
            kind = Kind.prompt_trained
            if row.labels[index] == IGNORED:
                last = expected.labels[index + 1 :][:1] in ([], [IGNORED])
                kind = Kind.end_untrained if last else Kind.untrained
            return self.finding(where, kind, row.input_ids, index)
        return self.duplicate(row, where)

    def is_equivalent(self, expected: Tokens, row: Tokens) -> bool:
        """Return whether two rows have the same ids up to the first answer, then the same text and mask."""
        first = next((i for i, label in enumerate(expected.labels) if label != IGNORED), len(expected.labels))
        return expected.input_ids[:first] == row.input_ids[:first] and self.runs(expected) == self.runs(row)

    def runs(self, row: Tokens) -> Spans:
        """Decode a row into (text, whether it carries loss) for each run of tokens with or without loss."""
        runs: list[tuple[list[int], bool]] = []
        for token, label in zip(row.input_ids, row.labels, strict=True):
            if not runs or runs[-1][1] is not (label != IGNORED):
                runs.append(([], label != IGNORED))
            runs[-1][0].append(token)
        return [(str(self.tokenizer.decode(ids)), trained) for ids, trained in runs]

    def duplicate(self, row: Tokens, where: str) -> Finding | None:
        """Return a finding if the begin token is doubled at the start, or the end token after an answer.

        None: no token is doubled.
        """
        ids, labels = row.input_ids, row.labels
        if len(ids) > 1 and ids[0] == ids[1] and ids[0] in self.begin_ids:
            return self.finding(where, Kind.doubled_begin, ids, 1)
        for index in range(1, len(ids)):
            ends_answer = labels[index] != IGNORED and labels[index + 1 :][:1] in ([], [IGNORED])
            if ends_answer and ids[index] == ids[index - 1] and ids[index] in self.end_ids:
                return self.finding(where, Kind.doubled_end, ids, index)
        return None

    def finding(self, where: str, kind: Kind, ids: Sequence[int], index: int) -> Finding:
        """Build a finding at the token of `ids` with this index, or at the last if the index is beyond."""
        index = min(index, len(ids) - 1)
        return Finding(where, kind, index, str(self.tokenizer.decode([ids[index]])), ids[index])


@dataclass
class RowText:
    """Prompts and answers that one training row should have, as rendered for generation.

    `spans` records faults of the template in `findings`.
    """

    chats: Chats
    conversation: Conversation
    tokens: RowTokens

    def __post_init__(self) -> None:
        """Render the full conversation; raise a DataError if the template refuses it."""
        self.findings: list[Finding] = []
        self.messages = self.chats.renderer.messages(self.conversation)
        self.full_text = self.render_first(len(self.messages))
        self.offset = len(self.messages) - len(self.conversation.turns)

    @property
    def is_wrong(self) -> bool:
        """Whether a fault was found that would spoil training."""
        return any(finding.kind.is_refused for finding in self.findings)

    def render_first(self, number: int, *, prompt: bool = False) -> str:
        """Render the first `number` messages; with `prompt`, add the header of the next answer."""
        if prompt and not number:
            return ""
        return self.chats.renderer.render(self.messages[:number], self.conversation, prompt=prompt)

    def spans(self) -> Spans:
        """Return the spans of the row's text with and without loss, and record faults in `findings`.

        After a fault that would spoil training, the spans are incomplete.
        """
        turns = self.conversation.turns
        spans: Spans = []
        done = 0
        for index, turn in enumerate(turns):
            if turn.trained and not self.is_wrong:
                prompt, answer = self.prompt_and_answer(index)
                thought = self.thought_before(answer, turn)
                spans += [(self.full_text[done : len(prompt)], False), (thought, False)]
                spans.append((answer.removeprefix(thought), True))
                done = len(prompt) + len(answer)
        if not turns[-1].trained:
            spans.append((self.ended(self.full_text)[0][done:], False))
        self.check_prompts()
        return [span for span in spans if span[0]]

    def prompt_and_answer(self, index: int) -> tuple[str, str]:
        """Return (prompt for generating turn `index`, text that the model must generate); record faults."""
        number = index + self.offset
        prompt, after = self.render_first(number, prompt=True), self.render_first(number + 1)
        bare = after.rstrip().removesuffix(str(self.tokens.tokenizer.eos_token))
        if not self.full_text.startswith(after.rstrip()) and self.full_text.startswith(bare):
            after = bare  # the template writes an end of document after the last turn only
        text, has_end = self.ended(after)
        for longer in (after, self.full_text):
            if not longer.startswith(prompt):
                self.record(Kind.prompt_parts, prompt, longer)
        if not self.full_text.startswith(after.rstrip()):
            self.record(Kind.rewritten, after.rstrip(), self.full_text)
        elif not has_end and index < len(self.conversation.turns) - 1:
            self.record(Kind.no_end, after)
        elif not has_end and not after.rstrip().endswith(self.chats.renderer.marks.tokens):
            self.record(Kind.end_added, text)
        if not self.is_wrong:
            self.check_answer(prompt, text[len(prompt) :], index)
        return prompt, text[len(prompt) :]

    def thought_before(self, answer: str, turn: Turn) -> str:
        """Return the thought at the start of a rendered answer if it carries no loss (`data.thoughts=mask`).

        It ends where the turn's text begins after `</think>`, or else with the turn's reasoning field. The
        result is "" without a thought, and with other values of `data.thoughts`.
        """
        if not self.chats.renderer.masks_thoughts:
            return ""
        text, tag = turn.text.rstrip(), answer.find("</think>")
        if text.lstrip().startswith("<think>") or "\n</think>\n" in text:
            text = re.sub(r"\A(\s*\n|[ \t]+)", "", text.partition("</think>")[2])
        if tag >= 0 and (start := answer.find(text, tag)) >= 0:
            return answer[:start] if text else answer.removesuffix(answer[tag + len("</think>") :].lstrip())
        fields = (str(turn.extra.get(name, "")) for name in ("reasoning_content", "thinking", "reasoning"))
        reasoning = next((field.strip() for field in fields if field.strip()), answer)
        return answer[: answer.find(reasoning) + len(reasoning)] if reasoning in answer[:-1] else ""

    def check_answer(self, prompt: str, answer: str, index: int) -> None:
        """Record a fault if a rendered answer lacks the turn's text, or begins with the header of an answer.

        The header, such as `assistant:`, belongs to the prompt. Faults of the end are those of `check_end`.
        """
        turn = self.conversation.turns[index]
        start = answer.find(turn.text)
        if start < 0:
            if turn.text.strip() in answer or unspaced(turn.text) not in unspaced(answer):
                self.record(Kind.trimmed, prompt + answer, prompt + turn.text)
            return
        header = "" if turn.extra else answer[:start]
        no_prompt = prompt == self.render_first(index + self.offset) and header.strip() != ""
        is_control_header = header.rstrip().endswith(self.chats.renderer.control.tokens)
        is_written_out = re.match(r"\s*[\w#]", header) is not None and not is_control_header
        if no_prompt or is_written_out or ("\n" in header and not header.strip()):
            self.record(Kind.header, prompt + answer, prompt + answer[len(header) :])
        self.check_end(prompt + answer, answer[start + len(turn.text) :])

    def check_end(self, text: str, tail: str) -> None:
        """Record an end of turn that isn't the end-of-sequence token, or that is encoded as plain text.

        Args:
            text: The rendered text up to the end of the answer.
            tail: The part of `text` after the text of the turn.
        """
        control = self.chats.renderer.control
        end_tokens, recorded = control.within([tail]), {finding.kind for finding in self.findings}
        eos_token = str(self.tokens.tokenizer.eos_token)
        if end_tokens and eos_token not in end_tokens and Kind.other_end not in recorded:
            self.record(Kind.other_end, text)
        marks = [mark for mark in self.chats.renderer.marks.within([tail]) if mark not in control.tokens]
        if marks and Kind.end_as_text not in recorded:
            self.record(Kind.end_as_text, text, text.replace(marks[0], ""))

    def check_prompts(self) -> None:
        """Record a turn whose text the tokenizer's template leaves out, or a system turn that it merges.

        A template may leave out the thought of an answer.
        """
        if not self.chats.renderer.is_own or self.is_wrong:
            return
        turns, row_text = self.conversation.turns, unspaced(self.full_text)
        for turn in turns:
            text = turn.text if turn.role != "assistant" else turn.text.rpartition("</think>")[2]
            if turn.role in ("system", "user", "assistant") and unspaced(text) not in row_text:
                return self.record(Kind.turn_lost, self.full_text, turn.text)
        parts = (self.chats.renderer.writes(skeleton_of(self.conversation)) or "").split(SENTINEL)
        has_system = turns[0].role == "system" and turns[0].text.strip()
        if has_system and len(parts) == len(turns) + 1 and not parts[1].strip():
            self.record(Kind.system_merged, self.full_text, parts[0] + turns[0].text)

    def ended(self, text: str) -> tuple[str, bool]:
        """Cut the white space after the end of turn of a text, or append the end-of-sequence token.

        Returns (the text, whether it had an end of turn).
        """
        bare = text.rstrip()
        if bare.endswith(self.chats.renderer.control.tokens):
            return bare, True
        return text + str(self.tokens.tokenizer.eos_token), False

    def record(self, kind: Kind, text: str, other: str | None = None) -> None:
        """Add a finding at the first token of `text` that differs from the tokens of `other`.

        Without `other`, the finding is at the last token of `text`.
        """
        ids = self.tokens.ids(text)
        index = len(ids) - 1 if other is None else first_difference(ids, self.tokens.ids(other))
        self.findings.append(self.tokens.finding(self.conversation.where, kind, ids, index))


def unspaced(text: str) -> str:
    """Return a text without any white space."""
    return re.sub(r"\s", "", text)


def first_difference(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return the first index at which two lists differ; the shorter length if one begins with the other."""
    shorter = min(len(ids), len(others))
    return next((i for i in range(shorter) if ids[i] != others[i]), shorter)
