"""The meter counts what is allocated, to the byte, and what scopes save shows in it."""

import gc
import time

import pytest
import torch
from torch import nn

from unlearn.config.settings import Training
from unlearn.models.classifier import create
from unlearn.models.cost_meter import STEPS_WATCHED, Meter
from unlearn.training.loop import fit

CPU, MEGABYTE = torch.device("cpu"), 1 << 20


def block(megabytes):
    return torch.empty(megabytes * MEGABYTE, dtype=torch.uint8)


@pytest.fixture
def meter():
    """The meter of a model of four megabytes."""
    return Meter(nn.Linear(1024, 1024, bias=False), CPU)


def test_without_steps_it_is_the_model(meter):
    with meter:
        block(50)
    assert meter.peak_memory == 4 * MEGABYTE


def test_peak_of_known_allocations(meter):
    with meter, meter.step("train"):
        one = block(3)
        two = block(5)
        del one
        three = block(1)
        del two, three
    assert meter.peak_memory == (4 + 3 + 5) * MEGABYTE


def test_what_stays_counts_in_the_next_step(meter):
    kept = []
    with meter:
        for _ in range(2):
            with meter.step("train"):
                kept.append(block(3))
                block(1)
    assert meter.peak_memory == (4 + 3 + 3 + 1) * MEGABYTE


def test_later_steps_of_a_phase_are_not_watched_but_other_phases_are(meter):
    with meter:
        for size in [1] * STEPS_WATCHED + [9]:
            with meter.step("train"):
                block(size)
        assert meter.peak_memory == 5 * MEGABYTE
        with meter.step("forget"):
            block(7)
    assert meter.peak_memory == 11 * MEGABYTE


def test_the_peak_does_not_depend_on_when_the_cycle_collector_runs(meter):
    """What an earlier job of this process left in a cycle must not be freed, and subtracted, in a watched step."""
    gc.disable()
    with Meter(nn.Identity(), CPU) as earlier, earlier.step("train"):
        cycle = [block(9)]
        cycle.append(cycle)
        del cycle
    gc.enable()
    with meter, meter.step("train"):
        one = block(3)
        assert len([[] for _ in range(100_000)])  # the collector runs once in so many new containers
        two = block(5)
        del one, two
    assert gc.isenabled()
    assert meter.peak_memory == (4 + 3 + 5) * MEGABYTE


def test_buffers_count():
    assert Meter(nn.BatchNorm1d(1000), CPU).peak_memory == 4 * 4000 + 8


def test_times_are_those_of_the_work(meter):
    with meter:
        time.sleep(0.2)
    assert 0.2 <= meter.seconds < 2
    assert meter.cpu_seconds < 0.15


def test_a_smaller_scope_needs_less_memory(spec, make_context):
    """It stores no activations of the frozen prefix and no gradients outside."""
    found = {}
    for scope in ("all", "intermediate+last", "last"):
        context, model = make_context(spec, scope), create(spec, 0)
        with Meter(model, CPU) as context.meter:
            fit(model, Training(epochs=1), context, lambda epoch, context=context: context.batches("retain", epoch, 20))
        found[scope] = context.meter.peak_memory
    assert found["last"] <= found["intermediate+last"] < found["all"]
