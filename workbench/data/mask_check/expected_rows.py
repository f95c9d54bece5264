"""A training row as it has to be, from the renderer's texts and the tokenizer alone.

Nothing here is taken from the segments that training rows are built of, so that a fault in building them
shows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.config.data import DataConfig, Truncation
from workbench.data.chat.prepare_chat import Chats
from workbench.data.conversations import Conversation
from workbench.data.mask_check.findings import Finding, Kind
from workbench.data.tokens.control_tokens import SENTINEL, skeleton_of
from workbench.data.tokens.segments import Tokens, ids_of, special_frame
from workbench.labels import IGNORED

Pieces = list[tuple[str, bool]]
"""The text of a row, in pieces that carry loss or don't."""


class RowTokens:
    """Text as tokens, and what differs between two rows of them."""

    def __init__(self, chats: Chats) -> None:
        """Take tokenizer and template of the conversations."""
        self.encoder, self.tokenizer = chats.encoder, chats.renderer.tokenizer
        self.prefix = [] if chats.renderer.is_own else special_frame(self.tokenizer)[0]
        vocabulary = self.tokenizer.get_vocab()
        bos = vocabulary.get(str(self.tokenizer.bos_token))
        self.begins = {*special_frame(self.tokenizer)[0], *([] if bos is None else [bos])}
        self.ends = {vocabulary.get(token) for token in chats.renderer.control.tokens}

    def ids(self, text: str) -> list[int]:
        """The ids of a rendered text, as generation takes it."""
        return [*self.prefix, *(next(ids_of([text], self.encoder)) if text else [])]

    def row(self, pieces: Pieces) -> Tokens:
        """The row that a text has to become: no token reaches over the beginning of an answer."""
        row, text = Tokens(list(self.prefix), [IGNORED] * len(self.prefix)), ""
        for piece, trained in pieces:
            ids = self.ids_behind(text, piece)
            row.input_ids.extend(ids)
            row.labels.extend(ids if trained else [IGNORED] * len(ids))
            text += piece
        return row

    def ids_behind(self, text: str, piece: str) -> list[int]:
        """The ids of a text that stands behind another one."""
        for context in (text, "\n"):
            before, both = self.ids(context), self.ids(context + piece)
            if both[: len(before)] == before:
                return both[len(before) :]
        return self.ids(piece)[len(self.prefix) :]

    def shortened(self, row: Tokens, data: DataConfig) -> Tokens:
        """The row within `data.max_length`, by the rules of `data.truncation`."""
        excess = len(row.input_ids) - data.max_length
        if data.truncation is Truncation["cut-end"]:
            return Tokens(row.input_ids[:-excess], row.labels[:-excess])
        first = row.input_ids[:1] if set(row.input_ids[:1]) & self.begins else []
        begin = len(special_frame(self.tokenizer)[0]) or len(first)
        begin = begin if set(row.input_ids[:begin]) <= self.begins else 0
        ids, labels = row.input_ids[begin + excess :], row.labels[begin + excess :]
        if row.labels[begin + excess - 1] != IGNORED:  # the rest of an answer whose beginning is cut away
            rest = next((i for i, label in enumerate(labels) if label == IGNORED), len(labels))
            labels = [IGNORED] * rest + labels[rest:]
        return Tokens(row.input_ids[:begin] + ids, row.labels[:begin] + labels)

    def compare(self, wanted: Tokens, row: Tokens, where: str) -> Finding | None:
        """Where a row is other than it has to be."""
        if wanted.input_ids != row.input_ids and not self.says_the_same(wanted, row):
            place = first_difference(wanted.input_ids, row.input_ids)
            kind = Kind.other_token
            if place == len(row.input_ids):
                return self.finding(where, Kind.too_short, wanted.input_ids, place)
            if place == len(wanted.input_ids):
                kind = Kind.too_long
            return self.doubled(row, where) or self.finding(where, kind, row.input_ids, place)
        if wanted.input_ids == row.input_ids and wanted.labels != row.labels:
            place = first_difference(wanted.labels, row.labels)
            kind = Kind.prompt_trained
            if row.labels[place] == IGNORED:
                last = wanted.labels[place + 1 :][:1] in ([], [IGNORED])
                kind = Kind.end_untrained if last else Kind.untrained
            return self.finding(where, kind, row.input_ids, place)
        return self.doubled(row, where)

    def says_the_same(self, wanted: Tokens, row: Tokens) -> bool:
        """Whether two rows differ in nothing but how a text behind the first prompt falls into tokens."""
        first = next((i for i, label in enumerate(wanted.labels) if label != IGNORED), len(wanted.labels))
        return wanted.input_ids[:first] == row.input_ids[:first] and self.runs(wanted) == self.runs(row)

    def runs(self, row: Tokens) -> Pieces:
        """The row's text in runs that carry loss or don't."""
        runs: list[tuple[list[int], bool]] = []
        for token, label in zip(row.input_ids, row.labels, strict=True):
            if not runs or runs[-1][1] is not (label != IGNORED):
                runs.append(([], label != IGNORED))
            runs[-1][0].append(token)
        return [(str(self.tokenizer.decode(ids)), trained) for ids, trained in runs]

    def doubled(self, row: Tokens, where: str) -> Finding | None:
        """A begin token that stands twice at the beginning, or an end token twice at the end of an answer."""
        ids, labels = row.input_ids, row.labels
        if len(ids) > 1 and ids[0] == ids[1] and ids[0] in self.begins:
            return self.finding(where, Kind.doubled_begin, ids, 1)
        for place in range(1, len(ids)):
            ends = labels[place] != IGNORED and labels[place + 1 :][:1] in ([], [IGNORED])
            if ends and ids[place] == ids[place - 1] and ids[place] in self.ends:
                return self.finding(where, Kind.doubled_end, ids, place)
        return None

    def finding(self, where: str, kind: Kind, ids: Sequence[int], place: int) -> Finding:
        """A finding at a token."""
        place = min(place, len(ids) - 1)
        return Finding(where, kind, place, str(self.tokenizer.decode([ids[place]])), ids[place])


@dataclass
class RowText:
    """The text of one training row: its prompts and answers as the renderer writes them."""

    chats: Chats
    conversation: Conversation
    tokens: RowTokens

    def __post_init__(self) -> None:
        """Render the whole conversation."""
        self.findings: list[Finding] = []
        self.messages = self.chats.renderer.messages(self.conversation)
        self.whole = self.rendered(len(self.messages))
        self.offset = len(self.messages) - len(self.conversation.turns)

    @property
    def is_wrong(self) -> bool:
        """Whether anything was found for which a row is refused."""
        return any(finding.kind.is_refused for finding in self.findings)

    def rendered(self, number: int, *, prompt: bool = False) -> str:
        """The first so many messages as text."""
        if prompt and not number:
            return ""
        return self.chats.renderer.render(self.messages[:number], self.conversation, prompt=prompt)

    def pieces(self) -> Pieces:
        """The row in pieces; what is wrong with its text is in `findings`."""
        turns = self.conversation.turns
        pieces: Pieces = []
        done = 0
        for index, turn in enumerate(turns):
            if turn.trained and not self.is_wrong:
                prompt, answer = self.prompt_and_answer(index)
                pieces += [(self.whole[done : len(prompt)], False), (answer, True)]
                done = len(prompt) + len(answer)
        if not turns[-1].trained:
            pieces.append((self.ended(self.whole)[0][done:], False))
        self.look_at_questions()
        return [piece for piece in pieces if piece[0]]

    def prompt_and_answer(self, index: int) -> tuple[str, str]:
        """The prompt that is rendered for generation at a turn, and what has to be produced behind it."""
        number = index + self.offset
        prompt, after = self.rendered(number, prompt=True), self.rendered(number + 1)
        bare = after.rstrip().removesuffix(str(self.tokens.tokenizer.eos_token))
        if not self.whole.startswith(after.rstrip()) and self.whole.startswith(bare):
            after = bare  # the end of a document, which the template writes behind the last turn alone
        text, has_end = self.ended(after)
        for longer in (after, self.whole):
            if not longer.startswith(prompt):
                self.find(Kind.prompt_parts, prompt, longer)
        if not self.whole.startswith(after.rstrip()):
            self.find(Kind.rewritten, after.rstrip(), self.whole)
        elif not has_end and index < len(self.conversation.turns) - 1:
            self.find(Kind.no_end, after)
        elif not has_end and not after.rstrip().endswith(self.chats.renderer.marks.tokens):
            self.find(Kind.end_added, text)
        if not self.is_wrong:
            self.look_at_answer(prompt, text[len(prompt) :], index)
        return prompt, text[len(prompt) :]

    def look_at_answer(self, prompt: str, answer: str, index: int) -> None:
        """See to it that the answer is the row's own, and that its header stands in the prompt."""
        turn = self.conversation.turns[index]
        start = answer.find(turn.text)
        if start < 0:
            if turn.text.strip() in answer or unspaced(turn.text) not in unspaced(answer):
                self.find(Kind.trimmed, prompt + answer, prompt + turn.text)
            return
        header = "" if turn.extra else answer[:start]
        no_prompt = prompt == self.rendered(index + self.offset) and header.strip() != ""
        whole_header = header.rstrip().endswith(self.chats.renderer.control.tokens)
        words = re.match(r"\s*[\w#]", header) is not None and not whole_header
        if no_prompt or words or ("\n" in header and not header.strip()):
            self.find(Kind.header, prompt + answer, prompt + answer[len(header) :])
        self.look_at_end(prompt + answer, answer[start + len(turn.text) :])

    def look_at_end(self, text: str, tail: str) -> None:
        """Take down an end of turn that generation has to be told of."""
        control = self.chats.renderer.control
        ends, known = control.within([tail]), {finding.kind for finding in self.findings}
        if ends and str(self.tokens.tokenizer.eos_token) not in ends and Kind.other_end not in known:
            self.find(Kind.other_end, text)
        marks = [mark for mark in self.chats.renderer.marks.within([tail]) if mark not in control.tokens]
        if marks and Kind.end_as_text not in known:
            self.find(Kind.end_as_text, text, text.replace(marks[0], ""))

    def look_at_questions(self) -> None:
        """Take down where the tokenizer's template leaves a turn out, or has no system turn of its own."""
        if not self.chats.renderer.is_own or self.is_wrong:
            return
        turns, whole = self.conversation.turns, unspaced(self.whole)
        for turn in turns:
            if turn.role in ("system", "user") and unspaced(turn.text) not in whole:
                return self.find(Kind.turn_lost, self.whole, turn.text)
        parts = (self.chats.renderer.writes(skeleton_of(self.conversation)) or "").split(SENTINEL)
        has_system = turns[0].role == "system" and turns[0].text.strip()
        if has_system and len(parts) == len(turns) + 1 and not parts[1].strip():
            self.find(Kind.system_merged, self.whole, parts[0] + turns[0].text)

    def ended(self, text: str) -> tuple[str, bool]:
        """A text that ends with an answer, up to its end of turn, and whether the template writes one."""
        bare = text.rstrip()
        if bare.endswith(self.chats.renderer.control.tokens):
            return bare, True
        return text + str(self.tokens.tokenizer.eos_token), False

    def find(self, kind: Kind, text: str, other: str | None = None) -> None:
        """Take down something, at the first token in which a text differs from another one or at its last."""
        ids = self.tokens.ids(text)
        place = len(ids) - 1 if other is None else first_difference(ids, self.tokens.ids(other))
        self.findings.append(self.tokens.finding(self.conversation.where, kind, ids, place))


def unspaced(text: str) -> str:
    """A text without its white space."""
    return re.sub(r"\s", "", text)


def first_difference(ids: Sequence[int], others: Sequence[int]) -> int:
    """The first place at which two lists differ: at the latest where the shorter one ends."""
    shorter = min(len(ids), len(others))
    return next((i for i in range(shorter) if ids[i] != others[i]), shorter)
