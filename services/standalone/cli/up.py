"""`masquerade up`: the six services on loopback ports, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import typer

from services.standalone.cli import options
from services.standalone.cli.ending import run, told_in_a_line

FIRST_PORT = 50051
METRICS = "127.0.0.1:9464"


def up(
    data: options.Data = None,
    runtime: options.Runtime = None,
    triton: options.Triton = None,
    workers: options.Workers = None,
    first_port: Annotated[int, typer.Option(min=2, max=65530, help="Port of ingest; the others follow.")] = FIRST_PORT,
    public: Annotated[
        str | None,
        typer.Option(help="Where other systems call; default: the port before the first.", metavar="HOST:PORT"),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Where Prometheus reads; port 0 takes a free one.", metavar="HOST:PORT")
    ] = None,
) -> None:
    """Run the six services on this machine until Ctrl-C."""
    with told_in_a_line():
        from services.common.logs import configure_logs

        chosen = options.flags(data=data, runtime=runtime, triton=triton, workers=workers)
        settings = options.load_settings(chosen)
        configure_logs(service="standalone", level=settings.log_level)

        async def serve() -> None:
            from services.common.metrics import Exposition
            from services.standalone.premises import house

            async with contextlib.AsyncExitStack() as stack:
                door = public or settings.public_listen or f"127.0.0.1:{first_port - 1}"
                opened = house(settings, chosen, first_port=first_port, public=door, say=_say)
                mesh = await stack.enter_async_context(opened)
                for name, target in mesh.targets.items():
                    print(f"{name:<14}{target}", flush=True)
                print(f"{'public':<14}{mesh.public}", flush=True)
                exposition = Exposition(metrics or settings.metrics_listen or METRICS)
                stack.callback(exposition.close)
                print(f"{'metrics':<14}127.0.0.1:{exposition.port}", flush=True)
                await mesh.warmed()
                print("ready", flush=True)
                await asyncio.Event().wait()

        try:
            run(serve)
        except KeyboardInterrupt:
            # To be stopped is how this command ends well.
            print("stopped", flush=True)


def _say(text: str) -> None:
    print(text, flush=True)
