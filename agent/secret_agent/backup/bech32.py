"""Bech32 (BIP 173) without its limit of 90 characters: how age writes recipients and identities.

Rules that hold here: mixed case, wrong checksums and padding that is not zero are refused; an error
never contains the string, which may be a private key.
"""

from secret_agent_client.errors import InvalidError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # characters


def encode(prefix: str, data: bytes) -> str:
    """Lower-case bech32 of the data under a lower-case prefix."""
    values = _regroup(data, 8, 5, pad=True)
    polymod = _polymod(_expand(prefix) + values + [0] * _CHECKSUM) ^ 1
    check = [(polymod >> 5 * (5 - at)) & 31 for at in range(_CHECKSUM)]
    return prefix + "1" + "".join(_CHARSET[value] for value in values + check)


def decode(text: str) -> tuple[str, bytes]:
    """(prefix in lower case, data).  Raises InvalidError."""
    if text not in (text.lower(), text.upper()) or not text.isascii():
        raise InvalidError("a bech32 string mixes cases")
    prefix, one, rest = text.lower().rpartition("1")
    if not one or not prefix or len(rest) < _CHECKSUM:
        raise InvalidError("a bech32 string lacks its prefix or its checksum")
    values = [_CHARSET.find(char) for char in rest]
    if -1 in values or _polymod(_expand(prefix) + values) != 1:
        raise InvalidError("a bech32 string has a wrong character or checksum")
    return prefix, bytes(_regroup(values[:-_CHECKSUM], 5, 8, pad=False))


def _polymod(values: list[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            state ^= generator if (top >> bit) & 1 else 0
    return state


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _regroup(values: "bytes | list[int]", width: int, into: int, *, pad: bool) -> list[int]:
    """The same bits in groups of another width."""
    bits, held, out = 0, 0, []
    for value in values:
        held = (held << width) | value
        bits += width
        while bits >= into:
            bits -= into
            out.append((held >> bits) & ((1 << into) - 1))
        held &= (1 << bits) - 1
    if pad and bits:
        out.append(held << (into - bits))
    elif not pad and (bits >= width or held):
        raise InvalidError("a bech32 string ends in bits that mean nothing")
    return out
