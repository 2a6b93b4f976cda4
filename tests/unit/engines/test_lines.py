"""Lines of a stream: bounded, and put together in linear time."""

from __future__ import annotations

import pytest

from controller.engines import docker
from controller.engines.docker import _lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_out_whole_however_they_came_in(size: int) -> None:
    text = b'{"a":1}\r\n\n{"b":2}\n{"c":3}'
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(_lines(chunks)) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


@pytest.mark.parametrize("size", [1, 5, 64])
def test_one_that_is_too_long_is_left_out_and_the_next_is_not(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "_MAX_LINE", 8)
    text = b"123\n" + b"x" * 50 + b"\n456\n" + b"y" * 9
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(_lines(chunks)) == [b"123", None, b"456", None]
