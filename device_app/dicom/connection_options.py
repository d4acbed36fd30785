"""Options that `edge-ct listen` and `edge-ct send` share: where objects go, and how this device identifies itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from .peers import Peer, parse_ae_title, parse_networks, tls_context
from .send.outbox import Target
from .send.targets import StoreTarget, WebTarget

Value = TypeVar("Value")


@dataclass(frozen=True)
class Connection:
    """The options of `listen` and `send` on where results go, and how this device identifies itself."""

    to: tuple[Peer, ...]
    stow: tuple[str, ...]
    title: str
    tls_cert: Path | None
    tls_key: Path | None
    tls_ca: Path | None

    def context(self, server: bool) -> Any:
        """Return a TLS context; None without certificates."""
        files = (self.tls_cert, self.tls_key, self.tls_ca)
        if any(files[:2]) and not all(files):
            raise click.UsageError("--tls-cert, --tls-key and --tls-ca must be given together")
        certificate, key, authority = files
        return tls_context(certificate, key, authority, server) if certificate and key and authority else None

    def targets(self) -> list[Target]:
        """Return the targets that --to and --stow name."""
        context = self.context(server=False)
        try:
            web_targets = [WebTarget.parse(url, self.tls_ca) for url in self.stow]
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--stow") from error
        return [*(StoreTarget(peer, self.title, context) for peer in self.to), *web_targets]


def parsed_by(parse: Callable[[str], Value]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that parses the value of an option; a ValueError of `parse` is wrong usage."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return tuple(map(parse, value)) if isinstance(value, tuple) else value and parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def check_network(text: str) -> str:
    """Return a text that is an address or a network. Raises `ValueError` for any other text."""
    parse_networks([text])
    return text


def _file_option(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), help=text)


def connection_options(command: Any) -> Any:
    """Add the options of `Connection` to a command."""
    for option in (
        _file_option("--tls-ca", "PEM file of the authority that signed the certificates of the peers."),
        _file_option("--tls-key", "PEM file with the private key of this device."),
        _file_option("--tls-cert", "PEM file with the certificate of this device; enables mutual TLS."),
        click.option(
            "--aet",
            "title",
            default="EDGECT",
            show_default=True,
            callback=parsed_by(parse_ae_title),
            help="AE title of this device.",
        ),
        click.option(
            "--stow",
            multiple=True,
            metavar="URL",
            help="Send objects to this DICOMweb server (STOW-RS); may be repeated.",
        ),
        click.option(
            "--to",
            multiple=True,
            metavar="AET@HOST:PORT",
            callback=parsed_by(Peer.parse),
            help="Send objects to this C-STORE provider; may be repeated.",
        ),
    ):
        command = option(command)
    return command
