import json

import pytest

SMALL = ("edit", "--count", "1", "--film", "none")


def test_several_objects_in_one_call(von, tmp_path):
    result = von(
        *SMALL, "--shape", "7", "--shape", "7:2", "--shape", "shape1", "--azimuth", "40", "--elevation", "20"
    )
    assert result.exit_code == 0, result.output
    page = result.stdout.splitlines()[-1]
    assert page == "runs/chair/edited/joint-00000020-seed7+seed7-2+shape1/index.html"
    said = json.loads((tmp_path / page).with_name("result.json").read_text())
    assert [each["shape"] for each in said["objects"]] == ["seed 7", "seed 7:2", "chair shape1"]
    assert [each["azimuth_deg"] for each in said["objects"]] == pytest.approx([40.0] * 3)


def test_json_goes_to_standard_output_only(von):
    said = json.loads(von(*SMALL, "--json", "--output", "out").stdout)
    assert said["page"] == "out/index.html"
    assert said["objects"][0]["shape"] == "seed 0"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--run", "nowhere"), 1, "nowhere is not a run"),
        (("--shape", "-3"), 2, "'-3' is not a seed"),
        (("--shape", "4294967296"), 2, "out of range"),
        (("--shape", "nan"), 1, "no prepared chair 'nan'"),
        (("--texture", "7:0"), 2, "out of range"),
        (("--azimuth", "nan"), 2, "not a finite number"),
        (("--azimuth", "inf"), 2, "--azimuth"),
        (("--elevation", "91"), 2, "--elevation"),
        (("--shape", "sofa"), 1, "no prepared chair 'sofa'"),
        (("--shape", "sofa"), 1, "--shape sofa is neither a seed"),
        (("--azimuth", "left"), 2, "'left' is not a valid number."),
        (("--checkpoint", "7"), 1, "--checkpoint: runs/chair has no checkpoint '7'; it has: joint-00000010"),
        (("--data", "nowhere", "--shape", "sofa"), 1, "sofa is neither a seed"),
        (("--data", "nowhere", "--shape", "sofa"), 1, "nowhere has no shapes of class 'chair' (--data"),
        (("--shape", "."), 1, "--shape . is not a shape"),
        (("--shape", "./nowhere"), 1, "--shape ./nowhere: no such file or folder"),
        (("--film", "avi"), 2, "--film"),
        (("--output", "."), 2, "--output . is not empty"),
        (("--output", ".", "--overwrite"), 1, "holds something other than an older result"),
    ],
)
def test_mistakes_are_named(von, arguments, code, message):
    result = von(*SMALL, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_a_half_written_checkpoint_is_named_and_the_one_before_it_taken(von, tiny_run, caplog):
    newest = tiny_run / "checkpoints" / "joint-00000020"
    weights = newest / "networks.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = von(*SMALL)
    assert result.exit_code == 0
    assert "joint-00000020/networks.safetensors is damaged" in caplog.text
    assert "passed over" in caplog.text
    assert "joint-00000010" in result.stdout
    (newest / "checkpoint.json").write_text('{"format": 99}')
    assert "has format 99; this version of VON reads 1" in von(*SMALL).stderr
