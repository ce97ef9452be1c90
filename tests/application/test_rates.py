"""Token buckets: so many at once, so many a second in the long run; the clock is an argument."""

import pytest

from agentic_os.application import rates
from agentic_os.application.rates import Buckets, Rate, Rates
from agentic_os.settings import Settings
from agentic_os.stack import rates_of


def test_a_bucket_gives_its_burst_and_then_its_rate():
    """All of the burst goes at once, then one for each interval, and a refusal takes nothing."""
    buckets = Buckets(Rate(per_second=2, burst=3))
    assert [0, 0, 0] == [buckets.take("a", 10.0) for _ in range(3)]
    assert [0.5, 0.5] == [buckets.take("a", 10.0) for _ in range(2)]
    assert 0.25 == buckets.take("a", 10.25)
    assert 0 == buckets.take("a", 10.5)
    assert 0.5 == buckets.take("a", 10.5)


def test_a_bucket_never_holds_more_than_its_burst():
    """However long nothing came, no more than the burst goes at once."""
    buckets = Buckets(Rate(per_second=2, burst=3))
    buckets.take("a", 0.0)
    assert [0, 0, 0, 0.5] == [buckets.take("a", 9999.0) for _ in range(4)]


def test_each_key_has_its_own():
    """One that is empty slows nobody else."""
    buckets = Buckets(Rate(per_second=1, burst=1))
    assert [0, 1, 0] == [buckets.take(key, 0.0) for key in ("a", "a", "b")]


def test_looking_takes_nothing():
    """To ask how long to wait changes nothing, and whoever never took waits for nothing."""
    buckets = Buckets(Rate(per_second=1, burst=1))
    assert not buckets
    assert 0 == buckets.wait("a", 0.0)
    buckets.take("a", 0.0)
    assert buckets
    assert [1, 1, 0.5, 0] == [buckets.wait("a", at) for at in (0.0, 0.0, 0.5, 1.0)]


def test_without_a_rate_there_is_no_limit():
    """Nothing is counted where nothing is limited."""
    buckets = Buckets(None)
    assert not any(buckets.take("a", 0.0) for _ in range(10_000))
    assert not buckets


def test_the_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Beyond the bound the oldest key is forgotten, and begins anew."""
    monkeypatch.setattr(rates, "_KEPT", 2)
    buckets = Buckets(Rate(per_second=1, burst=1))
    assert [0, 0, 0, 0, 1] == [buckets.take(key, 0.0) for key in ("a", "b", "c", "a", "a")]
    assert 2 == len(buckets._levels)


def test_the_environment_sets_the_rates(monkeypatch: pytest.MonkeyPatch):
    """What the settings say goes, a rate of 0 is no limit, and by default both are limited."""
    assert (Rates().callbacks, Rates().refusals) == (
        rates_of(Settings()).callbacks,
        rates_of(Settings()).refusals,
    )
    monkeypatch.setenv("AGENTIC_OS_CALLBACKS_PER_SECOND", "0")
    monkeypatch.setenv("AGENTIC_OS_REFUSALS_PER_MINUTE", "6")
    monkeypatch.setenv("AGENTIC_OS_REFUSAL_BURST", "7")
    found = rates_of(Settings())
    assert (None, Rate(per_second=0.1, burst=7)) == (found.callbacks, found.refusals)
