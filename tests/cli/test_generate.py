import json

import pytest
import trimesh

from vonmodel.builtin import pack_builtin
from vonmodel.inference import generate as generation

SMALL = ("generate", "--count", "1", "--view-count", "1", "--texture-count", "1")


def test_the_last_line_is_the_page_to_open(von, tmp_path):
    result = von(*SMALL)
    assert result.exit_code == 0, result.output
    page = result.stdout.splitlines()[-1]
    assert page == "runs/chair/generated/joint-00000020-seed0/index.html"
    assert (tmp_path / page).is_file()
    assert "1 image and 1 mesh of checkpoint joint-00000020" in result.stdout
    mesh = trimesh.load((tmp_path / page).parent / "shape-01" / "mesh.glb", force="mesh")
    assert len(mesh.faces)


@pytest.mark.parametrize("place", [(), ("--output", "out")])
def test_the_same_command_finishes_the_meshes_of_one_that_was_killed(von, tmp_path, monkeypatch, place):
    command = ("generate", "--count", "2", "--view-count", "1", "--texture-count", "1", *place)
    write_mesh_file, made = generation.write_mesh_file, []

    def killed_at_the_second(*given):
        if made:
            raise KeyboardInterrupt
        made.append(given)
        return write_mesh_file(*given)

    with monkeypatch.context() as patch:
        patch.setattr(generation, "write_mesh_file", killed_at_the_second)
        assert von(*command).exit_code == 130
    page = tmp_path / ("out" if place else "runs/chair/generated/joint-00000020-seed0") / "index.html"
    assert "load this page again" in page.read_text()
    result = von(*command)
    assert result.exit_code == 0, result.output
    assert "meshes of a generation that was stopped follow" in result.stderr
    assert tmp_path / result.stdout.splitlines()[-1] == page
    said = json.loads((page.parent / "generated.json").read_text())
    assert [shape["mesh"] for shape in said["shapes"]] == ["shape-01/mesh.glb", "shape-02/mesh.glb"]
    # Complete, it is an older result like any other.
    assert von(*command).exit_code == (2 if place else 0)
    assert [each.name for each in sorted(page.parent.parent.glob("joint*"))][1:] == (
        [] if place else ["joint-00000020-seed0-2"]
    )


def test_json_goes_to_standard_output_only(von, tmp_path):
    result = von(*SMALL, "--json", "--output", "out", "--azimuth", "30", "--elevation", "10", "--seed", "4")
    said = json.loads(result.stdout)
    assert said["folder"] == "out"
    assert said["viewpoints_deg"] == [[30.0, 10.0]]
    assert said["seed"] == 4
    assert json.loads((tmp_path / "out" / "generated.json").read_text())["shapes"] == said["shapes"]


def test_run_class_and_checkpoint_choose_the_model(von):
    first = json.loads(von(*SMALL, "--json", "--class", "chair", "--checkpoint", "joint-00000010").stdout)
    assert first["checkpoint"]["step"] == 10
    second = json.loads(von(*SMALL, "--json", "--run", "runs/chair").stdout)
    assert second["checkpoint"]["step"] == 20


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--run", "nowhere"), 1, "nowhere is not a run"),
        (("--runs", "nowhere"), 1, "nowhere holds no run with a checkpoint"),
        (("--checkpoint", "joint-7"), 1, "no checkpoint 'joint-7'; it has: joint-00000010, joint-00000020"),
        (("--class", "chiar"), 2, "did you mean 'chair'?"),
        (("--class", "car"), 1, "car is not a run"),
        (("--class", "car", "--run", "runs/chair"), 1, "this model is of chair, not of car"),
        (("--level", "1"), 2, "--level"),
        (("--count", "0"), 2, "--count"),
        (("--device", "tpu"), 2, "use auto, cpu, cuda, cuda:N or mps"),
        (("--device", "cuda:99"), 2, "CUDA devices"),
        (("--output", "."), 2, "--output . is not empty"),
        (("--output", ".", "--overwrite"), 1, "holds something other than an older result"),
        (("--output", "runs/chair/config.json/out"), 1, "Not a directory"),
    ],
)
def test_mistakes_are_named(von, arguments, code, message):
    result = von(*SMALL, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_the_class_file_serves_where_there_is_no_data(von):
    result = von(*SMALL, "--data", "nowhere")
    assert result.exit_code == 0, result.output


def test_without_a_run_the_built_in_model_serves_and_says_so(von, tmp_path):
    pack_builtin(tmp_path / "runs" / "chair", tmp_path / "package" / "chair.safetensors", {})
    result = von(*SMALL, "--runs", "mine")
    assert result.exit_code == 0, result.output
    assert "No run of your own in mine: this is the built-in model builtin:chair" in result.stderr
    assert result.stdout.splitlines()[-1] == "generated/joint-00000020-seed0/index.html"
    named = von(*SMALL, "--run", "builtin:chair", "--output", "out")
    assert named.exit_code == 0, named.output
    assert "No run" not in named.stderr
    other = von(*SMALL, "--run", "builtin:sofa")
    assert other.exit_code == 1
    assert "the package has builtin:chair" in other.stderr
    # An own run takes precedence, and a class without any model is an error as before.
    assert "runs/chair/generated" in von(*SMALL).stdout
    assert "car is not a run" in von(*SMALL, "--class", "car").stderr


def test_loose_pieces_and_truncation_are_options_of_what_is_drawn(von, tmp_path):
    said = json.loads(von(*SMALL, "--json", "--pieces", "all", "--truncation", "0.5").stdout)
    assert said["sampling"] == {"pieces": "all", "truncation": 0.5}
    plain = json.loads(von(*SMALL, "--json", "--output", "plain").stdout)
    assert plain["sampling"] == {"pieces": "largest", "truncation": 0.7}
    assert said["shapes"][0]["code"] == pytest.approx([0.5 / 0.7 * each for each in plain["shapes"][0]["code"]])
    assert von(*SMALL, "--truncation", "0").exit_code == 2


def test_defaults_come_from_the_settings_file(von, tmp_path):
    (tmp_path / "von.toml").write_text('[generate]\nshapes = 2\nclass = "chair"\n')
    said = json.loads(
        von("generate", "--view-count", "1", "--texture-count", "1", "--json", "--run", "runs/chair").stdout
    )
    assert len(said["shapes"]) == 2
