import dataclasses
import math

import pytest
import torch

from vidpred.sampling import ReverseScheduledSampling, ScheduledSampling, draw_keep

CONTEXT, LENGTH = 10, 20
FUTURE = LENGTH - 1 - CONTEXT


def future(sampling, step):
    return sampling.probabilities(step, CONTEXT, LENGTH)[CONTEXT:]


def context(sampling, step):
    return sampling.probabilities(step, CONTEXT, LENGTH)[1:CONTEXT]


@pytest.mark.parametrize(
    ("sampling", "end"), [(ScheduledSampling(), 50_000), (ScheduledSampling(slope=5e-5), 20_000)]
)
def test_published_schedules(sampling, end):
    assert future(sampling, 0).tolist() == [1.0] * FUTURE
    torch.testing.assert_close(future(sampling, end // 4), torch.full((FUTURE,), 0.75))
    assert future(sampling, end - 1).min() > 0
    for step in (end, end + 1, 10 * end):
        assert not future(sampling, step).any()
    for step in (0, end // 2, end):
        assert (context(sampling, step) == 1).all()


def test_teacher_forcing_and_no_sampling_are_values():
    for step in (0, 10**9):
        assert (ScheduledSampling(slope=0).probabilities(step, CONTEXT, LENGTH) == 1).all()
        assert not future(ScheduledSampling(start=0), step).any()


def test_reverse_schedule():
    # The numbers of the authors' code at its defaults: r_eta and eta by iteration.
    expected = {
        0: (0.5, 0.5),
        24_999: (0.5, 0.5),
        25_000: (0.5, 0.5),
        30_000: (1 - 0.5 * math.exp(-1), 0.4),
        49_999: (1 - 0.5 * math.exp(-4.9998), 2e-5),
        50_000: (1.0, 0.0),
        80_000: (1.0, 0.0),
    }
    for step, (known, predicted) in expected.items():
        probabilities = ReverseScheduledSampling().probabilities(step, CONTEXT, LENGTH)
        wanted = torch.tensor([1.0] + [known] * (CONTEXT - 1) + [predicted] * FUTURE)
        torch.testing.assert_close(probabilities, wanted)


@pytest.mark.parametrize("sampling", [ScheduledSampling(), ReverseScheduledSampling()])
@pytest.mark.parametrize(("known", "length"), [(1, 2), (1, 5), (4, 5), (10, 20)])
def test_probabilities_cover_every_frame_that_enters(sampling, known, length):
    for step in (0, 30_000, 60_000):
        probabilities = sampling.probabilities(step, known, length)
        assert probabilities.shape == (length - 1,)
        assert probabilities[0] == 1
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize(
    "sampling", [ScheduledSampling(start=0.7, slope=0), ReverseScheduledSampling(0, 100, 50.0)]
)
def test_draws_follow_the_probabilities(sampling):
    samples = 20_000
    keep = draw_keep(sampling, samples, LENGTH, CONTEXT, step=40)
    p = sampling.probabilities(40, CONTEXT, LENGTH)
    error = (keep.float().mean(dim=0) - p).abs()
    assert (error <= 5 * (p * (1 - p) / samples).sqrt()).all()
    assert keep[:, 0].all()


def test_draws_are_independent_per_sample_and_time_step():
    keep = draw_keep(ScheduledSampling(start=0.5, slope=0), 20_000, LENGTH, CONTEXT, step=0)
    correlation = torch.corrcoef(keep[:, CONTEXT:].float().T) - torch.eye(FUTURE)
    assert correlation.abs().max() < 5 / math.sqrt(20_000)
    # Of a few samples no two decide alike at every step.
    assert len({tuple(row.tolist()) for row in keep[:8]}) > 4


def test_draws_are_a_function_of_their_arguments_alone():
    half = ScheduledSampling(start=0.5, slope=0)
    keys = {"step": 3, "batch": 1, "rank": 2, "seed": 9}
    first = draw_keep(half, 64, LENGTH, CONTEXT, **keys)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(first, draw_keep(half, 64, LENGTH, CONTEXT, **keys))
    assert torch.equal(before, torch.get_rng_state())
    for name in keys:
        other = draw_keep(half, 64, LENGTH, CONTEXT, **{**keys, name: 4})
        share = (first == other)[:, CONTEXT:].float().mean()
        assert 0.4 < share < 0.6, name  # as unlike as independent draws


def test_extremes_are_certain():
    everything = draw_keep(ScheduledSampling(), 2_000, LENGTH, CONTEXT, step=0)
    nothing = draw_keep(ScheduledSampling(), 2_000, LENGTH, CONTEXT, step=50_000)
    assert everything.all()
    assert nothing[:, :CONTEXT].all()
    assert not nothing[:, CONTEXT:].any()
    assert everything.dtype == torch.bool
    assert everything.device.type == "cpu"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScheduledSampling(start=1.5), r"probability in \[0, 1\], got 1.5"),
        (lambda: ScheduledSampling(start=math.nan), "got nan"),
        (lambda: ScheduledSampling(slope=-1e-5), "got -1e-05"),
        (lambda: ScheduledSampling(slope=math.inf), "got inf"),
        (lambda: ReverseScheduledSampling(begin=5, end=5), "begin=5, end=5"),
        (lambda: ReverseScheduledSampling(begin=-1), "begin=-1"),
        (lambda: ReverseScheduledSampling(alpha=0), "alpha is a positive"),
        (lambda: draw_keep(ScheduledSampling(), 2, 10, 10, step=0), "context_length=10"),
        (lambda: draw_keep(ScheduledSampling(), 2, 10, 0, step=0), "context_length=0"),
        (lambda: draw_keep(ScheduledSampling(), 2, 10, 5, step=-1), "got -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules_are_constants():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScheduledSampling().start = 0.5  # type: ignore[misc]
