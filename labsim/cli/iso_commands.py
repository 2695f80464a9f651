"""The commands below `labsim iso`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labsim.cli.options import Output
from labsim.cli.output import Format

iso_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Build, inspect and download discovery ISOs, and their cache."
)
cache_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="ISOs that are kept for the next lab.")
iso_app.add_typer(cache_app, name="cache")


@iso_app.command()
def build(
    output_file: Annotated[Path, typer.Argument(help="The ISO to write.")],
    kernel: Annotated[Path | None, typer.Option(help="A kernel image; the machine's own by default.")] = None,
    modules: Annotated[Path | None, typer.Option(help="Its modules' folder.")] = None,
    ignition: Annotated[Path | None, typer.Option(help="An Ignition file to embed.")] = None,
) -> None:
    """Build a hybrid discovery ISO that boots as CD and as disk."""
    from labsim.cli.iso import build_iso_file

    raise typer.Exit(build_iso_file(output_file, kernel=kernel, modules=modules, ignition=ignition))


@iso_app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any discovery ISO.")],
    output: Output = Format.TABLE,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Do not mask tokens.")] = False,
) -> None:
    """Show what a discovery ISO holds."""
    from labsim.cli.iso import inspect_iso_file

    raise typer.Exit(inspect_iso_file(file, output=output, show_secrets=show_secrets))


@iso_app.command()
def download(
    source: Annotated[str, typer.Argument(help="An InfraEnv as NAMESPACE/NAME, or a URL.")],
    output_file: Annotated[Path, typer.Argument(help="Where the ISO is wanted.")],
    kubeconfig: Annotated[Path | None, typer.Option(help="The InfraEnv's hub; as kubectl by default.")] = None,
    context: Annotated[str, typer.Option(help="A context of that kubeconfig; its current one by default.")] = "",
    ca: Annotated[
        Path | None, typer.Option(help="Authorities (PEM) to trust beside the system's and the hub's.")
    ] = None,
) -> None:
    """Download the discovery ISO of an InfraEnv on any hub; what is in the cache and unchanged is not sent."""
    from labsim.cli.iso_download import download_iso_file

    raise typer.Exit(download_iso_file(source, output_file, kubeconfig=kubeconfig, context=context, ca=ca))


@cache_app.command("list")
def list_cache(output: Output = Format.TABLE) -> None:
    """What is in the cache, last used first."""
    from labsim.cli.iso_cache import show_cache

    raise typer.Exit(show_cache(output))


@cache_app.command("prune")
def prune_cache(
    limit: Annotated[
        str,
        typer.Option(help="What may stay, for example 5GiB; 0B empties it. LABSIM_CACHE_LIMIT, or 20GiB, by default."),
    ] = "",
) -> None:
    """Remove what was used longest ago, until the rest fits. Labs keep the images that they have."""
    from labsim.cli.iso_cache import prune_cache_to

    raise typer.Exit(prune_cache_to(limit))
