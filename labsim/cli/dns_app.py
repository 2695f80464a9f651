"""The commands `labsim dns ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from labsim.cli.options import LabName, Output
from labsim.cli.output import Format

dns_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The names that hosted clusters need.")


@dns_app.command(name="check")
def check_dns_records(
    lab: LabName = "",
    server: Annotated[
        str, typer.Option(help="ADDRESS[:PORT] of the name server to ask; the lab's own by default.")
    ] = "",
    domain: Annotated[str, typer.Option(help="Any hosted cluster's <name>.<base domain>; no lab is needed then.")] = "",
    api: Annotated[
        list[str] | None, typer.Option(help="With --domain: the address of api and api-int; repeatable.")
    ] = None,
    apps: Annotated[list[str] | None, typer.Option(help="With --domain: the address of *.apps; repeatable.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Say of each record whether it is missing or wrong, and how it is mended; exit 0 only if all are right."""
    from labsim.cli.dns import check_dns

    raise typer.Exit(check_dns(lab, server=server, domain=domain, api=api or (), apps=apps or (), output=output))


@dns_app.command()
def records(
    lab: LabName = "",
    form: Annotated[str, typer.Option("--as", help="zone, dnsmasq or hosts: lines to put into such a file.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Show the records of a running lab."""
    from labsim.cli.dns import show_records

    raise typer.Exit(show_records(lab, form, output))
