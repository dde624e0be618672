"""What is put on the body of a car: wheels, lights, bumpers, grille, mirrors, plates, handles, rails."""

from __future__ import annotations

import numpy as np

from vondata.demo.car_body import half_width, top_height
from vondata.demo.car_design import Car
from vondata.demo.mesh import Mesh, mirrored_pair
from vondata.demo.primitives import box, cushion, lathe, rounded_path, tube

# Turns the z axis to x: a lathe's axis becomes an axle.
ALONG_X = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def build_fittings(car: Car) -> list[Mesh]:
    """All parts that are not the body's shell."""
    return [*_wheels(car), *_under_body(car), *_front(car), *_rear(car), *_sides(car), *_rails(car)]


def _wheels(car: Car) -> list[Mesh]:
    radius, half = car.wheel, car.tyre / 2
    profile = [(0.60, -0.8), (0.88, -1.0), (1.0, -0.75), (1.0, 0.75), (0.88, 1.0), (0.60, 0.8)]
    tyre = lathe([(radius * r, half * x) for r, x in profile], sides=24).of("rubber")
    if car.rim == "disc":
        rim = [
            lathe([(0.62 * radius, 0.3 * half), (0.62 * radius, 0.9 * half), (0.2 * radius, 1.02 * half)], sides=20)
        ]
        rim = [part.of("rim") for part in rim]
    else:
        well = lathe([(0.62 * radius, 0.2 * half), (0.62 * radius, 0.82 * half)], sides=20).of("dark")
        hub = lathe([(0.18 * radius, 0.5 * half), (0.15 * radius, 1.0 * half)], sides=10).of("rim")
        rim = [well, hub]
        for spoke in range(5):
            angle = 2.0 * np.pi * spoke / 5
            cos, sin = np.cos(angle), np.sin(angle)
            turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            bar = box((0.16 * radius, 0.6 * radius, 0.16 * half), (0.0, 0.3 * radius, 0.86 * half))
            rim.append(bar.turned(turn).of("rim"))
    wheels: list[Mesh] = []
    for axle in (car.front_axle, car.rear_axle):
        x = float(half_width(car, axle)) - half - 0.005
        for part in (tyre, *rim):
            wheels += mirrored_pair(part.turned(ALONG_X).moved(x, axle, car.wheel))
    return wheels


def _under_body(car: Car) -> list[Mesh]:
    """The dark block between the wheels that the arches are cut against."""
    width = car.width - 2.0 * car.tyre - 0.16
    length = car.front_axle - car.rear_axle + 2.2 * car.arch
    low, high = car.clearance + 0.01, car.wheel + 1.05 * car.arch
    middle = (car.front_axle + car.rear_axle) / 2
    return [box((width, length, high - low), (0.0, middle, (low + high) / 2)).of("dark")]


def _front(car: Car) -> list[Mesh]:
    nose, wide = car.length / 2, float(half_width(car, car.length / 2))
    hood = float(top_height(car, nose - 0.1))
    light_z, low = car.clearance + 0.72 * (hood - car.clearance), car.clearance
    tall = 0.20 * (hood - low)
    lamp = cushion((0.26 * car.width * 0.8, 0.12, tall), (0.72 * wide, nose - 0.055, light_z), 0.03, 0.04, 2)
    grille = cushion((0.62 * wide, 0.06, 0.9 * tall), (0.0, nose - 0.012, light_z - 0.02), 0.015, 0.02, 1)
    plate = box((0.42, 0.02, 0.1), (0.0, nose + 0.055, low + 0.22))
    return [*mirrored_pair(lamp.of("lamp")), grille.of("dark"), _bumper(car, nose, 1.0), plate.of("plate")]


def _rear(car: Car) -> list[Mesh]:
    tail, wide = -car.length / 2, float(half_width(car, car.length / 2))
    high = car.belt if car.body in {"van", "pickup"} else float(top_height(car, tail + 0.1))
    low = car.clearance
    light_z = low + 0.70 * (high - low)
    tall = (0.34 if car.body in {"van", "wagon", "hatchback"} else 0.22) * (high - low)
    lamp = cushion((0.13 * car.width, 0.12, tall), (0.78 * wide, tail + 0.055, light_z), 0.03, 0.03, 2)
    plate = box((0.42, 0.02, 0.1), (0.0, tail - 0.012, light_z - 0.05))
    parts = [*mirrored_pair(lamp.of("tail_lamp")), _bumper(car, tail, -1.0), plate.of("plate")]
    if car.body == "van":
        pane = box((0.60 * wide, 0.02, 0.26 * car.height), (0.42 * wide, tail + 0.015, 0.71 * car.height))
        parts += mirrored_pair(pane.of("glass"))
    return parts


def _bumper(car: Car, end: float, side: float) -> Mesh:
    wide = float(half_width(car, end))
    size = (2.0 * wide - 0.06, 0.18, 0.17)
    bumper = cushion(size, (0.0, end - side * 0.035, car.clearance + 0.16), 0.05, 0.08)
    return bumper.of("dark" if car.dark_bumpers else "bumper")


def _sides(car: Car) -> list[Mesh]:
    y = car.windscreen[0] - 0.32
    wide = float(half_width(car, y))
    mirror = cushion((0.17, 0.09, 0.13), (wide + 0.055, y, car.belt + 0.07), 0.035, 0.03, 2).of("bumper")
    handles = []
    for door in car.doors[1:]:
        x = float(half_width(car, door)) * 0.99
        handles.append(box((0.03, 0.17, 0.035), (x, door + 0.16, car.belt - 0.1), 0.01).of("handle"))
    sill_length = car.front_axle - car.rear_axle - 2.1 * car.arch
    sill = box(
        (0.06, sill_length, 0.09),
        (0.97 * car.width / 2, (car.front_axle + car.rear_axle) / 2, car.clearance + 0.045),
        0.02,
    ).of("dark")
    return [part for each in (mirror, *handles, sill) for part in mirrored_pair(each)]


def _rails(car: Car) -> list[Mesh]:
    if not car.rails:
        return []
    front, rear = car.windscreen[1] - 0.15, -car.length / 2 + 0.45
    x = float(half_width(car, 0.0)) * 0.955 - car.lean * (car.height - car.belt) - 0.08
    top = car.height + 0.05
    low = top - 0.09
    path = rounded_path([(x, front, low), (x, front - 0.1, top), (x, rear + 0.1, top), (x, rear, low)], radius=0.05)
    return mirrored_pair(tube(path, 0.02, 8).of("handle"))
