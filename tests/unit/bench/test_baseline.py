"""Threads of a scenario that was interrupted create nothing behind the clean-up's back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.baseline import Gate

SECONDS = 30


def test_shut_waits_for_whoever_is_within_and_lets_nobody_in() -> None:
    gate, inside, may_leave = Gate(), threading.Event(), threading.Event()

    def create() -> str:
        with gate:
            inside.set()
            assert may_leave.wait(SECONDS)
        return "created"

    with ThreadPoolExecutor(2) as pool:
        creating = pool.submit(create)
        assert inside.wait(SECONDS)
        shutting = pool.submit(gate.shut)
        while True:  # until the gate is shut, which it is before the last is out
            try:
                with gate:
                    pass
            except RuntimeError:
                break
        assert not shutting.done()
        may_leave.set()
        shutting.result(SECONDS)
        assert creating.result(SECONDS) == "created"
    gate.open()
    with gate:
        pass


def test_a_gate_opens_again_after_a_failure_within() -> None:
    gate = Gate()
    with pytest.raises(ValueError, match="no"), gate:
        raise ValueError("no")
    gate.shut()
    with pytest.raises(RuntimeError, match="over"), gate:
        pass
