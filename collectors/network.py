"""How a venue is reached: which authorities vouch for it, and through which proxy, if any."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment

from lake.errors import SettingsError

DIRECT: Final = "direct"
"""As a setting: no proxy, whatever the environment says."""
OWN_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Addresses that the environment's proxies are not asked for: there no proxy but this machine itself answers."""
_VARIABLES: Final = {"wss": "https", "https": "https", "ws": "http", "http": "http"}
_SCHEMES: Final = ("http", "https")


@cache
def trusting(ca_file: Path) -> ssl.SSLContext:
    """A TLS context that trusts what the system trusts, and the certificates in `ca_file`.

    Raises:
        SettingsError: the file cannot be read, or holds no certificates.
    """
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # as are the errors of TLS
        raise SettingsError(
            f"ca_file {ca_file}: {error.strerror or error}; give a PEM file of certificates"
        ) from None
    return context


def proxy_for(url: str, given: str | None) -> str | None:
    """The address of the proxy for `url`, None for none: that `given`, else what the environment says.

    The environment is asked as other programs do: HTTPS_PROXY for https and wss, HTTP_PROXY for http and ws, else
    ALL_PROXY, but for hosts in NO_PROXY and for this machine.

    Raises:
        SettingsError: the environment names a proxy of a kind that cannot be used.
    """
    if given is not None:
        return None if given == DIRECT else _with_password(given)
    parts = urlsplit(url)
    proxies = getproxies_environment()
    kind = next((kind for kind in (_VARIABLES.get(parts.scheme, ""), "all") if proxies.get(kind)), None)
    host = parts.hostname or ""
    if kind is None or host in OWN_MACHINE or proxy_bypass_environment(f"{host}:{parts.port or ''}", proxies):
        return None
    address = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    check_proxy(f"environment variable {kind.upper()}_PROXY", address)
    return _with_password(address)


def check_proxy(name: str, address: str) -> None:
    """Raises SettingsError unless `address` is that of a proxy that can be used, or DIRECT."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable and address != DIRECT:
        raise SettingsError(
            f"{name} {address!r}: give the address of an HTTP proxy, such as http://proxy:3128, "
            f"or set [collect.link] proxy to {DIRECT!r} for none"
        )


def told(url: str, proxy: str | None) -> str:
    """`url` in a message about it, with the proxy that leads to it."""
    return url if proxy is None else f"{url} through the proxy {proxy}"


def _with_password(address: str) -> str:
    """The same address; a user without password has an empty one, which not all libraries know."""
    parts = urlsplit(address)
    if parts.username is None or parts.password is not None:
        return address
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:@{host}").geturl()
