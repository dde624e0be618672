"""Benchmark of inversion: how well codes of held-out shapes are found, from either encoder, and in what time.

    von demo held-out --chair-count 24 --car-count 4 --seed 501
    cd held-out && von prepare shapenet && cd ..
    python -m benchmarks.inversion --run builtin:chair --data held-out/data

A model that was trained with an encoder is measured twice: with it, and with one trained on the model's own shapes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks.measure import Table
from vondata.dataset.manifest import prepared, read_manifest
from vonmodel.builtin import builtin_name, unpack_builtin
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.reconstruction.inversion import EncoderSettings, Inverter, own_encoder, shape_encoder

_LEGEND = (
    "IoU: intersection over union of the solids, on the grid that the model's shapes are rendered on, of the "
    "encoder's code and after the descent. Seconds are processor time; those of training are spent once for a "
    "checkpoint, 0 where the encoder is kept or the model's own."
)


def main() -> None:
    """Prints one row for every encoder: means and medians over the shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the run folder, or builtin:NAME")
    parser.add_argument("--data", type=Path, required=True, help="a prepared dataset of its class, not trained on")
    parser.add_argument("--count", type=int, default=24, help="number of shapes")
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    arguments = parser.parse_args()
    builtin = builtin_name(arguments.run)
    run = Path(arguments.run) if builtin is None else unpack_builtin(builtin).path
    session = ModelSession(open_model(run, data=arguments.data))
    model = session.source.model
    rows = prepared(read_manifest(arguments.data, session.source.class_name, "shapes"))
    ids = [str(id) for id in rows["id"]][: arguments.count]
    command = f"python -m benchmarks.inversion {' '.join(sys.argv[1:])}"
    table = Table(f"Inversion of {len(ids)} shapes", command, notes=[_LEGEND])
    if own_encoder(model) is not None:
        _measure(table, "the model's own", session, ids, 0.0)
        model.shape_encoder = None
    start = time.process_time()
    shape_encoder(session.source, EncoderSettings(), lambda done, total: None)
    _measure(table, "trained on the model's shapes", session, ids, time.process_time() - start)
    table.finish(arguments.output)


def _measure(table: Table, encoder: str, session: ModelSession, ids: list[str], trained_s: float) -> None:
    inverter = Inverter(session)
    inverter.invert(session.prepared_shape(ids[0]))  # not timed: reads the encoder
    before, after, seconds = list[float](), list[float](), list[float]()
    for id in ids:
        given = session.prepared_shape(id)
        start = time.process_time()
        found = inverter.invert(given)
        seconds.append(time.process_time() - start)
        before.append(found.encoder_iou)
        after.append(found.iou)
    table.add(
        encoder=encoder,
        **{"mean IoU of the encoder": statistics.mean(before), "mean IoU": statistics.mean(after)},
        **{"median IoU": statistics.median(after), "worst IoU": min(after)},
        **{"seconds a shape": statistics.median(seconds), "seconds of training": trained_s},
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
