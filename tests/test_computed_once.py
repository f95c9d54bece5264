"""What is computed from files is computed once a command, and again where a file has changed."""

import os

from workbench.cli import PACKAGE
from workbench.config.model import ModelConfig
from workbench.files import file_fingerprint
from workbench.models.loading import load_tokenizer
from workbench.models.tokenizers.load_tokenizer import take_template
from workbench.reading_once import computed_once, reading_once


def counted(path, calls):
    return computed_once("text", path, [path], lambda: calls.append(1) or path.read_text())


def test_a_file_is_read_again_only_where_it_was_written_to_or_replaced(tmp_path):
    path, calls = tmp_path / "a.txt", []
    path.write_text("one")
    with reading_once():
        assert counted(path, calls) == counted(path, calls) == "one" and len(calls) == 1
        path.write_text("other")
        assert counted(path, calls) == "other" and len(calls) == 2
        new = tmp_path / "b.txt"
        new.write_text("third")
        os.replace(new, path)
        assert counted(path, calls) == "third" and len(calls) == 3
    assert counted(path, calls) == "third" and len(calls) == 4, "nothing is kept outside"


def test_the_fingerprint_of_a_folder_is_kept_when_it_is_renamed_and_its_files_are_as_they_were(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"weights")
    state = weights.stat()
    with reading_once():
        before = file_fingerprint(folder)
        with weights.open("r+b") as file:  # in a way that nothing tells of, so that a second reading shows
            file.write(b"others!")
        os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
        folder = folder.rename(tmp_path / "merged")
        assert file_fingerprint(folder) == before
        (folder / "more.json").write_text("{}")
        assert file_fingerprint(folder) != before


def test_two_files_of_the_same_state_below_other_names_have_fingerprints_of_their_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x.json").write_text("1")
    os.link(tmp_path / "a" / "x.json", tmp_path / "b" / "y.json")
    with reading_once():
        assert file_fingerprint(tmp_path / "a") != file_fingerprint(tmp_path / "b")


def test_a_tokenizer_that_was_read_once_takes_chat_templates_of_its_own():
    model = ModelConfig(path=str(PACKAGE / "toy" / "base"))
    with reading_once():
        first, second = load_tokenizer(model), load_tokenizer(model)
        take_template(first, "{{ messages }}")
        assert (first.chat_template, second.chat_template) == ("{{ messages }}", None)
        assert first.backend_tokenizer is second.backend_tokenizer
        assert load_tokenizer(model).chat_template is None
