import pytest

from vonmodel.studio.security import RemoteHostError, guard_for, is_loopback

PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def guard():
    return guard_for("127.0.0.1", 8765, ())


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_the_page_itself_is_answered(guard, host):
    assert guard.complaint(host, {}) is None
    assert guard.complaint(host, {"Origin": f"http://{host}", **PAGE}) is None


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8765"],
)
def test_other_names_are_refused(guard, host):
    assert "does not answer to the name" in guard.complaint(host, {})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "http://localhost:8765"])
def test_other_origins_are_refused(guard, origin):
    assert "does not answer pages of" in guard.complaint("127.0.0.1:8765", {"Origin": origin})


def test_what_other_sites_make_a_browser_fetch_is_refused(guard):
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert "other sites' pages" in guard.complaint("127.0.0.1:8765", foreign)
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert guard.complaint("127.0.0.1:8765", framed)
    followed_link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert guard.complaint("127.0.0.1:8765", followed_link) is None


def test_more_names_are_answered_where_they_are_allowed():
    guard = guard_for("0.0.0.0", 8765, ("gpu7", "studio.example:443"))
    assert guard.complaint("gpu7:8765", {}) is None
    assert guard.complaint("studio.example:443", {"Origin": "https://studio.example:443"}) is None
    assert guard.complaint("other:8765", {})


def test_other_machines_are_let_in_only_by_name():
    for host in ("0.0.0.0", "192.168.1.4", "::", "gpu7"):
        with pytest.raises(RemoteHostError, match="name the hosts that browsers may call it by"):
            guard_for(host, 8765, ())
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "[::1]", "localhost")] == [True] * 4
