"""Viewpoint estimation of photos without annotation, by matching against sketches of the class's prepared shapes."""

from vondata.matching.bank import BankSettings, NoShapesError, ViewBank, build_bank, choose_shapes
from vondata.matching.cues import CueWeights, PhotoUnreadableError
from vondata.matching.run import (
    MatchCount,
    MatchingSettings,
    MatchSettings,
    ViewpointMatch,
    match_photos,
    match_photos_at,
    match_rows,
    match_viewpoints,
    matched_columns,
)
from vondata.matching.sketching import EmptyShapeError

__all__ = [
    "BankSettings",
    "CueWeights",
    "EmptyShapeError",
    "MatchCount",
    "MatchSettings",
    "MatchingSettings",
    "NoShapesError",
    "PhotoUnreadableError",
    "ViewBank",
    "ViewpointMatch",
    "build_bank",
    "choose_shapes",
    "match_photos",
    "match_photos_at",
    "match_rows",
    "match_viewpoints",
    "matched_columns",
]
