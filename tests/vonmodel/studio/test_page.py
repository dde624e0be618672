"""The files of the page: nothing inline, nothing from other sites, and an unmodified viewer library."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import vonmodel.studio

PAGE = Path(vonmodel.studio.__file__).parent / "page"
OWN = sorted([*PAGE.glob("*.js"), *PAGE.glob("*.css"), *PAGE.glob("*.html")])


def test_the_viewer_is_the_published_one():
    listed = dict(
        re.findall(r"^\| `([\w.]+)` \| .* \| `([0-9a-f]{64})` \|$", (PAGE / "three" / "README.md").read_text(), re.M)
    )
    present = {file.name for file in (PAGE / "three").iterdir()} - {"README.md"}
    assert set(listed) == present
    for name, digest in listed.items():
        assert hashlib.sha256((PAGE / "three" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_nothing_comes_from_elsewhere(file):
    addresses = set(re.findall(r"https?://[^\s\"')]+", file.read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_nothing_is_inline():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", html)


def test_every_control_has_a_name():
    html = (PAGE / "index.html").read_text()
    for tag in re.findall(r"<(?:canvas|progress|nav|section)[^>]*>", html):
        assert "aria-label" in tag, tag
    for image in re.findall(r"<img[^>]*>", html):
        assert "alt=" in image


def test_every_part_that_a_script_asks_for_is_there():
    html = (PAGE / "index.html").read_text()
    ids, made = set(re.findall(r'id="([\w-]+)"', html)), {"checkpoint"}
    for script in PAGE.glob("*.js"):
        asked = set(re.findall(r'part\("([\w-]+)"\)', script.read_text()))
        assert not re.search(r"innerHTML|eval\(|document\.write", script.read_text()), script.name
        if script.name != "codes.js":  # whose parts have roles
            assert asked <= ids | made, script.name


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not there to run the page's logic")
def test_links_are_read_and_written_alike(tmp_path):
    (tmp_path / "state.mjs").write_text((PAGE / "state.js").read_text())
    check = tmp_path / "check.mjs"
    check.write_text("""
import assert from "node:assert";
import { History, INITIAL, isCode, link, parse } from "./state.mjs";
const given = "checkpoint=joint-00000020&shape=7:3&shape-to=9&shape-mix=0.3&texture=~AACAPw&azimuth=-40&elevation=20";
const stored = "shape=@0123456789abcdef01234567&texture=0&azimuth=30&elevation=20";
assert.equal(link(parse(stored).state), stored);
assert.equal(link(parse("#" + given).state), given);
assert.deepEqual(parse("").state, INITIAL);
for (const bad of ["azimuth=NaN", "azimuth=1e9", "elevation= ", "shape=-1", "shape=4294967296", "shape-mix=2",
                   "odd=1", "texture=7:0", "texture=@0123456789abcdef01234567",
                   "checkpoint=../x", "shape=<script>"]) {
  const { state, complaints } = parse(bad);
  assert.deepEqual(state, INITIAL, bad);
  assert.equal(complaints.length, 1, bad);
}
assert(isCode("4294967295:10000") && !isCode("7:10001") && !isCode("") && !isCode("~"));
let told = 0;
const history = new History("a", () => told++);
history.note("a"); history.note("b"); history.note("c");
assert.equal(history.step(-1), "b");
assert.equal(history.step(-1), "a");
assert.equal(history.step(-1), null);
assert(!history.canUndo && history.canRedo);
assert.equal(history.step(1), "b");
history.note("d");
assert.equal(history.step(1), null);
assert.equal(history.step(-1), "b");
assert.equal(told, 7);
for (let number = 0; number < 500; number++) history.note(String(number));
assert.equal(history.states.length, 200);
""")
    done = subprocess.run(["node", str(check)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
