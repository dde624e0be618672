"""The studio over HTTP: its responses, and that it survives any request."""

import base64
import io
import json
import shutil
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import harness
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.mesh import to_pixels
from vonmodel.studio.routes import MESH_TYPES
from vonmodel.studio.scheduler import SHORT_QUEUE
from vonmodel.studio.server import ListenError, StudioSettings
from vonmodel.studio.uploads import MAX_PHOTO_BYTES, MAX_UPLOADS, PIECE_COLOURS


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def on_white(answer):
    return harness.on_white(io.BytesIO(answer.body))


def photo_file(draw=True):
    """A red box on white, as JPEG; without it, plain white."""
    picture = np.full((120, 160, 3), 250, dtype=np.uint8)
    if draw:
        picture[30:95, 50:110] = (180, 40, 30)
        picture[40:60, 60:80] = (40, 60, 150)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def test_the_run_is_described(studio, tiny_run):
    told = studio.ask("/api/run").json
    assert told["class"] == "chair"
    assert [each["name"] for each in told["checkpoints"]] == ["joint-00000010", "joint-00000020"]
    assert told["model"]["resolution"] == 32
    assert told["problems"] == []
    assert told["limits"]["photo_bytes"] == MAX_PHOTO_BYTES


def test_a_view_is_what_the_model_shows(studio, tiny_run, tiny_data):
    strip = on_white(studio.ask("/api/view?shape=7&texture=3&azimuth=40&elevation=20"))
    assert strip.shape == (32, 96, 3)
    session = ModelSession(open_model(tiny_run, data=tiny_data))
    shape, texture = session.shape(7), session.texture(3)
    angles = np.radians([40.0, 20.0])
    image = to_pixels(session.image(shape, *angles, texture)).transpose(1, 2, 0)
    silhouette = session.sketch(shape, *angles).silhouette[0, 0].numpy()
    assert np.abs(strip[:, :32] - image.astype(int)).max() <= 1
    np.testing.assert_allclose(strip[:, 32:64, 0] / 255.0, 1.0 - silhouette, atol=0.003)
    answer = studio.ask("/api/image?shape=7&texture=3&azimuth=40&elevation=20")
    assert np.abs(on_white(answer) - image.astype(int)).max() <= 1


def test_each_part_of_a_link_changes_what_is_seen(studio):
    base = {"checkpoint": "joint-00000020", "shape": "1", "texture": "1", "azimuth": "10", "elevation": "10"}
    other = {"checkpoint": "joint-00000010", "shape": "2", "texture": "2", "azimuth": "60", "elevation": "40"}

    def view(state):
        return pixels(studio.ask("/api/view?" + "&".join(f"{name}={value}" for name, value in state.items())))

    seen = view(base)
    np.testing.assert_array_equal(view(base), seen)
    for name, value in other.items():
        assert (view(base | {name: value}) != seen).any(), name
    np.testing.assert_array_equal(view(base | {"shape-to": "9"}), seen)
    assert (view(base | {"shape-to": "9", "shape-mix": "0.5"}) != seen).any()
    np.testing.assert_array_equal(view(base | {"shape-to": "9", "shape-mix": "1"}), view(base | {"shape": "9"}))


def test_a_surface_is_a_glb(studio):
    answer = studio.ask("/api/surface?shape=7")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "model/gltf-binary"
    magic, version, length = struct.unpack("<4sII", answer.body[:12])
    assert (magic, version, length) == (b"glTF", 2, len(answer.body))


def test_a_surface_comes_as_any_mesh_file(studio):
    starts = {"glb": b"glTF", "obj": b"o shape\n", "ply": b"ply\n", "stl": b"", "usdz": b"PK"}
    assert starts.keys() == MESH_TYPES.keys()
    for format, start in starts.items():
        answer = studio.ask(f"/api/mesh.{format}?shape=7&texture=3")
        assert answer.status == 200, format
        assert answer.headers["Content-Type"] == MESH_TYPES[format]
        assert answer.body.startswith(start)
    assert studio.ask("/api/mesh.fbx").status == 404


def test_a_painted_surface_has_the_colours_of_its_texture(studio):
    def colours(texture):
        body = studio.ask(f"/api/painted?shape=7&texture={texture}").body
        length = struct.unpack("<I", body[12:16])[0]
        scene = json.loads(body[20 : 20 + length])
        place = scene["accessors"][scene["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
        start = 28 + length + scene["bufferViews"][place["bufferView"]]["byteOffset"]
        return np.frombuffer(body, "<f4", 3 * place["count"], start)

    assert np.ptp(colours(1)) > 0
    assert (colours(1) != colours(2)).any()


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/view?azimuth=NaN", 400, "azimuth goes from -360 to 360"),
        ("/api/view?shape=99999999999", 400, "out of range"),
        ("/api/view?shape=~AAAA", 400, "copy the whole link"),
        ("/api/view?texture=~AACAPw", 400, "a texture code of this model is 8 finite numbers"),
        ("/api/view?checkpoint=joint-00000099", 409, "it has: joint-00000010, joint-00000020"),
        ("/api/view?checkpoint=..%2f..%2fx", 400, "not the name of a checkpoint"),
        ("/api/view?client=a&turn=x", 400, "whole number"),
        ("/api/view?shape=%ff%fe", 400, ""),
        ("/api/sheets/nothing-1.png", 404, "nothing under this address"),
        ("/api/nothing", 404, "nothing under this address"),
        ("/../../../../etc/passwd", 403, ""),
    ],
)
def test_bad_requests_get_a_message(studio, path, status, says):
    answer = studio.ask(path)
    assert answer.status == status
    assert says in answer.json["error"]
    assert studio.ask("/api/view").status == 200


def test_methods_that_there_are_not(studio):
    assert studio.ask("/api/view", method="POST").status == 405
    assert "error" in studio.ask("/api/run", method="DELETE").json


def test_other_hosts_and_origins_get_nothing_anywhere(studio):
    for path in (
        "/",
        "/studio.js",
        "/common.css",
        "/api/run",
        "/api/view",
        "/api/surface",
        "/api/training",
        "/api/x",
    ):
        assert studio.ask(path, headers={"Host": "evil.example"}).status == 403
        assert studio.ask(path, headers={"Origin": "http://evil.example"}).status == 403
    upload = studio.ask("/api/photos", method="POST", body=photo_file(), headers={"Origin": "http://evil.example"})
    assert upload.status == 403


def test_every_answer_keeps_other_sites_out(studio):
    for path in ("/", "/studio.js", "/api/run", "/api/view", "/api/nothing"):
        headers = studio.ask(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_photo_gives_its_texture(studio):
    found = studio.ask("/api/photos", method="POST", body=photo_file()).json
    assert found["picture"].startswith("data:image/png;base64,")
    assert found["mask_origin"] == "plain"
    seen = studio.ask(f"/api/view?texture={found['texture']}")
    assert seen.status == 200
    assert seen.body != studio.ask("/api/view").body
    assert studio.ask("/api/photos", method="POST", body=photo_file()).json == found


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (photo_file(draw=False), 422, "this photo cannot be used: "),
        (b"", 422, "the file is empty"),
        (b"no photo at all", 422, "not a supported photo format"),
        (photo_file()[:500], 422, "this photo cannot be used"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 422, "not a supported photo format"),
        (bytes(MAX_PHOTO_BYTES + 1), 413, "20 MB"),
    ],
)
def test_bad_photos_get_a_message(studio, content, status, says):
    answer = studio.ask("/api/photos", method="POST", body=content)
    assert answer.status == status
    assert says in answer.json["error"]


def test_a_refused_photo_comes_with_the_pieces_that_were_found(studio):
    picture = np.full((120, 160, 3), 250, dtype=np.uint8)
    picture[20:60, 20:60], picture[70:115, 95:150] = (180, 40, 30), (40, 60, 150)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    answer = studio.ask("/api/photos", method="POST", body=file.getvalue())
    assert answer.status == 422
    assert "2 pieces" in answer.json["error"]
    head, _, content = answer.json["pieces"].partition(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert shown.shape == (120, 160, 4)
    larger, smaller = tuple(shown[90, 120]), tuple(shown[40, 40])
    assert larger == PIECE_COLOURS[0]
    assert smaller == PIECE_COLOURS[1]
    assert shown[5, 5, 3] == 0
    assert np.abs((shown[..., 3] > 0) ^ (picture < 200).any(axis=2)).sum() < 400  # as wide as an edge
    assert "pieces" not in studio.ask("/api/photos", method="POST", body=photo_file(draw=False)).json


def test_a_photo_with_too_many_pixels_is_not_decoded(studio):
    file = io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(file, "PNG")
    answer = studio.ask("/api/photos", method="POST", body=file.getvalue())
    assert answer.status == 422
    assert "pixels are more than" in answer.json["error"]


def test_a_photo_that_does_not_say_its_length(studio):
    whole = photo_file()
    answer = studio.ask("/api/photos", method="POST", body=iter([whole[:300], whole[300:]]))
    assert answer.status == 200


def test_photos_do_not_fill_the_memory(studio):
    host, port = studio.netloc.split(":")
    head = f"POST /api/photos HTTP/1.1\r\nHost: {studio.netloc}\r\nContent-Length: 5000000\r\n"
    coming = [socket.create_connection((host, int(port)), timeout=harness.TIMEOUT_S) for _ in range(MAX_UPLOADS)]
    try:
        for connection in coming:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it is accepted
            connection.sendall(b"x")
        answer = studio.ask("/api/photos", method="POST", body=photo_file())
        assert answer.status == 503
        assert "try again in a moment" in answer.json["error"]
        assert answer.headers["Retry-After"] == "1"
        assert studio.ask("/api/view").status == 200
    finally:
        for connection in coming:
            connection.close()
    harness.wait_until(lambda: studio.ask("/api/photos", method="POST", body=photo_file()).status == 200)


def test_broken_http_does_not_end_it(studio):
    host, port = studio.netloc.split(":")
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000, b"\n" * 50):
        connection = socket.create_connection((host, int(port)), timeout=harness.TIMEOUT_S)
        with connection, suppress(ConnectionError):  # the studio may hang up before it has read all of it
            connection.sendall(nonsense)
    assert studio.ask("/api/run").status == 200


def test_two_hundred_clients_at_once_are_all_answered(studio):
    def ask(number):
        return studio.ask(f"/api/view?shape={number % 5}&azimuth={number % 20}&client=c{number}&turn=1")

    with ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(ask, range(200)))
    assert {answer.status for answer in answers} <= {200, 503}
    # How many more than these come in time is the speed of the machine.
    assert sum(answer.status == 200 for answer in answers) >= SHORT_QUEUE
    assert all("try again" in answer.json["error"] for answer in answers if answer.status == 503)
    assert studio.ask("/api/view").status == 200


def test_training_is_reported_and_unchanged_reports_are_not_sent_again(studio, tiny_run):
    report = {
        "stage": "shape",
        "step": 5,
        "steps": 9,
        "losses": {"critic/a": 0.5},
        "images_per_s": 3,
        "seconds_left": 1,
    }
    (tiny_run / "stats.jsonl").write_text(json.dumps(report) + "\n")
    first = studio.ask("/api/training")
    assert first.json["stages"]["shape"]["losses"] == {"critic/a": [0.5]}
    again = studio.ask("/api/training", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    with (tiny_run / "stats.jsonl").open("a") as file:
        file.write(json.dumps(report | {"step": 9}) + "\n")
    assert studio.ask("/api/training", headers={"If-None-Match": first.headers["ETag"]}).json["latest"]["step"] == 9


def test_before_the_first_checkpoint_and_after_it(open_studio, tiny_run, tiny_data):
    hidden = tiny_run / "hidden"
    (tiny_run / "checkpoints").rename(hidden)
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        assert studio.ask("/api/run").json["checkpoints"] == []
        answer = studio.ask("/api/view")
        assert answer.status == 409
        assert "no checkpoint yet" in answer.json["error"]
        hidden.rename(tiny_run / "checkpoints")
        assert studio.ask("/api/view").status == 200
        assert len(studio.ask("/api/run").json["checkpoints"]) == 2


def test_damaged_and_foreign_checkpoints_are_named(open_studio, tiny_run, tiny_data):
    newest = tiny_run / "checkpoints" / "joint-00000020"
    said = json.loads((newest / "checkpoint.json").read_text())
    (newest / "networks.safetensors").write_bytes(b"half")
    shutil.copytree(newest, newest.with_name("joint-00000030"))
    (newest.with_name("joint-00000030") / "checkpoint.json").write_text(json.dumps(said | {"format": 99}))
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        told = studio.ask("/api/run").json
        assert [each["name"] for each in told["checkpoints"]] == ["joint-00000010", "joint-00000020"]
        assert "has format 99" in told["problems"][0]
        damaged = studio.ask("/api/view")
        assert damaged.status == 409
        assert "networks.safetensors is damaged" in damaged.json["error"]
        assert studio.ask("/api/view?checkpoint=joint-00000010").status == 200


def test_a_run_that_vanishes_is_said_to(studio, tiny_run):
    assert studio.ask("/api/view").status == 200
    shutil.rmtree(tiny_run)
    assert "is not a run" in studio.ask("/api/run").json["problems"][0]
    assert studio.ask("/api/training").status == 200
    assert studio.ask("/api/view").status == 409


def test_a_bug_is_answered_logged_and_survived(studio, monkeypatch, caplog):
    def fail(*_):
        raise IndexError("a bug")

    monkeypatch.setattr("vonmodel.studio.routes.render_strip", fail)
    answer = studio.ask("/api/view")
    assert answer.status == 500
    assert "which is a bug" in answer.json["error"]
    assert "a bug" in caplog.text
    assert studio.ask("/api/surface").status == 200


def test_a_port_in_use_is_named(open_studio, studio, tiny_run):
    port = int(studio.netloc.split(":")[1])
    settings = StudioSettings(run=tiny_run, data=Path("data"), port=port)
    with pytest.raises(ListenError, match=f"port {port}.*choose another port"), open_studio(settings):
        pass
