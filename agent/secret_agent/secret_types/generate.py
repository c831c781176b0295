"""Make values: `KIND:LENGTH`, from the operating system's generator, never with less than 96 bits.

alnum:32      letters and digits
password:24   letters, digits and -_.!~, safe in a shell word and in a URL's userinfo
hex:32        32 bytes, as 64 digits
base64:32     32 bytes, as 44 characters
bytes:32      32 bytes as they are
"""

import base64
import math
import secrets
import string
from collections.abc import Callable

from secret_agent_client.errors import InvalidError

MIN_BITS = 96  # below it a value that is an offline target can be searched for
MAX_LENGTH = 4096

_ALNUM = string.ascii_letters + string.digits
_PASSWORD = _ALNUM + "-_.!~"
DEFAULTS = {"alnum": 32, "password": 24, "hex": 32, "base64": 32, "bytes": 32}


def generate(spec: str) -> bytes:
    """A new value.  Raises InvalidError for a spec that is none, or too weak."""
    kind, colon, count = spec.partition(":")
    if kind not in DEFAULTS or (colon and not (count.isascii() and count.isdigit())):
        raise InvalidError(f"a generator is KIND:LENGTH, with KIND one of {', '.join(DEFAULTS)}")
    length = int(count) if colon and len(count) < 6 else DEFAULTS[kind]
    bits, make = _KINDS[kind]
    if length > MAX_LENGTH or (colon and len(count) >= 6):
        raise InvalidError(f"a generated value's length is at most {MAX_LENGTH}")
    if length * bits < MIN_BITS:
        least = math.ceil(MIN_BITS / bits)
        raise InvalidError(f"{kind} needs a length of at least {least}, for {MIN_BITS} bits")
    return make(length)


def _from(alphabet: str) -> Callable[[int], bytes]:
    return lambda length: "".join(secrets.choice(alphabet) for _ in range(length)).encode()


_KINDS: dict[str, tuple[float, Callable[[int], bytes]]] = {
    "alnum": (math.log2(len(_ALNUM)), _from(_ALNUM)),
    "password": (math.log2(len(_PASSWORD)), _from(_PASSWORD)),
    "hex": (8, lambda length: secrets.token_hex(length).encode()),
    "base64": (8, lambda length: base64.b64encode(secrets.token_bytes(length))),
    "bytes": (8, secrets.token_bytes),
}
