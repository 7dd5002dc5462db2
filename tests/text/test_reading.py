"""Text files as people have them: marks, encodings, line endings."""

import pytest

from rwkv_np.text.reading import decode_text, read_text, read_with

TEXT = "one\ntwo é 世 🙂\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_encoding_with_a_mark_and_every_line_ending_give_one_text(encoding, newline, tmp_path):
    (tmp_path / "t.txt").write_bytes(TEXT.replace("\n", newline).encode(encoding))
    assert read_text(tmp_path / "t.txt") == TEXT


@pytest.mark.parametrize("mark, encoding", [(b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"),
                                            (b"\0\0\xfe\xff", "utf-32-be"), (b"\xff\xfe\0\0", "utf-32-le")])
def test_marks_of_both_byte_orders_are_read(mark, encoding):
    assert decode_text(mark + TEXT.encode(encoding)) == TEXT


def test_newlines_are_those_of_pythons_text_mode(tmp_path):
    mixed = "a\r\nb\rc\nd\r\r\ne\x85f\u2028g\x0b"
    (tmp_path / "t.txt").write_bytes(mixed.encode())
    with open(tmp_path / "t.txt", encoding="utf-8") as file:
        assert decode_text(mixed.encode()) == file.read()


@pytest.mark.parametrize("data, message", [
    (b"caf\xe9", "it is not UTF-8 text: byte 3 is 0xe9"),
    ("Windows".encode("utf-16-le"), "every other byte is 0, as in UTF-16, but there is no byte-order mark"),
    ("Windows".encode("utf-16-be"), "every other byte is 0, as in UTF-16"),
    (b"\xff\xfea\0b", "it is not UTF-16 text: byte 4 is 0x62"),
    (b"\xff", "it is not UTF-8 text: byte 0 is 0xff")])
def test_what_is_not_text_is_named_with_its_file(data, message, tmp_path):
    (tmp_path / "t.txt").write_bytes(data)
    with pytest.raises(ValueError, match=f"t.txt: .*{message}"):
        read_text(tmp_path / "t.txt")
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing.txt")


def test_zero_bytes_may_stand_in_a_text():
    assert decode_text(b"ten characters\0") == "ten characters\0"
    assert decode_text(b"") == ""


def test_an_error_of_the_parser_names_the_file(tmp_path):
    (tmp_path / "t.txt").write_text("x")
    with pytest.raises(ValueError, match="t.txt: invalid literal"):
        read_with(tmp_path / "t.txt", int)
