"""Encrypt what MinIO's admin API takes, and decrypt what it answers.

Bodies with secrets in them are encrypted under the caller's own secret key, TLS or not:

    salt 32 | cipher 1 | nonce 8 | chunks of 16 KiB, each followed by a tag of 16 bytes
    nonce of a chunk: the nonce and the chunk's number from 1 on, 4 bytes, little-endian
    associated data:  0x00, or 0x80 for the last chunk, and the tag of an empty chunk number 0

Answers derive their key with Argon2id: 64 MiB and some 60 ms each, so only one is derived at a
time. For requests the server takes PBKDF2 as well, and we use it: who can read a request can guess
the secret from its signature, which is faster than either. One salt serves a process, with nonces
that count, so requests cost nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

ARGON2_AES, ARGON2_CHACHA, PBKDF2_AES = 0, 1, 2
CHUNK, TAG = 1 << 14, 16
_SALT, _NONCE = 32, 8
_HEADER = _SALT + 1 + _NONCE
_MOST_CHUNKS = 1 << 10
_one_derivation = threading.Lock()


class Undecodable(ValueError):
    """Report bytes that were not encrypted under our secret, or not as they are."""


class Codec:
    """Encrypt and decrypt under one secret; threads may share it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._salt = os.urandom(_SALT)
        self._lock = threading.Lock()
        self._next_nonce = secrets.randbits(8 * _NONCE)
        self._cipher: AESGCM | ChaCha20Poly1305 | None = None

    def encrypt(self, plain: bytes) -> bytes:
        """Return the body of a request."""
        with self._lock:
            if self._cipher is None:
                self._cipher = _cipher(PBKDF2_AES, self._secret, self._salt)
            nonce = self._next_nonce.to_bytes(_NONCE, "little")
            self._next_nonce = (self._next_nonce + 1) % (1 << 8 * _NONCE)
            cipher = self._cipher
        return self._salt + bytes([PBKDF2_AES]) + nonce + _sealed(cipher, nonce, plain)

    def decrypt(self, body: bytes) -> bytes:
        """Return what an answer holds; raise `Undecodable` unless all of it is authentic."""
        if len(body) < _HEADER + TAG or body[_SALT] not in (ARGON2_AES, ARGON2_CHACHA, PBKDF2_AES):
            raise Undecodable("the answer is not encrypted as the admin API does")
        if len(body) > _HEADER + _MOST_CHUNKS * (CHUNK + TAG):
            raise Undecodable("the answer is longer than any that the admin API gives")
        cipher = _cipher(body[_SALT], self._secret, body[:_SALT])
        return _opened(cipher, body[_SALT + 1 : _HEADER], body[_HEADER:])


class Plain:
    """Leave bodies as they are, where the engine does."""

    def encrypt(self, plain: bytes) -> bytes:
        """Return the body of a request."""
        return plain

    def decrypt(self, body: bytes) -> bytes:
        """Return what an answer holds."""
        return body


def _cipher(kind: int, secret: bytes, salt: bytes) -> AESGCM | ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    key = _pbkdf2(secret, salt) if kind == PBKDF2_AES else _argon2id(secret, salt)
    return ChaCha20Poly1305(key) if kind == ARGON2_CHACHA else AESGCM(key)


def _pbkdf2(secret: bytes, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret, salt, 8192, 32)


def _argon2id(secret: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    with _one_derivation:
        derivation = Argon2id(salt=salt, length=32, iterations=1, lanes=4, memory_cost=1 << 16)
        return derivation.derive(secret)


def _sealed(cipher: AESGCM | ChaCha20Poly1305, nonce: bytes, plain: bytes) -> bytes:
    tag = cipher.encrypt(_numbered(nonce, 0), b"", None)
    sealed = bytearray()
    chunks = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)] or [b""]
    for number, chunk in enumerate(chunks, start=1):
        mark = b"\x80" if number == len(chunks) else b"\x00"
        sealed += cipher.encrypt(_numbered(nonce, number), chunk, mark + tag)
    return bytes(sealed)


def _opened(cipher: AESGCM | ChaCha20Poly1305, nonce: bytes, sealed: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    tag = cipher.encrypt(_numbered(nonce, 0), b"", None)
    opened = bytearray()
    size = CHUNK + TAG
    for number, at in enumerate(range(0, len(sealed), size), start=1):
        mark = b"\x80" if at + size >= len(sealed) else b"\x00"
        try:
            opened += cipher.decrypt(_numbered(nonce, number), sealed[at : at + size], mark + tag)
        except (InvalidTag, ValueError) as exc:
            raise Undecodable("the answer was not encrypted under our secret") from exc
    return bytes(opened)


def _numbered(nonce: bytes, number: int) -> bytes:
    return nonce + number.to_bytes(4, "little")
