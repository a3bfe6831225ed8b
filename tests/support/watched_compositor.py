"""The compositor alone, which writes down what it renders: `python -m tests.support.watched_compositor`.

It is the service itself. Each segment that is rendered, and not found, leaves two lines in the file that WATCHED_LOG
names, in the form that `engine_process` reads: when it began, and when it ended or was called off.

A job whose label says so is poison: each of its segments kills the process. Another may take its time. While a file
SLOWLY lies beside the log, every frame does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from services.common.running import run_service
from services.compositor import app
from services.compositor.rendering import Renderer, RenderOrder
from services.compositor.settings import CompositorSettings

LOG = "WATCHED_LOG"
POISON, SLOW, SLOW_S = "kills who renders it", "takes its time", 10.0
SLOWLY, FRAME_S = "slowly", 0.03


class WatchedRenderer(Renderer):
    """Renders, and writes down when."""

    async def _render(self, order: RenderOrder, *others: Any) -> Any:
        _, _, job, _, name = order.output_key.split("/")
        _note("began", job, name)
        if order.label == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if order.label == SLOW:
                await asyncio.sleep(SLOW_S)
            rendered = await super()._render(order, *others)
        except BaseException:
            _note("stopped", job, name)
            raise
        _note("ended", job, name)
        return rendered

    def _sink(self, *arguments: Any) -> Any:
        sink = super()._sink(*arguments)
        if Path(os.environ[LOG]).with_name(SLOWLY).exists():
            take = sink.take

            def taken(planes: Any) -> None:
                time.sleep(FRAME_S)
                take(planes)

            sink.take = taken  # type: ignore[method-assign]
        return sink


def _note(kind: str, job: str, name: str) -> None:
    line = f"{kind} {job} {int(name.partition('-')[0])} {os.getpid()} {time.monotonic()}\n"
    with open(os.environ[LOG], "a") as log:  # one small write in append mode is not mixed with others
        log.write(line)


if __name__ == "__main__":
    app.Renderer = WatchedRenderer  # type: ignore[misc]
    run_service(CompositorSettings, app.build)
