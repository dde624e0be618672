import pytest

from vonmodel.studio.security import RemoteHostError, is_loopback, origin_policy

PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def policy():
    return origin_policy("127.0.0.1", 8765, ())


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_the_page_itself_is_answered(policy, host):
    assert policy.refusal(host, {}) is None
    assert policy.refusal(host, {"Origin": f"http://{host}", **PAGE}) is None


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8765"],
)
def test_other_names_are_refused(policy, host):
    assert "does not answer to the name" in policy.refusal(host, {})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "http://localhost:8765"])
def test_other_origins_are_refused(policy, origin):
    assert "does not answer pages of" in policy.refusal("127.0.0.1:8765", {"Origin": origin})


def test_what_other_sites_make_a_browser_fetch_is_refused(policy):
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert "other sites' pages" in policy.refusal("127.0.0.1:8765", foreign)
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert policy.refusal("127.0.0.1:8765", framed)
    followed_link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert policy.refusal("127.0.0.1:8765", followed_link) is None


def test_more_names_are_answered_where_they_are_allowed():
    policy = origin_policy("0.0.0.0", 8765, ("gpu7", "studio.example:443"))
    assert policy.refusal("gpu7:8765", {}) is None
    assert policy.refusal("studio.example:443", {"Origin": "https://studio.example:443"}) is None
    assert policy.refusal("other:8765", {})


def test_other_machines_are_let_in_only_by_name():
    for host in ("0.0.0.0", "192.168.1.4", "::", "gpu7"):
        with pytest.raises(RemoteHostError, match="name the hosts that browsers may call it by"):
            origin_policy(host, 8765, ())
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "[::1]", "localhost")] == [True] * 4
