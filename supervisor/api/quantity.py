"""Resource quantities: "500m", "1.5Gi", "1e3", exactly.

Rules, defaults, environment variables and the QoS class compare and print quantities; all of
them come here. Values are whole numbers of nano units, so nothing is ever rounded by a float:
what is finer than nano is rounded away from zero, as Kubernetes does. Nothing here knows which
resource a quantity belongs to.
"""

from __future__ import annotations

import re

from msgspec import Struct

NANO = 10**9
_MAX = (2**63 - 1) * NANO  # Kubernetes caps larger values without a word

WRONG_FORMAT = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
WRONG_SUFFIX = "unable to parse quantity's suffix"

_PARTS = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]+)", re.ASCII)
_DIGITS = 100  # more digits than any quantity has; keeps int() and powers cheap


class Quantity(Struct, frozen=True):
    """A value in nano units and the family of suffixes it was written with."""

    nano: int
    family: str = "decimal"  # decimal, binary, exponent

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that loses nothing."""
        return _canonical(self)

    def ceil(self, divisor: Quantity) -> int:
        """How many divisors it takes, rounded up: what resourceFieldRef shows."""
        return -(-self.nano // divisor.nano)


def parse(text: str) -> Quantity:
    """Read a quantity; ValueError carries Kubernetes' words."""
    match = _PARTS.fullmatch(text)
    if match is None or not (match[2] or match[3]) or len(text) > _DIGITS:
        raise ValueError(WRONG_FORMAT)
    sign, whole, fraction, suffix = match[1], match[2] or "0", match[3] or "", match[4]
    family, power, base = _suffix(suffix)
    number = int(whole + fraction)
    # number * base**power * NANO / 10**len(fraction), with everything kept whole
    down = 10 ** len(fraction)
    if number == 0:
        nano = 0
    elif power >= 0:
        nano = -(-number * base ** min(power, _DIGITS) * NANO // down)
    else:
        nano = -(-number * NANO // (down * base ** min(-power, 3 * _DIGITS)))
    nano = min(nano, _MAX)
    return Quantity(-nano if sign == "-" else nano, family)


def round_up_to_milli(quantity: Quantity) -> Quantity:
    """What Kubernetes stores for resources of containers; away from zero."""
    milli = NANO // 1000
    nano = -(-abs(quantity.nano) // milli) * milli
    return Quantity(nano if quantity.nano >= 0 else -nano, quantity.family)


def _suffix(suffix: str) -> tuple[str, int, int]:
    """family, power, base"""
    if suffix in _DECIMAL:
        return "decimal", _DECIMAL[suffix], 10
    if suffix in _BINARY:
        return "binary", _BINARY[suffix], 1024
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None:
        raise ValueError(WRONG_SUFFIX)
    return "exponent", int(exponent[1]), 10


def _canonical(quantity: Quantity) -> str:
    nano, family = quantity.nano, quantity.family
    if nano == 0:
        return "0"
    if family == "binary" and abs(nano) >= 1024 * NANO and nano % NANO == 0:
        number, power = nano // NANO, 0
        while number % 1024 == 0 and power < 6:
            number, power = number // 1024, power + 1
        return f"{number}{_BINARY_SUFFIX.get(power, '')}"
    number, power = nano, -9
    while number % 1000 == 0 and power < 18:
        number, power = number // 1000, power + 3
    if family == "exponent":
        return f"{number}e{power}" if power else str(number)
    return f"{number}{_DECIMAL_SUFFIX[power]}"
