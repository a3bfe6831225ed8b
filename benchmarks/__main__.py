"""`make bench`: CPU seconds of ours against plain transcoding of the same clip in the same run, and the peak of memory.

Pairs alternate, so that a machine whose speed drifts harms both sides alike; medians are quoted with their spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import direct, mesh
from benchmarks.bench_clips import FRAMES, make_bench_clip, shared_talker
from benchmarks.process_tree import TreeMeter
from benchmarks.transcode import transcode
from services.standalone import scenery, talker

RESULTS = Path(__file__).parent / "results" / "latest.json"
PAIRS = 5
PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python", "grpcio", "protobuf", "dbos")

Work = Callable[[], Awaitable[object]]


async def _measured(work: Work) -> tuple[float, float]:
    """CPU and wall seconds of one run."""
    with TreeMeter() as meter:
        await work()
    return meter.cpu_s, meter.wall_s


async def _ratio(base: Work, ours: Work, pairs: int) -> dict[str, Any]:
    """Base divided by ours, pair by pair: 1 is as cheap as the base."""
    cpu, wall, frame_ms = [], [], []
    for _ in range(pairs):
        base_cpu, base_wall = await _measured(base)
        our_cpu, our_wall = await _measured(ours)
        cpu.append(base_cpu / our_cpu)
        wall.append(base_wall / our_wall)
        frame_ms.append((1e3 * base_cpu / FRAMES, 1e3 * our_cpu / FRAMES))
    return {
        "cpu_ratio": round(statistics.median(cpu), 3),
        "cpu_ratio_spread": [round(min(cpu), 3), round(max(cpu), 3)],
        "wall_ratio": round(statistics.median(wall), 3),
        "wall_ratio_spread": [round(min(wall), 3), round(max(wall), 3)],
        "base_cpu_ms_per_frame": round(statistics.median(pair[0] for pair in frame_ms), 2),
        "ours_cpu_ms_per_frame": round(statistics.median(pair[1] for pair in frame_ms), 2),
    }


async def _run(work: Path, pairs: int, *, only_direct: bool) -> dict[str, Any]:
    source = shared_talker() or talker.make_talker(work / "talker.mp4")
    suffix = "" if shared_talker() else "_demo_talker"
    hd = make_bench_clip(source, work / "bench720.mp4", width=1280, height=720)
    portrait, background = work / "portrait.png", work / "background.png"
    Image.fromarray(talker.portrait()).save(portrait)
    Image.fromarray(scenery.evening()).save(background)

    async def base() -> None:
        await asyncio.to_thread(transcode, hd, work / "base.mp4")

    found: dict[str, Any] = {}
    async with mesh.bench_mesh(work / "data") as running:

        async def both() -> None:
            await mesh.transform(running, hd, portrait=portrait, background=background)

        async def swap() -> None:
            await mesh.transform(running, hd, portrait=portrait, background=None)

        async def plain_loop() -> None:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                await direct.transform(
                    hd,
                    Path(folder) / "direct.mp4",
                    portrait=portrait,
                    background=background,
                    runtime=running.runtime,
                    pool=running.pool,
                    work=Path(folder),
                )

        await both()  # Warm: the first job pays for what every later one finds.
        if not only_direct:
            found[f"starter_720p_swap_background_vs_transcode{suffix}"] = await _ratio(base, both, pairs)
            found[f"starter_720p_swap_vs_transcode{suffix}"] = await _ratio(base, swap, pairs)
        found[f"mesh_vs_direct_cpu{suffix}"] = await _ratio(both, plain_loop, pairs)
    if only_direct:
        return found
    full = make_bench_clip(source, work / "bench1080.mp4", width=1920, height=1080)
    async with mesh.bench_mesh(work / "data1080") as running:
        with TreeMeter(watch_memory=True) as meter:
            await mesh.transform(running, full, portrait=portrait, background=background)
        found[f"peak_pss_mb_1080p{suffix}"] = round(meter.peak_pss_mb)
    return found


def _machine() -> dict[str, Any]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how many alternating pairs")
    parser.add_argument(
        "--only-direct", action="store_true", help="the mesh against the plain loop alone; prints, and writes nothing"
    )
    parser.add_argument("--work", type=Path, help="folder for clips, kept; else a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="masquerade-bench-") as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(_run(work, arguments.pairs, only_direct=arguments.only_direct))
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "versions": {package: version(package) for package in PACKAGES},
        "clip": f"{FRAMES} frames, H.264; libx264 veryfast, CRF 20, 2 threads; medians of {arguments.pairs} pairs",
        **found,
    }
    if not arguments.only_direct:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
