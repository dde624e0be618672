"""Solids: flood fill and votes of lines, on closed, broken, open, nested and intentionally hollow surfaces."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, convolve, label

from vondata.frames import voxel_to_object
from vondata.shapes import voxelize as bits
from vondata.shapes.cleaning import find_topology
from vondata.shapes.solid import (
    AXES,
    BODY_DIAGONALS,
    FACE_DIAGONALS,
    Votes,
    add_votes,
    decide,
    fill_solid,
    find_crossings,
)
from vondata.shapes.voxelize import surface_voxels, to_voxels

DIRECTIONS = (*AXES, *FACE_DIAGONALS, *BODY_DIAGONALS)


def grids():
    return st.tuples(st.integers(3, 70), st.floats(0.1, 0.7), st.integers(0, 2**32 - 1)).map(
        lambda drawn: np.random.default_rng(drawn[2]).random((drawn[0],) * 3) < drawn[1]
    )


def centres(resolution):
    ticks = voxel_to_object(np.arange(resolution), resolution)
    return np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)


@settings(max_examples=25)
@given(grids())
def test_packing_is_lossless(grid):
    np.testing.assert_array_equal(bits.unpack(bits.pack(grid), len(grid)), grid)


@settings(max_examples=25)
@given(grids())
def test_the_flood_finds_what_labels_find(cells):
    """Brute force: label the free cells with a border of free cells around them."""
    labels, _ = label(np.pad(~cells, 1, constant_values=True))
    expected = (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    found = bits.unpack(bits.flooded_complement(bits.pack(cells), len(cells)), len(cells))
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=15)
@given(grids())
def test_opening_is_erosion_and_dilation(cells):
    cross = np.zeros((5, 5, 5), dtype=bool)
    cross[:, 2, 2] = cross[2, :, 2] = cross[2, 2, :] = True
    padded = np.pad(cells, 4, constant_values=True)
    expected = binary_dilation(binary_erosion(padded, cross, border_value=1), cross)[4:-4, 4:-4, 4:-4]
    found = bits.unpack(bits.opened(~bits.pack(~cells)), len(cells))  # set beyond the grid, too
    inner = np.s_[2:-2, 2:-2, 2:-2]  # nearer the border it makes a difference what is said to lie outside
    np.testing.assert_array_equal(found[inner], expected[inner])


@settings(max_examples=25)
@given(grids(), st.integers(0, 2**32 - 1))
def test_settling_counts_neighbours(voted, seed):
    enclosed = np.random.default_rng(seed).random(voted.shape) < 0.2
    cross = np.zeros((3, 3, 3), dtype=int)
    cross[[0, 2, 1, 1, 1, 1], [1, 1, 0, 2, 1, 1], [1, 1, 1, 1, 0, 2]] = 1
    count = convolve((voted | enclosed).astype(int), cross, mode="constant")
    settled = bits.unpack(bits.settle(bits.pack(voted), bits.pack(enclosed)), len(voted))
    np.testing.assert_array_equal(settled, enclosed | (voted & (count >= 3)) | (count >= 5))


SHAPES = {
    "sphere": (trimesh.creation.icosphere(4, radius=0.7), lambda p: np.linalg.norm(p, axis=-1) - 0.7),
    "box": (
        trimesh.creation.box((1.0, 0.8, 0.6)),
        lambda p: (np.abs(p) - np.array([0.5, 0.4, 0.3])).max(axis=-1),
    ),
    "torus": (
        trimesh.creation.torus(0.6, 0.25, major_sections=120, minor_sections=60),
        lambda p: np.hypot(np.hypot(p[..., 0], p[..., 1]) - 0.6, p[..., 2]) - 0.25,
    ),
}


def solid_of(mesh, resolution):
    vertices, faces = to_voxels(np.asarray(mesh.vertices), resolution), np.asarray(mesh.faces, dtype=np.int64)
    surface = surface_voxels(vertices, faces, resolution)
    return fill_solid(vertices, faces, find_topology(faces), surface), surface


@pytest.mark.parametrize("resolution", [32, 33, 65])
@pytest.mark.parametrize("name", SHAPES)
def test_closed_shapes_are_filled(name, resolution):
    mesh, signed = SHAPES[name]
    solid, surface = solid_of(mesh, resolution)
    inside = signed(centres(resolution)) < 0
    np.testing.assert_array_equal(solid.occupancy & ~surface, inside & ~surface)
    assert solid.occupancy[surface].all()
    assert solid.enclosed_voxels == np.count_nonzero(inside & ~surface)
    assert solid.leaked_voxels == 0
    assert not solid.leak


@pytest.mark.parametrize("resolution", [32, 33, 65])
@pytest.mark.parametrize("name", SHAPES)
def test_every_direction_knows_the_inside_of_a_closed_shape(name, resolution):
    """Away from the surface all thirteen directions agree with the formula, also where edges lie on voxel centres."""
    mesh, signed = SHAPES[name]
    vertices, faces = to_voxels(np.asarray(mesh.vertices), resolution), np.asarray(mesh.faces, dtype=np.int64)
    surface = surface_voxels(vertices, faces, resolution)
    inside = signed(centres(resolution)) < 0
    for direction in DIRECTIONS:
        votes = Votes.none(resolution)
        add_votes(votes, find_crossings(vertices, faces, direction, resolution), bits.pack(surface), direction)
        yes, no = (bits.unpack(count[0], resolution) for count in (votes.inside, votes.outside))
        np.testing.assert_array_equal(yes[~surface], inside[~surface])
        np.testing.assert_array_equal(no[~surface], ~inside[~surface])


def test_votes_are_counted_by_voxel():
    """Brute force over the thirteen directions of an open shape: parities on both sides of each voxel."""
    mesh, _ = SHAPES["sphere"]
    resolution = 24
    vertices = to_voxels(np.asarray(mesh.vertices), resolution)
    faces = np.asarray(mesh.faces, dtype=np.int64)[np.random.default_rng(0).random(len(mesh.faces)) < 0.8]
    surface = surface_voxels(vertices, faces, resolution)
    votes, crossings = Votes.none(resolution), {}
    for direction in DIRECTIONS:
        packed = find_crossings(vertices, faces, direction, resolution)
        crossings[direction] = bits.unpack(packed, resolution)
        add_votes(votes, packed, bits.pack(surface), direction)
    counts = [
        sum(bits.unpack(plane, resolution).astype(int) << bit for bit, plane in enumerate(planes))
        for planes in (votes.inside, votes.outside)
    ]
    for voxel in np.random.default_rng(1).integers(0, resolution, (200, 3)):
        assert tuple(count[tuple(voxel)] for count in counts) == _count_by_hand(voxel, crossings)


def _count_by_hand(voxel, crossings):
    inside = outside = 0
    for direction, crossed in crossings.items():
        back = _line(voxel, -np.array(direction), len(crossed))
        ahead = _line(voxel, np.array(direction), len(crossed))
        before = sum(crossed[cell] for cell in [tuple(voxel), *back]) % 2
        after = sum(crossed[cell] for cell in ahead) % 2
        inside += bool(before and after)
        outside += not before and not after
    return inside, outside


@pytest.mark.parametrize("resolution", [24, 64, 70])
def test_sight_is_measured_in_thirteen_directions(resolution):
    """A cell under a roof sees the sky only past it; with no surface at all everything sees it on all half lines."""
    nothing = np.zeros((resolution,) * 3, dtype=bool)
    roof = nothing.copy()
    roof[:, :, resolution - 3] = True
    for surface, expected in ((nothing, 17), (roof, 8)):
        votes, packed = Votes.none(resolution), bits.pack(surface)
        for direction in DIRECTIONS:
            add_votes(votes, np.zeros_like(packed), packed, direction)
        exposed = sum(bits.unpack(plane, resolution).astype(int) << bit for bit, plane in enumerate(votes.exposed))
        middle = resolution // 2
        assert exposed[middle, middle, resolution - 5] == expected


def _line(voxel, step, size):
    cells, cell = [], voxel + step
    while np.all((cell >= 0) & (cell < size)):
        cells.append(tuple(cell))
        cell = cell + step
    return cells


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 6))
def test_decisions_compare_counts(seed, least, most):
    rng = np.random.default_rng(seed)
    counts = [rng.integers(0, 14, (6, 6, 6)), rng.integers(0, 14, (6, 6, 6)), rng.integers(0, 18, (6, 6, 6))]
    planes = [
        np.stack([bits.pack((count >> bit & 1).astype(bool)) for bit in range(width)])
        for count, width in zip(counts, (4, 4, 5), strict=True)
    ]
    decided = bits.unpack(decide(Votes(*planes), min_inside=least, max_exposed=most), 6)
    inside, outside, exposed = counts
    np.testing.assert_array_equal(decided, (inside > outside) & (inside >= least) & (exposed <= most))


def damaged(mesh, rng, *, dropped=0.0, flipped=0.0):
    faces = np.asarray(mesh.faces, dtype=np.int64)
    faces = faces[rng.random(len(faces)) >= dropped]
    faces = np.where(rng.random((len(faces), 1)) < flipped, faces[:, ::-1], faces)
    return trimesh.Trimesh(mesh.vertices, rng.permutation(faces), process=False)


def overlap(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("damage", "least"),
    [({"flipped": 0.3}, 1.0), ({"flipped": 1.0}, 1.0), ({"dropped": 0.02}, 0.99), ({"dropped": 0.1}, 0.97)],
    ids=["flipped", "inverted", "dropped 2 %", "dropped 10 %"],
)
def test_damage_changes_little(name, damage, least):
    mesh = SHAPES[name][0].subdivide() if name == "box" else SHAPES[name][0]
    mesh = mesh.subdivide().subdivide() if name == "box" else mesh
    whole, _ = solid_of(mesh, 64)
    broken, _ = solid_of(damaged(mesh, np.random.default_rng(5), **damage), 64)
    assert overlap(whole.occupancy, broken.occupancy) >= least


def plates(*missing):
    """A box of six single plates without some of them, by the axis and side they lie on."""
    box = trimesh.creation.box((1.2, 1.0, 0.8))
    sides = {(axis, sign): box.face_normals[:, axis] * sign < 0.5 for axis in range(3) for sign in (1, -1)}
    kept = np.all([sides[each] for each in missing], axis=0)
    return trimesh.Trimesh(box.vertices, box.faces[kept], process=False)


def inner_voxels(mesh, resolution=64):
    """How many voxels are filled inside a shape made of the box's plates, and how many in the whole box."""
    whole, shell = solid_of(trimesh.creation.box((1.2, 1.0, 0.8)), resolution)
    solid, _ = solid_of(mesh, resolution)
    inside = whole.occupancy & ~shell
    return solid, np.count_nonzero(solid.occupancy & inside), np.count_nonzero(inside)


def test_a_box_without_floor_is_solid():
    solid, filled, whole = inner_voxels(plates((2, -1)))
    assert filled == whole
    assert solid.leak
    assert solid.leaked_voxels > 0
    assert solid.enclosed_voxels == 0


@pytest.mark.parametrize(
    ("open_sides", "most"),
    [
        (((2, 1),), 0.05),
        (((1, 1),), 0.02),
        (((1, 1), (2, 1)), 0.02),
        (((0, 1), (0, -1)), 0.05),
        (((1, 1), (1, -1), (2, 1)), 0.02),
    ],
    ids=["bucket", "shelf", "seat", "tunnel", "channel"],
)
def test_what_can_be_looked_into_is_hollow(open_sides, most):
    """Except corners at the far end, from which only one direction leads out."""
    _, filled, whole = inner_voxels(plates(*open_sides))
    assert filled <= most * whole


def turned(profile, *, bottom=False, lid=False, corners=48):
    """A single sheet around the z axis through radii at heights, with an optional bottom and lid."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    rings = [np.stack([r * np.cos(angles), r * np.sin(angles), np.full(corners, z)], axis=1) for r, z in profile]
    ends = np.array([[0, 0, profile[0][1]], [0, 0, profile[-1][1]]])
    one, other = np.arange(corners), np.roll(np.arange(corners), -1)
    faces = []
    for ring in range(len(profile) - 1):
        low, high = ring * corners, (ring + 1) * corners
        faces += [np.stack([low + one, low + other, high + other], axis=1)]
        faces += [np.stack([low + one, high + other, high + one], axis=1)]
    last = len(profile) * corners
    if bottom:
        faces.append(np.stack([np.full(corners, last), other, one], axis=1))
    if lid:
        faces.append(np.stack([np.full(corners, last + 1), last - corners + one, last - corners + other], axis=1))
    return trimesh.Trimesh(np.concatenate([*rings, ends]), np.concatenate(faces), process=False)


def compartments(*, lid=False, width=0.2):
    """Five compartments side by side, open at the top, out of single sheets."""
    sheets = [[[x, 0, 0], [x, 0.8, 0], [x, 0.8, 1], [x, 0, 1]] for x in width * np.arange(6)]
    end = 5 * width
    sheets += [[[0, y, 0], [end, y, 0], [end, y, 1], [0, y, 1]] for y in (0, 0.8)]
    sheets += [[[0, 0, z], [end, 0, z], [end, 0.8, z], [0, 0.8, z]] for z in (0, 1)[: 1 + lid]]
    return trimesh.util.concatenate([trimesh.Trimesh(each, [[0, 1, 2], [0, 2, 3]], process=False) for each in sheets])


def bucket(tilt_deg=0.0, lid=False):
    mesh = turned([(0.35, 0), (0.5, 1)], bottom=True, lid=lid)
    return mesh.apply_transform(trimesh.transformations.rotation_matrix(np.radians(tilt_deg), [1, 0.3, 0]))


VESSELS = {
    "bucket": bucket,
    "tilted bucket": lambda lid=False: bucket(30.0, lid),
    "lying bucket": lambda lid=False: bucket(90.0, lid),
    "deep bucket": lambda lid=False: turned([(0.2, 0), (0.25, 1.2)], bottom=True, lid=lid),
    "narrowing bucket": lambda lid=False: turned([(0.5, 0), (0.35, 1)], bottom=True, lid=lid),
    "vase": lambda lid=False: turned(
        [(0.2, 0), (0.5, 0.3), (0.5, 0.6), (0.2, 0.9), (0.25, 1.2)], bottom=True, lid=lid
    ),
    "lampshade": lambda lid=False: turned([(0.5, 0), (0.25, 0.6)], bottom=lid, lid=lid),
    "tall lampshade": lambda lid=False: turned([(0.3, 0), (0.15, 1)], bottom=lid, lid=lid),
    "narrowing lampshade": lambda lid=False: turned([(0.5, 0), (0.12, 0.6)], bottom=lid, lid=lid),
    "bell": lambda lid=False: turned([(0.5, 0), (0.48, 0.3), (0.15, 0.6)], bottom=lid, lid=lid),
    "pipe": lambda lid=False: turned([(0.2, 0), (0.2, 1.2)], bottom=lid, lid=lid),
    "rack": compartments,
    "narrow rack": lambda lid=False: compartments(lid=lid, width=0.1),
}


def scaled(mesh, whole):
    """The mesh in the frame in which the whole one fills the unit ball."""
    middle = whole.bounds.mean(axis=0)
    radius = np.linalg.norm(whole.vertices - middle, axis=1).max()
    return trimesh.Trimesh((mesh.vertices - middle) / (1.001 * radius), mesh.faces, process=False)


@pytest.mark.parametrize("name", VESSELS)
def test_vessels_of_a_single_sheet_stay_empty(name):
    """The cavity is what a lid would enclose; without a lid almost nothing of it is filled."""
    open_mesh, closed = VESSELS[name](), VESSELS[name](lid=True)
    whole, lidded = solid_of(scaled(closed, closed), 128)
    found, _ = solid_of(scaled(open_mesh, closed), 128)
    cavity = whole.occupancy & ~lidded
    assert np.count_nonzero(cavity) > 5000
    assert np.count_nonzero(found.occupancy & cavity) < 0.02 * np.count_nonzero(cavity)


def test_a_bucket_upside_down_is_solid_as_a_car_without_floor():
    closed = turned([(0.5, 0), (0.35, 1)], bottom=True, lid=True)
    whole, shell = solid_of(scaled(closed, closed), 64)
    found, _ = solid_of(scaled(turned([(0.5, 0), (0.35, 1)], lid=True), closed), 64)
    inside = whole.occupancy & ~shell
    assert np.count_nonzero(found.occupancy & inside) > 0.98 * np.count_nonzero(inside)


def test_a_single_sheet_stays_a_sheet():
    rng = np.random.default_rng(0)
    u, v = np.meshgrid(np.linspace(-0.6, 0.6, 12), np.linspace(-0.6, 0.6, 12), indexing="ij")
    points = np.stack([u, v, 0.3 * np.sin(3 * u) + 0.1 * rng.random(u.shape)], axis=-1).reshape(-1, 3)
    cell = np.arange(144).reshape(12, 12)
    quads = np.stack([cell[:-1, :-1], cell[1:, :-1], cell[1:, 1:], cell[:-1, 1:]], axis=-1).reshape(-1, 4)
    sheet = trimesh.Trimesh(points, np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]]), process=False)
    solid, surface = solid_of(sheet, 64)
    assert np.count_nonzero(solid.occupancy & ~surface) < 0.02 * np.count_nonzero(surface)


def test_nested_and_overlapping_parts_are_one_solid():
    outer, inner = trimesh.creation.icosphere(3, radius=0.7), trimesh.creation.icosphere(3, radius=0.3)
    across = trimesh.creation.box((1.6, 0.2, 0.2))
    together = trimesh.util.concatenate([outer, inner, across])
    solid, surface = solid_of(together, 48)
    expected = solid_of(outer, 48)[0].occupancy | solid_of(across, 48)[0].occupancy
    np.testing.assert_array_equal(solid.occupancy | surface, expected | surface)


def test_a_hole_in_one_part_is_not_held_against_the_others():
    """A closed box inside an open pedestal: its faces must not spoil the pedestal's count."""
    pedestal = plates((2, -1))
    box = trimesh.creation.box((0.3, 0.3, 0.3))
    alone, _ = solid_of(pedestal, 48)
    both, _ = solid_of(trimesh.util.concatenate([pedestal, box]), 48)
    assert overlap(alone.occupancy, both.occupancy) > 0.99


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_turning_by_right_angles_turns_the_solid(seed):
    rng = np.random.default_rng(seed)
    mesh = damaged(SHAPES["torus"][0], rng, dropped=0.05)
    solid, _ = solid_of(mesh, 40)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned, _ = solid_of(trimesh.Trimesh(mesh.vertices @ quarter.T, mesh.faces, process=False), 40)
    expected = np.flip(solid.occupancy.transpose(1, 0, 2), axis=0)
    assert overlap(turned.occupancy, expected) > 0.995  # edges that run through voxel centres may fall differently
