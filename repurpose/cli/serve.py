"""`repurpose serve` answers over HTTP for what train saved."""

from pathlib import Path
from typing import Annotated

import typer

from repurpose.cli.output.mistakes import UsageMistake
from repurpose.cli.output.screen import aside, console, shown

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    saved: Annotated[Path, typer.Argument(help="What train saved.")],
    host: Annotated[str, typer.Option(help="The address to listen at; the default is reached from here alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    coverage: Annotated[float, typer.Option(help="How often the set of labels holds the right one.")] = 0.9,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Refuse rows whose label is less probable.")
    ] = None,
    max_unfamiliarity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Refuse rows stranger than this share of familiar ones.")
    ] = None,
    max_megabytes: Annotated[float, typer.Option(help="The largest body of a request.")] = 20.0,
    max_rows: Annotated[int, typer.Option(min=1, help="The most images, texts or rows of a request.")] = 1000,
    seconds: Annotated[float, typer.Option(help="How long a request may wait for its answer.")] = 30.0,
    expected_hash: Annotated[
        str | None, typer.Option(help="Serve this very model or none: the SHA-256 that saving told.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the weights of its source network, if they are not here.")
    ] = False,
) -> None:
    """Answer over HTTP for what train saved: POST /predict, /health, /metrics, and a page about them."""
    import repurpose.offsite  # noqa: F401 (what plug-in saved is of a class that is defined there)
    from repurpose import load

    try:
        from repurpose.deployment.server.app import service_app
        from repurpose.deployment.server.running import bound_socket, server_of
    except ImportError as error:
        raise ImportError(f"serve needs packages: pip install 'repurpose-torch[serve]' ({error})") from error
    from repurpose.deployment.server.limits import Limits

    if not 0 < coverage < 1:
        raise UsageMistake(f"--coverage must be above 0 and below 1, such as 0.9, got {coverage:g}")
    if not (max_megabytes > 0 and seconds > 0):
        raise UsageMistake("--max-megabytes and --seconds must be above 0")
    limits = Limits(max_bytes=round(max_megabytes * 1e6), max_rows=max_rows, seconds_to_answer=seconds)
    with bound_socket(host, port) as listening:  # before the model is loaded, which takes longer
        repurposer = load(saved, expected_hash=expected_hash, download=download)
        if not hasattr(repurposer, "guard"):
            raise UsageMistake(f"{saved} holds a {type(repurposer).__name__}, which has no labels to serve")
        app = service_app(
            repurposer,
            coverage=coverage,
            min_confidence=min_confidence,
            max_unfamiliarity=max_unfamiliarity,
            limits=limits,
        )
        if host not in _LOOPBACK:
            aside.print("[yellow]Warning:[/] whoever reaches this address may ask; put a proxy with a login before it")
        at = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        console.print(
            f"{type(repurposer).__name__} from {shown(saved)} at [bold]{at}[/] (Ctrl-C ends it)", soft_wrap=True
        )
        try:
            server_of(app, limits).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn raises it again behind the last answer
            console.print("ended")
