"""Sound as arithmetic: places, cuts, fades, gaps."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from services.compositor.sound import movie_scale, opus_samples
from services.compositor.soundcut import Block, Cut, Cutter, Line, cuts
from services.compositor.timetable import Piece

RATE = 48_000
MS = Fraction(1, 1000)


def _joined(blocks: list[Block]) -> tuple[int, np.ndarray]:
    for before, after in pairwise(blocks):
        assert after.at == before.end
    return blocks[0].at, np.concatenate([block.samples for block in blocks], axis=1)[0]


def _ramp(first: int, last: int) -> np.ndarray:
    return np.arange(first, last, dtype=np.float32)[None]


def test_times_rounded_to_milliseconds_do_not_tear_the_line() -> None:
    line = Line(rate=RATE, channels=1, last=10**9)
    blocks = []
    for number in range(50):
        # Packets of 1024 samples whose times Matroska rounded.
        time = round(number * 1024 / 48) * MS
        blocks += list(line.place(time, MS, _ramp(number * 1024, number * 1024 + 1024)))
    at, samples = _joined(blocks)
    assert at == 0
    assert np.array_equal(samples, _ramp(0, 50 * 1024)[0])


def test_a_real_gap_is_silent_and_an_overlap_is_cut() -> None:
    line = Line(rate=RATE, channels=1, last=10**9)
    tick = Fraction(1, RATE)
    blocks = list(line.place(Fraction(0), tick, _ramp(1, 101)))
    blocks += line.place(Fraction(300, RATE), tick, _ramp(301, 401))
    blocks += line.place(Fraction(350, RATE), tick, _ramp(351, 451))
    _, samples = _joined(blocks)
    assert np.array_equal(samples[:100], np.arange(1, 101))
    assert not samples[100:300].any()
    assert np.array_equal(samples[300:], np.arange(301, 451))


def test_a_file_that_claims_a_gap_of_years_gives_no_years_of_silence() -> None:
    line = Line(rate=RATE, channels=1, last=RATE)
    blocks = list(line.place(Fraction(0), MS, _ramp(0, 100)))
    blocks += line.place(Fraction(10**9), MS, _ramp(0, 100))
    assert _joined(blocks)[1].shape == (RATE,)


def test_lengths_of_kept_stretches_add_up_without_drift() -> None:
    tick = Fraction(1001, 30_000)
    pieces = [Piece(start=7 * n, end=7 * n + 3, base=3 * n, is_cut_before=True, is_cut_after=True) for n in range(1000)]
    found = cuts(pieces, tick, 44_100)
    assert sum(cut.length for cut in found) == round(3000 * tick * 44_100)
    assert all(before.target + before.length == after.target for before, after in pairwise(found))
    assert all(abs(cut.source - 7 * n * tick * 44_100) <= Fraction(1, 2) for n, cut in enumerate(found))


@pytest.mark.parametrize("block", [7, 100, 5000])
def test_a_cut_takes_its_own_samples_whatever_the_blocks(block: int) -> None:
    stretches = [Cut(100, 0, 50, False, False), Cut(1000, 50, 2000, False, False), Cut(3900, 2050, 300, False, False)]
    cutter = Cutter(stretches, rate=RATE, channels=1)
    blocks = []
    for first in range(0, 4000, block):
        blocks += cutter.take(Block(first, _ramp(first, min(first + block, 4000))))
    blocks += cutter.finish()
    at, samples = _joined(blocks)
    assert at == 0
    # The last stretch reaches beyond the sound: what is not there is silent.
    wanted = np.concatenate([np.arange(100, 150), np.arange(1000, 3000), np.arange(3900, 4000), np.zeros(200)])
    assert np.array_equal(samples, wanted)


def test_joins_fade_over_five_milliseconds_and_ends_of_the_source_do_not() -> None:
    cutter = Cutter([Cut(0, 0, 4800, False, True)], rate=RATE, channels=1)
    _, samples = _joined(list(cutter.take(Block(0, np.ones((1, 4800), np.float32)))))
    assert (samples[: 4800 - 240] == 1).all()
    assert np.allclose(samples[-240:], (np.arange(240)[::-1] + 0.5) / 240)


def test_a_stretch_shorter_than_two_fades_is_still_heard() -> None:
    gain = Cut(0, 0, 100, True, True).gain(0, 100, 240)
    assert gain.max() > 0.9
    assert gain[0] < 0.02 > gain[-1]


@pytest.mark.parametrize(
    ("packet", "samples"),
    [(b"\x78", 960), (b"\xfc", 960), (b"\x1b\x03", 3 * 2880), (b"\x81", 240), (b"\x08\x00", 960)],
)
def test_an_opus_packet_says_how_long_it_lasts(packet: bytes, samples: int) -> None:
    assert opus_samples(packet) == samples


def test_the_movies_clock_holds_picture_and_sound() -> None:
    assert movie_scale(Fraction(1, 90_000), [44_100, 48_000]) % 44_100 == 0
    assert movie_scale(Fraction(1, 16_777_216), [44_100]) == 16_777_216
