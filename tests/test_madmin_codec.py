from __future__ import annotations

import hashlib
import itertools
import tracemalloc

import pytest

from provisioner.issuers.madmin import codec

SECRET = "vector-secret-0123456789"  # of a server that lived for a second
SERVER_SAID = bytes.fromhex(
    "45fe1f422ca8636f7b8863b7fb46c02cebca531c86013d7e11218e4b24f5cf50000ca56fcd67ae68127027ba647d"
    "ada2a85065ab17aee1e983afdd453f9760bb3b1db6327cae7de9e316"
)
CHACHA_EMPTY = bytes.fromhex("07" * 32 + "01" + "09" * 8 + "6c26fb8fe9aeb5b7cea2138815f0fede")
CHACHA_HELLO = bytes.fromhex(
    "07" * 32 + "01" + "09" * 8 + "334a9d315da669be84fd82dec131abdc3a71ece465"
)
SIZES = [0, 1, codec.CHUNK - 1, codec.CHUNK, codec.CHUNK + 1, 2 * codec.CHUNK, 100_000]
HEADER = 41


@pytest.fixture(scope="module")
def ours() -> codec.Codec:
    return codec.Codec(SECRET)


def plain(size: int) -> bytes:
    return hashlib.shake_256(b"plain").digest(size)


def test_what_a_minio_server_said_is_read(ours: codec.Codec) -> None:
    assert ours.decrypt(SERVER_SAID) == b'{"accounts":null}'


@pytest.mark.parametrize(("body", "said"), [(CHACHA_EMPTY, b""), (CHACHA_HELLO, b"hello")])
def test_what_a_server_without_aes_says_is_read(
    ours: codec.Codec, body: bytes, said: bytes
) -> None:
    assert ours.decrypt(body) == said


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_is_read_again(ours: codec.Codec, size: int) -> None:
    body = ours.encrypt(plain(size))
    chunks = max(1, -(-size // codec.CHUNK))
    assert len(body) == HEADER + size + chunks * codec.TAG
    assert ours.decrypt(body) == plain(size)


def test_no_two_requests_share_a_nonce(ours: codec.Codec) -> None:
    bodies = [ours.encrypt(b"the same") for _ in range(50)]
    assert len({body[33:41] for body in bodies}) == 50
    assert len({body[:33] for body in bodies}) == 1
    assert len({body[41:] for body in bodies}) == 50


def test_the_counter_of_nonces_goes_round() -> None:
    ours = codec.Codec(SECRET)
    ours._next_nonce = (1 << 64) - 1
    first, second = ours.encrypt(b""), ours.encrypt(b"")
    assert (first[33:41], second[33:41]) == (b"\xff" * 8, b"\x00" * 8)


@pytest.mark.parametrize("at", [0, 31, 32, 33, 40, 41, 50, 41 + codec.CHUNK, -1])
def test_one_bit_that_was_changed_anywhere_is_noticed(ours: codec.Codec, at: int) -> None:
    body = bytearray(ours.encrypt(plain(codec.CHUNK + 10)))
    body[at] ^= 0x80
    with pytest.raises(codec.Undecodable):
        ours.decrypt(bytes(body))


@pytest.mark.parametrize(
    "length", [0, 1, 40, 41, 56, 57, 100, 41 + codec.CHUNK, 41 + codec.CHUNK + codec.TAG, -1]
)
def test_what_was_cut_short_is_noticed(ours: codec.Codec, length: int) -> None:
    body = ours.encrypt(plain(codec.CHUNK + 10))
    with pytest.raises(codec.Undecodable):
        ours.decrypt(body[:length])


def test_chunks_in_another_order_or_twice_are_noticed(ours: codec.Codec) -> None:
    body = ours.encrypt(plain(3 * codec.CHUNK))
    size = codec.CHUNK + codec.TAG
    chunks = [body[at : at + size] for at in range(HEADER, len(body), size)]
    for order in itertools.product(chunks, repeat=3):
        if list(order) == chunks:
            continue
        with pytest.raises(codec.Undecodable):
            ours.decrypt(body[:HEADER] + b"".join(order))


def test_what_follows_the_last_chunk_is_noticed(ours: codec.Codec) -> None:
    for more in (b"x", b"x" * 16, b"x" * 17, ours.encrypt(b"")[HEADER:]):
        with pytest.raises(codec.Undecodable):
            ours.decrypt(ours.encrypt(plain(codec.CHUNK)) + more)


def test_another_secret_opens_nothing(ours: codec.Codec) -> None:
    with pytest.raises(codec.Undecodable):
        codec.Codec("another").decrypt(ours.encrypt(b"{}"))
    with pytest.raises(codec.Undecodable):
        codec.Codec("another").decrypt(SERVER_SAID)


@pytest.mark.parametrize("kind", [3, 0x7F, 0xFF])
def test_a_cipher_that_nobody_knows_is_refused(ours: codec.Codec, kind: int) -> None:
    body = bytearray(ours.encrypt(b"{}"))
    body[32] = kind
    with pytest.raises(codec.Undecodable):
        ours.decrypt(bytes(body))


def test_what_is_too_long_is_refused_before_any_work(ours: codec.Codec) -> None:
    endless = bytes(HEADER) + bytes((1 << 10) * (codec.CHUNK + codec.TAG) + 1)
    tracemalloc.start()
    try:
        with pytest.raises(codec.Undecodable, match="longer"):
            ours.decrypt(endless)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_shows_the_secret(ours: codec.Codec) -> None:
    assert SECRET not in repr(ours)
    with pytest.raises(codec.Undecodable) as caught:
        ours.decrypt(SERVER_SAID[:-1])
    assert SECRET not in str(caught.value)


def test_where_nothing_is_encrypted_bodies_stay_as_they_are() -> None:
    assert codec.Plain().encrypt(b"{}") == b"{}"
    assert codec.Plain().decrypt(b"{}") == b"{}"
