"""Access control of the studio: origin checks, host names, access token and security headers."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from vondata.errors import VonError

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "von",
}
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
TOKEN_ARGUMENT = "token"


class RemoteHostError(VonError, ValueError):
    """The studio would listen on an address that other machines reach, and no host names are allowed."""

    exit_code = 2


@dataclass(frozen=True)
class OriginPolicy:
    """Separates the studio's own requests from those that another site makes a browser send.

    Attributes:
        hosts: allowed values of the Host header, in lower case, with the port.
        token: the token that a client must present in addition; None if none is needed.
    """

    hosts: frozenset[str]
    token: str | None = None

    def refusal(self, host: str | None, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused; None if it is not.

        Args:
            host: its Host header. Under DNS rebinding it is the attacker's name.
            headers: its headers; Origin and Sec-Fetch-* name the site that made the browser send it.
        """
        host = (host or "").lower()
        if host not in self.hosts:
            return f"the studio does not answer to the name {host[:80]!r}; allow the host by name when it is started"
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}:
            return f"the studio does not answer pages of {origin[:80]!r}"
        site = headers.get("Sec-Fetch-Site", "none")
        navigates = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        if site not in {"same-origin", "none"} and not navigates:
            return "the studio does not answer other sites' pages"
        return None

    def accepts(self, token: str | None) -> bool:
        """Whether a token is correct, compared in constant time; always true if none is required."""
        return self.token is None or hmac.compare_digest((token or "").encode(), self.token.encode())


def origin_policy(host: str, port: int, allowed: tuple[str, ...], token: str | None = None) -> OriginPolicy:
    """The policy of a server.

    Args:
        host: the address to listen on.
        port: the port it listens on.
        allowed: further host names under which it may be reached, with or without a port.
        token: the token that clients must present; None for none.

    Raises:
        RemoteHostError: the address is not a loopback address, and `allowed` is empty.
    """
    if not is_loopback(host) and not allowed:
        raise RemoteHostError(
            f"{host} can be reached from other machines, and anyone who reaches it could use the model",
            hint="name the hosts that browsers may call it by",
        )
    names = {*LOOPBACK_NAMES, _bracketed(host), *(_bracketed(name) for name in allowed)}
    with_port = {f"{name}:{port}".lower() for name in names}
    bare = {name.lower() for name in allowed}
    # Browsers omit the standard port.
    standard = {name.lower() for name in names} if port == 80 else set()
    return OriginPolicy(frozenset(with_port | bare | standard), token)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bracketed(name: str) -> str:
    """An IPv6 address as it is written in a Host header."""
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
