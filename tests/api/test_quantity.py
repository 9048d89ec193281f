"""Quantities are exact, and print as Kubernetes stores them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api import quantity


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("0.5", "500m", id="a fraction becomes milli"),
        pytest.param("1000m", "1", id="a thousand milli are one"),
        pytest.param("1500m", "1500m", id="what is no whole number keeps its suffix"),
        pytest.param("2000", "2k", id="thousands become kilo"),
        pytest.param("1024Mi", "1Gi", id="binary suffixes grow"),
        pytest.param("1.5Ki", "1536", id="a binary value may lose its suffix"),
        pytest.param("0.1Ki", "102400m", id="a fractional binary value turns decimal"),
        pytest.param("512", "512", id="plain numbers stay"),
        pytest.param("1e3", "1e3", id="exponents stay exponents"),
        pytest.param("12E2", "1200", id="an exponent that is no multiple of three is written out"),
        pytest.param("5.", "5", id="a dot at the end is allowed"),
        pytest.param(".5Gi", "512Mi", id="and one at the start"),
        pytest.param("-1", "-1", id="negative values are quantities"),
        pytest.param("+0", "0", id="zero has no sign"),
        pytest.param("0.0000000001", "1n", id="what is finer than nano is rounded up"),
        pytest.param("100E", "9223372036854775807", id="the largest value is 63 bits"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(quantity.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", quantity.WRONG_FORMAT),
        ("1 Gi", quantity.WRONG_FORMAT),
        ("1x", quantity.WRONG_FORMAT),
        (".", quantity.WRONG_FORMAT),
        ("--1", quantity.WRONG_FORMAT),
        ("1.2.3", quantity.WRONG_FORMAT),
        ("٣", quantity.WRONG_FORMAT),
        ("1ki", quantity.WRONG_SUFFIX),
        ("1mm", quantity.WRONG_SUFFIX),
        ("1e", quantity.WRONG_SUFFIX),
        ("9" * 101, quantity.WRONG_FORMAT),
    ],
)
def test_what_is_no_quantity_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared whole)
        quantity.parse(text)
    assert str(caught.value) == why


def test_divisors_round_up() -> None:
    """§9.1.3: 1500m with divisor 1 is 2, and 500m with divisor 1m is 500."""
    one, milli = quantity.parse("1"), quantity.parse("1m")
    assert quantity.parse("1500m").ceil(one) == 2
    assert quantity.parse("500m").ceil(milli) == 500


def test_stored_resources_are_rounded_up_to_milli() -> None:
    assert str(quantity.round_up_to_milli(quantity.parse("100u"))) == "1m"
    assert str(quantity.round_up_to_milli(quantity.parse("-100u"))) == "-1m"


_SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E"]
_POWERS = dict(zip(_SUFFIXES, (0, -9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True))
_BINARY = dict(zip(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], range(1, 7), strict=True))


@given(
    whole=st.integers(0, 10**6),
    fraction=st.text("0123456789", max_size=6),
    suffix=st.sampled_from([*_POWERS, *_BINARY]),
)
def test_values_are_exact(whole: int, fraction: str, suffix: str) -> None:
    number = Fraction(f"{whole}.{fraction}" if fraction else str(whole))
    scale = Fraction(10) ** _POWERS[suffix] if suffix in _POWERS else 1024 ** _BINARY[suffix]
    nano = number * scale * quantity.NANO
    expected = min(-(-nano.numerator // nano.denominator), (2**63 - 1) * quantity.NANO)
    text = f"{whole}.{fraction}{suffix}" if fraction else f"{whole}{suffix}"
    assert quantity.parse(text).nano == expected


@given(st.integers(-(10**30), 10**30), st.sampled_from(["decimal", "binary", "exponent"]))
def test_the_canonical_form_reads_back_as_the_same_value(nano: int, family: str) -> None:
    limit = (2**63 - 1) * quantity.NANO
    value = quantity.Quantity(max(-limit, min(nano, limit)), family)
    text = str(value)
    again = quantity.parse(text)
    assert again.nano == value.nano
    # Without a suffix it reads as a decimal one, whose own form may be another: 125000 is 125k.
    assert str(again) == text or (family, again.family) == ("binary", "decimal")


@given(st.text("0123456789.eEinumkKMGTP+-", max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        value = quantity.parse(text)
    except ValueError:
        return
    assert quantity.parse(str(value)).nano == value.nano
