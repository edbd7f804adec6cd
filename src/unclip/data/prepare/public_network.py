"""Connections to public addresses alone: no table of addresses reaches into a private network."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2 as httpcore


class PrivateAddress(Exception):
    """The name of a host means a machine that is not public."""


class GuardedBackend(httpcore.NetworkBackend):
    """Connects only to public addresses: the very address that was judged is connected to, so a name that
    means another machine the next time it is asked gains nothing.
    """

    def __init__(self, private: bool) -> None:
        self._private = private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Opens a connection to a host that is public, or may be private.

        Raises:
            PrivateAddress: it is not, and may not be.
            httpcore.ConnectError: there is no such host, or it does not answer.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no such host: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._private:
            for address in addresses:
                if not is_public(address):
                    raise PrivateAddress(f"{host} is {address}")
        failure: Exception = httpcore.ConnectError(f"no address of {host}")
        for address in addresses:
            try:
                return self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                failure = failed
        raise failure

    def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Never opens one. Raises PrivateAddress."""
        raise PrivateAddress(path)

    def sleep(self, seconds: float) -> None:
        """Waits, between tries of httpcore itself."""
        time.sleep(seconds)


def is_public(address: str) -> bool:
    """False for addresses of private networks, of this machine, of links, and for those that stand for them
    within IPv6 (mapped, 6to4, Teredo, NAT64).
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inside: Sequence[ipaddress.IPv4Address | None] = ()
    if isinstance(found, ipaddress.IPv6Address):
        nat64 = ipaddress.ip_network("64:ff9b::/96")
        teredo = found.teredo
        inside = (
            found.ipv4_mapped,
            found.sixtofour,
            teredo[1] if teredo else None,
            ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in nat64 else None,
        )
    return found.is_global and not found.is_multicast and all(one.is_global for one in inside if one)
