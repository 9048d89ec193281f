"""Every rule of the lifecycle is tested, or its difference is written down."""

from __future__ import annotations

from tests.rules import RULES, named_by_tests, named_in_tables, unaccounted


def test_every_rule_has_a_test_or_a_row_of_differences():
    """Name the rule in the docstring of a test of it, or explain it in ARCHITECTURE.md."""
    assert unaccounted() == []


def test_a_rule_counts_where_it_is_named_and_nowhere_else(tmp_path):
    """In docstrings of tests and in rows of tables; a longer number does not name a shorter."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        '"""§1.1.1"""\n\nasync def test_it():\n    """§1.1.10, §7.9: so"""\n\n'
        'def help():\n    "§3.3"\n'
    )
    (tmp_path / "ARCHITECTURE.md").write_text(
        "§1.2.1\n\n| rule | why |\n|---|---|\n| §1.2.2 | x |\n"
    )
    assert named_by_tests(tmp_path / "tests") == {"1.1.10", "7.9"}
    assert named_in_tables(tmp_path / "ARCHITECTURE.md") == {"1.2.2"}
    assert len(unaccounted(tmp_path)) == len(RULES) - 3
