"""Tokenizer files: what is written is read again, and what is broken is refused by name."""

import json

import pytest

from rwkv_np.text import tokenizer
from rwkv_np.text.tokenizer import BPE, Bytes, Characters, World

SAMPLE = "The past fades; the decay rate says how fast. Der Zerfall läßt sie verblassen. 過去は薄れる。\n"
SMALL_WORLD = World([*(bytes([byte]) for byte in range(256)), b"ab", b"abc", b"abcdef", b"bcd", b"\xff\xfe"])
TRAINED = BPE.train(SAMPLE * 3, 300)


@pytest.fixture(scope="module")
def world_file(data_dir):
    return data_dir / "rwkv_vocab_v20230424.txt"


@pytest.fixture(scope="module")
def world(world_file):
    return tokenizer.load(world_file)


@pytest.fixture(scope="module")
def pile(data_dir):
    return tokenizer.load(data_dir / "20B_tokenizer.json")


@pytest.mark.parametrize("kind", [Bytes(), Characters(SAMPLE), SMALL_WORLD, TRAINED],
                         ids=["bytes", "characters", "world", "bpe"])
def test_json_holds_the_whole_tokenizer(kind, tmp_path):
    (tmp_path / "tokenizer.json").write_text(kind.to_json(), encoding="utf-8")
    for again in tokenizer.from_json(kind.to_json()), tokenizer.load(tmp_path / "tokenizer.json"):
        assert type(again) is type(kind)
        assert again.vocab_size == kind.vocab_size
        assert again.encode(SAMPLE) == kind.encode(SAMPLE)
        for token in range(kind.vocab_size):
            assert again.decode_bytes([token]) == kind.decode_bytes([token])


def test_load_recognises_files(data_dir, world_file, world, pile):
    assert type(world) is World and type(pile) is BPE
    assert World.from_file(world_file).encode(SAMPLE) == world.encode(SAMPLE)
    assert BPE.from_file(data_dir / "20B_tokenizer.json").encode(SAMPLE) == pile.encode(SAMPLE)
    assert tokenizer.from_json(world.to_json()).encode(SAMPLE) == world.encode(SAMPLE)


@pytest.mark.parametrize("setting", [
    {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
    {"padding": {"strategy": {"Fixed": 500}, "direction": "Right", "pad_to_multiple_of": None,
                 "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}},
    {"post_processor": {"type": "TemplateProcessing", "pair": [],
                        "single": [{"SpecialToken": {"id": "!", "type_id": 0}},
                                   {"Sequence": {"id": "A", "type_id": 0}}],
                        "special_tokens": {"!": {"id": "!", "ids": [0], "tokens": ["!"]}}}},
], ids=["truncation", "padding", "added tokens"])
def test_a_file_that_would_cut_or_add_tokens_does_not(setting):
    content = json.loads(TRAINED.to_json()) | setting
    assert BPE(json.dumps(content)).encode(SAMPLE) == TRAINED.encode(SAMPLE)


WORLD_LINES = [f"{byte + 1} {chr(byte)!r} 1" if byte < 128 else f"{byte + 1} {bytes([byte])!r} 1"
               for byte in range(256)]


def test_a_small_world_file_with_either_line_ending_loads(tmp_path):
    for name, ending in ("unix", "\n"), ("dos", "\r\n"):
        (tmp_path / name).write_bytes(ending.join([*WORLD_LINES, "257 'né' 3", ""]).encode())
        assert tokenizer.load(tmp_path / name).encode("né") == [257]


@pytest.mark.parametrize(("line", "found"), [
    ("257 'ab' 3", "line 257 is \"257 'ab' 3\""),                    # wrong length
    ("257 'é' 1", "has 2 bytes"),                                    # counted in characters, not bytes
    ("258 'ab' 2", "line 257"),                                      # wrong number
    ("257 'ab'", "line 257"),
    ("", "line 257"),
    ("257 'ab 2", "line 257"),                                       # open quote
    ("257 12 2", "must be str or bytes"),
    ("257 str('ab') 2", "line 257"),                                 # nothing is executed
    ("257 " + "(" * 5000 + " 2", "line 257"),
    ("257 " + "-" * 50_000 + "1 2", "line 257"),
    ("257 'a' 1", "entry 257 is b'a', as is 98"),                    # twice
    ("257 '' 0", "entry 257 is b'', as is 0"),
])
def test_a_malformed_world_file_is_refused_by_name_and_line(tmp_path, line, found):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORLD_LINES, line, "258 'zz' 2", ""]), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        tokenizer.load(tmp_path / "vocab.txt")
    assert found in str(error.value)
    assert "vocab.txt" in str(error.value)


def test_a_world_file_without_every_byte_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORLD_LINES[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab.txt: no entry is the byte b'\\xff'"):
        tokenizer.load(tmp_path / "vocab.txt")


@pytest.mark.parametrize("text", [
    "{", "{}", '{"kind": "words"}', '{"kind": "characters"}', '{"kind": "characters", "characters": ""}',
    '{"kind": "world", "entries": [1]}', '{"kind": "world", "entries": ["a", "\u4e00"]}', '{"model": {}}',
    '{"a":' * 100_000, "", "no tokenizer", '{"0": "ab"}', '{"0": "a", "2": "b"}', '{"0": "a", "1": "a"}', '{"a": 0}',
    '{"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}', '["a"]',
])
def test_any_other_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "some.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="some.json"):
        tokenizer.load(tmp_path / "some.json")


def test_a_bpe_that_is_not_bytewise_is_refused():
    content = json.loads(TRAINED.to_json())
    content["model"] |= {"vocab": {"a": 0, "\u2581b": 1}, "merges": []}
    with pytest.raises(ValueError, match="'\u2581' stands for no byte"):
        BPE(json.dumps(content))
    content |= {"pre_tokenizer": None, "decoder": None}
    with pytest.raises(ValueError, match="they must be BPE and ByteLevel|stands for no byte"):
        BPE(json.dumps(content))


def test_an_id_that_a_vocabulary_leaves_out_spells_nothing():
    content = json.loads(TRAINED.to_json())
    content["model"] |= {"vocab": {"a": 0, "b": 2}, "merges": []}
    kind = BPE(json.dumps(content))
    assert (kind.vocab_size, kind.spells(4).tolist()) == (3, [True, False, True, False])
    assert (kind.encode("ba"), kind.decode([2, 1, 0])) == ([2, 0], "b\ufffda")
    content["model"]["vocab"]["c"] = 2**31
    with pytest.raises(ValueError, match="largest id is 2147483648 but must be from 0 to 65583, as it has 3 tokens"):
        BPE(json.dumps(content))


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match="binary: it is not UTF-8 text: byte 0 is 0x80"):
        tokenizer.load(tmp_path / "binary")
