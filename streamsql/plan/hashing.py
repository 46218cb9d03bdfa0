"""PostgreSQL's hash of texts: what applications number advisory locks by, ``pg_advisory_lock(hashtext('job'))``.

It is Bob Jenkins' hash of 2006, with PostgreSQL's start values (``src/common/hashfn.c``), for little-endian machines.
"""

from __future__ import annotations

_WORD = 0xFFFFFFFF
_START = 0x9E3779B9 + 3923095
_MIX = ((0, 2, 4, 1), (1, 0, 6, 2), (2, 1, 8, 0), (0, 2, 16, 1), (1, 0, 19, 2), (2, 1, 4, 0))
_FINISH = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def hash_text(text: str) -> int:
    """Give ``hashtext(text)``: 32 bits, signed."""
    return _signed(_hashed(text.encode(), 0)[2], 32)


def hash_text_extended(text: str, seed: int) -> int:
    """Give ``hashtextextended(text, seed)``: 64 bits, signed."""
    _, high, low = _hashed(text.encode(), seed & (2**64 - 1))
    return _signed(high << 32 | low, 64)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _WORD


def _hashed(key: bytes, seed: int) -> list[int]:
    words = [(_START + len(key)) & _WORD] * 3
    if seed:
        words[0] = (words[0] + (seed >> 32)) & _WORD
        words[1] = (words[1] + (seed & _WORD)) & _WORD
        _mix(words)
    while len(key) >= 12:
        for place in range(3):
            words[place] = (words[place] + int.from_bytes(key[4 * place : 4 * place + 4], "little")) & _WORD
        _mix(words)
        key = key[12:]
    for place in range(2):
        words[place] = (words[place] + int.from_bytes(key[4 * place : 4 * place + 4], "little")) & _WORD
    # the lowest byte of the third word is the length's
    words[2] = (words[2] + (int.from_bytes(key[8:], "little") << 8)) & _WORD
    for one, other, bits in _FINISH:
        words[one] = ((words[one] ^ words[other]) - _turned(words[other], bits)) & _WORD
    return words


def _mix(words: list[int]) -> None:
    for one, other, bits, third in _MIX:
        words[one] = (words[one] - words[other]) & _WORD
        words[one] ^= _turned(words[other], bits)
        words[other] = (words[other] + words[third]) & _WORD
