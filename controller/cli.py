"""The command line: `sandbox-operator run | crds | version`.

Every setting is an option of `run` and an environment variable; settings.py has them all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from controller import __version__
from controller.settings import ENV_PREFIX, Settings

cli = typer.Typer(
    name="sandbox-operator",
    help="Runs sandboxes for AI agents on Docker, as declared in Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [env: ...] for markup
)


def _option(name: str) -> Parameter:
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = ",".join(default) if isinstance(default, list) else default
    shown = json.dumps(shown) if isinstance(shown, dict) and shown else shown
    text = " ".join((field.description or "").split())
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=f"{text} [env: {ENV_PREFIX}{name.upper()}]"
        + (f" [default: {shown}]" if shown not in (None, "", {}) else ""),
        show_default=False,
        metavar="VALUE",
    )
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each setting."""

    def wrapped(**options: Any) -> None:
        command(**options)

    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    parameters = [_option(name) for name in Settings.model_fields]
    wrapped.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def read_settings(options: dict[str, str | None]) -> Settings:
    """Settings from the options that are set, over the environment. Ends the process with one
    clear message where a value is not valid."""
    given: dict[str, Any] = {k: text for k, text in options.items() if text is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise typer.BadParameter(explain(error)) from None


def explain(error: ValidationError) -> str:
    """What is wrong with each wrong setting, after its option and its variable."""
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        message = str(problem["msg"]).removeprefix("Value error, ")
        lines.append(
            f"--{name.replace('_', '-')} ({ENV_PREFIX}{name.upper()}): {message}, "
            f"not {problem['input']!r}"
        )
    return "; ".join(lines)


@cli.command()
@_with_settings
def run(**options: str | None) -> None:
    """Run the operator in the foreground until SIGTERM or Ctrl-C."""
    from controller import app, logs

    settings = read_settings(options)
    logs.configure(settings.log_level, settings.log_format)
    try:
        import uvloop

        uvloop.run(app.run(settings))
    except ImportError:
        asyncio.run(app.run(settings))
    except app.StartupError as error:
        typer.echo(f"sandbox-operator: {error}", err=True)
        raise typer.Exit(1) from None


@cli.command()
def crds() -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    from controller.generate import render_crd

    sys.stdout.write(render_crd())


@cli.command()
def version() -> None:
    """Print the operator's version."""
    typer.echo(__version__)


def main() -> None:
    logging.captureWarnings(True)
    cli()
