"""The meter counts the bytes alive, to the byte, and the FLOPs; what scopes save shows in it."""

import gc
import time

import memory
import pytest
import torch
from conftest import image_set, spec_of
from torch import nn
from torch.autograd.profiler import profile

from unlearn.config import plugins
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


def test_without_work_it_is_the_model(meter):
    with meter:
        pass
    assert (meter.peak_memory, meter.flops) == (4 * MEGABYTE, 0)


def test_peak_of_known_allocations(meter):
    """Between steps as in them; views of what is there, and changes in place, add nothing."""
    with meter:
        one = block(3)
        with meter.step("train"):
            two = block(5)
            two.view(5, -1).add_(1)
            del one
        three = block(1)
        meter.model.weight.t().detach()
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


def test_what_autograd_keeps_counts(meter):
    """x and the square root, which its derivative needs, take 1 MB each, the loss 4 bytes, the weight's gradient 4 MB.
    The layer's output is freed once its root is taken."""
    with meter, meter.step("train"):
        x = torch.ones(256, 1024)
        loss = meter.model(x).sqrt().sum()
        assert meter.operators.alive == (4 + 1 + 1) * MEGABYTE + 4
        assert meter.operators.peak == (4 + 1 + 1 + 1) * MEGABYTE
        loss.backward()
        assert meter.operators.alive == (4 + 1 + 4) * MEGABYTE + 4


def test_given_images_do_not_count():
    images = image_set(1000)
    meter = Meter(nn.Identity(), CPU, [images])
    with meter, meter.step("train"):
        views = images.pixels.split(10)
        images.pixels[:10].clone()
    assert len(views) == 100
    with meter, meter.step("other"):
        assert meter.peak_memory == 640


def test_later_steps_of_a_phase_are_not_watched_but_other_phases_and_sizes_are(meter):
    with meter:
        for size in [1] * STEPS_WATCHED + [9]:
            with meter.step("train"):
                block(size)
        assert meter.peak_memory == 5 * MEGABYTE
        with meter.step("forget"):
            block(7)
        assert meter.peak_memory == 11 * MEGABYTE
        with meter.step("train", 3):
            block(8)
    assert meter.peak_memory == 12 * MEGABYTE


def test_what_a_later_step_kept_is_found(meter):
    with meter:
        for number in range(STEPS_WATCHED + 1):
            with meter.step("train"):
                kept = [block(1), block(2)] if number == STEPS_WATCHED else None
        with meter.step("forget"):
            block(3)
    assert kept
    assert meter.peak_memory == (4 + 1 + 2 + 3) * MEGABYTE


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


def test_garbage_does_not_count_in_the_next_step(meter):
    with meter:
        for phase in "ab":
            with meter.step(phase):
                cycle = [block(9)]
                cycle.append(cycle)
                del cycle
    assert meter.peak_memory == (4 + 9) * MEGABYTE


def test_buffers_count():
    with Meter(nn.BatchNorm1d(1000), CPU) as meter:
        assert meter.peak_memory == 4 * 4000 + 8


def test_times_are_those_of_the_work(meter):
    with meter:
        time.sleep(0.2)
    assert 0.2 <= meter.seconds < 2
    assert meter.cpu_seconds < 0.15


def test_the_time_of_watching_does_not_count(meter):
    """Watched steps take 0.1 s, others 0.02 s: five steps are said to take 0.1 s."""
    with meter:
        for number in range(5):
            with meter.step("train"):
                time.sleep(0.1 if number < STEPS_WATCHED else 0.02)
    assert 0.1 <= meter.seconds < 0.15


def test_flops_of_all_steps(meter):
    """A product [n, 1024] x [1024, 1024] takes 2 n 1024²; its backward pass, with no gradient of the input, as much."""
    with meter:
        meter.model(torch.ones(1, 1024))
        for images in (4, 3, 4, 3, 4, 3, 4, 4, 4):
            with meter.step("train", images):
                meter.model(torch.ones(images, 1024)).sum().backward()
    assert meter.flops == 2 * 1024**2 * (1 + 2 * (6 * 4 + 3 * 3))


def test_flops_of_attention():
    with Meter(nn.Identity(), CPU) as meter:
        q = torch.ones(2, 3, 5, 7, requires_grad=True)
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    products = 2 * 2 * 3 * 5 * 5 * 7
    assert meter.flops == products * (2 + 5)  # forwards two products; backwards five, one of them again


def test_a_smaller_scope_needs_less_memory(spec, make_context):
    """It stores no activations of the frozen prefix and no gradients outside."""
    found = {}
    for scope in ("all", "intermediate+last", "last"):
        context, model = make_context(spec, scope), create(spec, 0)
        with Meter(model, CPU) as context.meter:
            fit(model, Training(epochs=1), context, lambda epoch, context=context: context.batches("retain", epoch, 20))
        found[scope] = context.meter.peak_memory
    assert found["last"] <= found["intermediate+last"] < found["all"]


@pytest.mark.parametrize("method", plugins.names("methods"))
def test_every_method_against_the_allocator(spec, method):
    """By the allocator's own events. They hold the workspaces of convolutions, up to a tenth in so small a network."""
    found, few = image_set(40), memory.QUICK | {"batch_size": 8, "noise_images": 8}
    truth, _ = memory.allocated(*memory.called(method, spec, found, lambda *_: profile(profile_memory=True), few))
    meter, _ = memory.called(method, spec, found, memory.measure, few)
    assert (0.95 if spec.model.startswith("vit") else 0.9) <= meter.peak_memory / truth <= 1


@pytest.mark.parametrize("method", plugins.names("methods"))
def test_every_methods_flops_against_pytorchs_counter(method):
    """Its counter watches every step. It has no formula for attention on a CPU, so the model has none."""
    found, few = image_set(40), memory.QUICK | {"batch_size": 8, "noise_images": 8}
    counter, _ = memory.called(method, spec_of("batchnorm"), found, memory.counter_of, few)
    meter, _ = memory.called(method, spec_of("batchnorm"), found, memory.measure, few)
    assert meter.flops == counter.get_total_flops()
