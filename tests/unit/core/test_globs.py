"""Globs mean what they mean in a shell: held against fnmatch, whose searches are not linear."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import globs


@given(
    st.text(alphabet="ab-]!.\n", max_size=8),
    st.text(alphabet="ab-]![*?.^\\\n", max_size=8),
)
def test_they_mean_what_fnmatch_makes_of_them(text: str, pattern: str) -> None:
    assert globs.matches(text, pattern) == fnmatchcase(text, pattern)


@pytest.mark.parametrize("odd", ["\ud800", "a\udfff"])
def test_what_is_no_text_matches_nothing(odd: str) -> None:
    assert not globs.matches(odd, "*")
