"""Viewpoints of photos without annotation, matched against sketches of the class's prepared shapes."""

from vondata.matching.bank import BankSettings, NoShapesError, SketchBank, build_bank, choose_shapes
from vondata.matching.cues import CueWeights, PhotoUnreadableError
from vondata.matching.match import MatchSettings, ViewpointMatch, match_rows, match_viewpoints, matched_columns

__all__ = [
    "BankSettings",
    "CueWeights",
    "MatchSettings",
    "NoShapesError",
    "PhotoUnreadableError",
    "SketchBank",
    "ViewpointMatch",
    "build_bank",
    "choose_shapes",
    "match_rows",
    "match_viewpoints",
    "matched_columns",
]
