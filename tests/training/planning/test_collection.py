"""Cycles are looked for seldom while a scan is made, and as before afterwards."""

import gc

import pytest

from library.training.planning.collection import seldom_collected


def test_inside_less_is_looked_at_and_afterwards_as_before() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="an error"), seldom_collected():
        assert gc.get_threshold()[0] > 10 * before[0]
        raise ValueError("an error")
    assert gc.get_threshold() == before


def test_who_has_switched_it_off_is_not_overruled() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collected():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
