"""Who may talk to the studio: its own page in a browser on this machine, and nobody through somebody else's page."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from vondata.errors import VonError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "von",
}
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class RemoteHostError(VonError, ValueError):
    """The studio was to listen where others can reach it, and nobody said under which names."""

    exit_code = 2


@dataclass(frozen=True)
class Guard:
    """Tells the page's own requests from those that another site makes a browser send.

    Attributes:
        hosts: what a request's Host may say, in lower case, with the port.
    """

    hosts: frozenset[str]

    def complaint(self, host: str | None, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused; None where it is not.

        Args:
            host: its Host header. A page whose name was made to point here (DNS rebinding) sends its own name.
            headers: its headers: Origin and Sec-Fetch-* tell which site made the browser send it.
        """
        host = (host or "").lower()
        if host not in self.hosts:
            return f"the studio does not answer to the name {host[:80]!r}; whoever started it can permit this host"
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
            return f"the studio does not answer pages of {origin[:80]!r}"
        site = headers.get("Sec-Fetch-Site", "none")
        visits = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        if site not in {"same-origin", "none"} and not visits:
            return "the studio does not answer other sites' pages"
        return None


def guard_for(host: str, port: int, allowed: tuple[str, ...]) -> Guard:
    """The guard of a server.

    Args:
        host: the address to listen on.
        port: the port it listens on.
        allowed: more names under which it may be reached, with or without a port.

    Raises:
        RemoteHostError: the address is not of this machine alone, and `allowed` is empty.
    """
    if not is_loopback(host) and not allowed:
        raise RemoteHostError(
            f"address {host} can be reached from other machines, and whoever reaches it can use the model; name the "
            "hosts that browsers may call it by"
        )
    names = {*LOCAL_NAMES, _bracketed(host), *(_bracketed(name) for name in allowed)}
    with_port = {f"{name}:{port}".lower() for name in names}
    bare = {name.lower() for name in allowed}
    # Browsers leave the standard port out.
    return Guard(frozenset(with_port | bare | ({name.lower() for name in names} if port == 80 else set())))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bracketed(name: str) -> str:
    """An IPv6 address as it stands in a Host header."""
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
