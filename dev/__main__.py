"""`python -m dev`: the development cluster's commands."""

import concurrent.futures
import os
from pathlib import Path
from typing import Annotated

import typer

from dev import cluster, engine, images
from dev import demo as demonstration
from dev.binaries import ensure_binaries
from dev.progress import DevError, console

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.command()
def up() -> None:
    """Start the Docker engine and this checkout's API server; idempotent."""
    host = engine.ensure_engine()
    running = cluster.up()
    console.print(f"engine      {host}")
    console.print(f"API server  {running.url}")
    console.print(f"kubeconfig  {_short(running.kubeconfig)}")
    console.print("next        make run   (the operator, in the foreground)")


@app.command()
def down() -> None:
    """Stop this checkout's API server; its data and the engine stay."""
    found = cluster.existing()
    if found is None or not found.running():
        console.print("this checkout's cluster does not run")
    else:
        found.stop()
        console.print("stopped this checkout's API server; `make up` brings it back with its data")
    console.print("the Docker engine belongs to the machine and stays; `make engine-down` stops it")


@app.command()
def status() -> None:
    """Say what runs."""
    host = os.environ.get("DOCKER_HOST", engine.DEFAULT_HOST)
    answer = engine.info(host)
    version = answer.get("ServerVersion")
    console.print(f"engine      {f'Docker {version} at {host}' if answer else 'does not answer'}")
    found = cluster.existing()
    if found and found.ready():
        console.print(f"API server  {found.url}")
        console.print(f"kubeconfig  {_short(found.kubeconfig)}")
    else:
        console.print("API server  does not run; `make up` starts it")


@app.command(name="images")
def make_images() -> None:
    """Make sure of the busybox and agent server images, and of the API server's binaries."""
    ensure_all()


@app.command()
def engine_down() -> None:
    """Stop the machine's dockerd, if it was started from here; every container stops with it."""
    if engine.stop_engine():
        console.print("stopped dockerd")
    else:
        console.print("no dockerd that was started from here runs; any other is left alone")


@app.command()
def clean() -> None:
    """End this checkout's cluster, remove its data and what it left in the engine."""
    cluster.remove()


@app.command()
def demo(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="A cluster to use; none means a temporary one, never one of your own."),
    ] = None,
    context: Annotated[str, typer.Option(help="The context in --kubeconfig.")] = "",
    namespace: Annotated[str, typer.Option()] = "default",
) -> None:
    """One Sandbox from creation to deletion, on a real API server, engine and agent server."""
    host, image = ensure_all()
    demonstration.run(host, image, kubeconfig, context, namespace)


def ensure_all() -> tuple[str, str]:
    """Engine, binaries and images; returns the DOCKER_HOST and the agent server's image.

    The API server's build needs the processor and the image's needs the network and the disk, so
    they go on at once.
    """
    host = engine.ensure_engine()
    images.ensure_busybox(host)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        binaries = pool.submit(ensure_binaries)
        agent_server = pool.submit(images.ensure_agent_server, host)
        binaries.result()
        return host, agent_server.result()


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    try:
        app()
    except DevError as error:
        console.print(f"error: {error}", style="red")
        raise SystemExit(1) from None
