"""Attacks by run folders, links, uploads and clients; SECURITY.md promises protection from each."""

import contextlib
import io
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.harness import TIMEOUT_S
from vondata.errors import VonError
from vonmodel.run_files import UnsafeFileError, check_run_files, open_run_file, read_run_file
from vonmodel.studio.scheduler import MAX_WAIT_S, SHORT_QUEUE, BusyError, Scheduler
from vonmodel.studio.security import origin_policy
from vonmodel.studio.server import StudioSettings
from vonmodel.studio.state import JsonLinesTail, RunMonitor
from vonmodel.studio.uploads import parse_box
from vonmodel.studio.view_request import NAMES, ViewRequest, decode_code, parse_view_request

SECRET = b"root:x:0:0"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "shape-1.png").write_bytes(b"a sheet")
    return folder


def in_time(work):
    """The result of work that must not block."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    return found[0]


def test_links_out_of_the_run_are_not_followed(run, tmp_path):
    (run / "samples" / "shape-2.png").symlink_to(tmp_path / "secret")
    (run / "samples" / "shape-3.png").symlink_to("../../secret")
    (run / "elsewhere").symlink_to(tmp_path)
    for parts in (("samples", "shape-2.png"), ("samples", "shape-3.png"), ("elsewhere", "secret"), ("..", "secret")):
        with pytest.raises(UnsafeFileError, match="leads out of the run folder"):
            read_run_file(run, *parts, max_bytes=100)
    monitor = RunMonitor(run)
    assert monitor.sheet("shape-2.png") is None
    assert monitor.sheet("shape-1.png") == b"a sheet"


def test_links_within_the_run_and_to_the_run_are_followed(run, tmp_path):
    (run / "samples" / "shape-2.png").symlink_to("shape-1.png")
    (tmp_path / "latest").symlink_to(run)
    assert read_run_file(tmp_path / "latest", "samples", "shape-2.png", max_bytes=100) == b"a sheet"


def test_pipes_and_devices_are_not_opened(run):
    os.mkfifo(run / "samples" / "shape-2.png")
    os.mkfifo(run / "stats.jsonl")
    os.mkfifo(run / "metrics.jsonl")
    assert in_time(lambda: RunMonitor(run).sheet("shape-2.png")) is None
    assert in_time(lambda: RunMonitor(run).snapshot())["latest"] is None
    for name in ("stats.jsonl", "samples"):
        with pytest.raises(UnsafeFileError, match="not a regular file"):
            open_run_file(run, name)


def test_a_file_has_a_largest_size(run):
    with (run / "samples" / "shape-2.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnsafeFileError, match="at most 1000 are read"):
        read_run_file(run, "samples", "shape-2.png", max_bytes=1000)
    assert RunMonitor(run).sheet("shape-2.png") is None


def test_missing_files_are_no_attack(run):
    check_run_files(run, ("config.json",), ("checkpoints", "shape-1", "checkpoint.json"))


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(b"[" * 50_000), st.just(b'{"a": 1}')), max_size=6))
def test_logs_of_any_content_are_read(lines):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stats.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        found = JsonLinesTail(Path(folder), "stats.jsonl").lines()
        assert all(isinstance(line, dict) for line in found)
        RunMonitor(Path(folder)).snapshot()


def test_a_hostile_run_is_served_without_its_hostile_parts(open_studio, tiny_run, tiny_data, tmp_path):
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tiny_run / "samples").mkdir(exist_ok=True)
    (tiny_run / "samples" / "joint-00000001.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tiny_run / "samples" / "joint-00000002.png")
    (tiny_run / "studio").mkdir()
    (tiny_run / "studio" / f"{'0' * 24}.safetensors").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tiny_run / "studio" / f"{'1' * 24}.safetensors")
    checkpoints = tiny_run / "checkpoints"
    outside = tmp_path / "outside"
    shutil.copytree(checkpoints / "joint-00000020", outside)
    for name, change in (("joint-00000030", "name"), ("joint-00000040", "link"), ("joint-00000050", "pipe")):
        shutil.copytree(checkpoints / "joint-00000020", checkpoints / name)
        said = json.loads((outside / "checkpoint.json").read_text()) | {"step": int(name[-8:])}
        del said["checksum"]
        said["name"] = "../../../outside" if change == "name" else name
        (checkpoints / name / "checkpoint.json").write_text(json.dumps(said))
        if change != "name":
            (checkpoints / name / "networks.safetensors").unlink()
        if change == "link":
            (checkpoints / name / "networks.safetensors").symlink_to(outside / "networks.safetensors")
        if change == "pipe":
            os.mkfifo(checkpoints / name / "networks.safetensors")
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        for path in ("/api/sheets/joint-00000001.png", "/api/sheets/joint-00000002.png", "/%00", "/a%00.js"):
            answer = studio.ask(path)
            assert answer.status == 404, path
            assert SECRET not in answer.body
        for key in ("0" * 24, "1" * 24, "2" * 24):
            assert studio.ask(f"/api/view?shape=@{key}").status == 404
        told = studio.ask("/api/run").json
        assert [each["name"] for each in told["checkpoints"]] == ["joint-00000010", "joint-00000020"]
        assert len(told["problems"]) == 3
        assert studio.ask("/api/view?checkpoint=joint-00000040").status in (404, 409)
        assert studio.ask("/api/view").status == 200


def test_a_token_is_needed_where_it_is_asked_for(open_studio, tiny_run, tiny_data):
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0, token=True)) as studio:
        base, _, token = studio.address.partition("?token=")
        assert len(token) >= 32
        for path in ("/", "/studio.js", "/api/run", "/api/view", "/api/nothing", "/?token=wrong"):
            answer = studio.ask(path)
            assert answer.status == 401, path
            assert "access token" in answer.json["error"]
        assert studio.ask("/api/photos", method="POST", body=b"x").status == 401
        opened = studio.ask(f"/?token={token}")
        assert (opened.status, opened.headers["Location"]) == (302, "/")
        cookie = opened.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert studio.ask("/", headers={"Cookie": cookie.partition(";")[0]}).status == 200
        assert studio.ask("/api/run", headers={"Authorization": f"Bearer {token}"}).status == 200
        assert studio.ask("/api/run", headers={"Authorization": "Bearer é"}).status == 401
        evil = {"Authorization": f"Bearer {token}", "Origin": "http://evil.example"}
        assert studio.ask("/api/run", headers=evil).status == 403
        assert base.endswith("/")


def test_tokens_are_compared_whole():
    policy = origin_policy("127.0.0.1", 1, (), "secret")
    assert policy.accepts("secret")
    for wrong in (None, "", "secre", "secrets", "sécret"):
        assert not policy.accepts(wrong)


def test_masks_and_boxes_are_bounded(studio):
    photo = np.full((60, 80, 3), 200, dtype=np.uint8)
    photo[20:50, 20:60] = (150, 40, 30)
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:50, 20:60] = 255

    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    def ask(query, body):
        return studio.ask(f"/api/photos?{query}", method="POST", body=body)

    both = png(photo) + png(mask)
    found = ask(f"mask_bytes={len(png(mask))}", both)
    assert (found.status, found.json["mask_origin"]) == (200, "annotated")
    assert ask("box=0.2,0.25,0.8,0.9", png(photo)).status == 200
    assert ask("box=0.9,0.2,0.1,0.8", png(photo)).status == 400
    assert ask("box=0,0,0.01,0.01", png(photo)).status == 422
    for query in ("mask_bytes=-1", "mask_bytes=99999999", "mask_bytes=x", f"mask_bytes={'9' * 400}"):
        assert ask(query, png(photo)).status == 400
    assert ask(f"mask_bytes={len(png(mask[:30]))}", png(photo) + png(mask[:30])).status == 422


def refused_or(parse, value):
    """The parsed value, or None if it is refused as a bad request with a message; anything else is raised."""
    refusals = []
    with contextlib.ExitStack() as stack:
        stack.push(lambda _, error, __: isinstance(error, VonError) and not refusals.append(error))
        return parse(value)
    assert [each.http_status for each in refusals] == [400]
    assert str(refusals[0])
    return None


LINK_VALUES = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"[~@]?[0-9a-zA-Z:_.+-]{0,40}", fullmatch=True),
    st.floats().map(str),
    st.integers().map(str),
)


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), LINK_VALUES, max_size=6))
def test_links_of_any_content_are_parsed_or_refused(arguments):
    request = refused_or(parse_view_request, arguments)
    if request is not None:
        assert isinstance(request, ViewRequest)
        assert set(arguments) <= set(NAMES)
        assert all(np.isfinite(request.viewpoint))
        assert 0.1 <= request.shape.truncation <= 1.0


@given(st.text(max_size=200))
def test_codes_of_any_content_are_read_or_refused(text):
    for given_text in (text, f"~{text}"):
        code = refused_or(decode_code, given_text)
        assert code is None or all(np.isfinite(code))


@given(st.one_of(st.text(max_size=60), st.lists(st.floats(), max_size=6).map(lambda each: ",".join(map(str, each)))))
def test_boxes_of_any_content_are_read_or_refused(text):
    box = refused_or(parse_box, text)
    assert box is None or (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1)


def hold(scheduler, go):
    """A job that keeps the scheduler's thread until the event is set; it has begun."""
    began = threading.Event()
    held = scheduler.submit(lambda: (began.set(), go.wait(60)))
    assert began.wait(60)
    return held


def test_requests_that_would_wait_too_long_get_retry_after_at_once():
    now, go = [0.0], threading.Event()
    scheduler = Scheduler(now=lambda: now[0])
    try:

        def slow():
            now[0] += 2.0

        scheduler.submit(slow).result(60)  # a request takes two seconds
        held = hold(scheduler, go)
        waiting = [scheduler.submit(lambda: None) for _ in range(SHORT_QUEUE)]
        with pytest.raises(BusyError, match="about 32 s of work") as refused:
            scheduler.submit(lambda: None)
        assert refused.value.retry_after_s == 17
        now[0] += MAX_WAIT_S + 1.0
        go.set()
        held.result(60)
        assert [future.exception(60) for future in waiting] == [None] * SHORT_QUEUE  # a short queue is served
    finally:
        go.set()
        scheduler.close()


def test_a_queue_that_has_waited_too_long_drains_at_once():
    now, go = [0.0], threading.Event()
    scheduler = Scheduler(now=lambda: now[0])
    try:
        held = hold(scheduler, go)
        waiting = [scheduler.submit(lambda: None) for _ in range(3 * SHORT_QUEUE)]
        now[0] += MAX_WAIT_S + 1.0
        go.set()
        held.result(60)
        failed = [future.exception(60) for future in waiting]
        refused = [isinstance(each, BusyError) for each in failed]
        assert refused == [True] * (2 * SHORT_QUEUE) + [False] * SHORT_QUEUE
    finally:
        go.set()
        scheduler.close()
