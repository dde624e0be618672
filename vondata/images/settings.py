"""Settings of the preparation of photos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vondata.images.segmenter import NetworkSettings, Segmenter, open_segmenter


@dataclass(frozen=True)
class ImageSettings:
    """Settings of `prepare_image` and of the planning of Pix3D.

    Attributes:
        size: side of the prepared square in pixels.
        margin: free border on every side, as a fraction of the side that the object's box would have without it.
        max_pixels: photos with more pixels are rejected before they are decoded; for a JPEG that can be decoded at
            reduced size, the reduced size counts.
        keep_incomplete: keep truncated JPEGs, as far as they go.
        keep_truncated: keep photos whose object is cut by the border.
        keep_occluded: keep photos whose object is largely hidden.
        keep_slightly_occluded: keep photos whose object is slightly hidden.
        max_roll_deg: the largest in-plane rotation of an annotated camera.
        keep_duplicates: keep photos that show the same picture as another one.
        network: the segmentation network used in place of GrabCut; None for GrabCut.
        weights: its file; the content is compared, not the path.
        phash_bits: of the perceptual hash that finds near-duplicates; fixed, but part of the settings that decide
            whether a photo is prepared again.
        method: version of decoding and segmentation; fixed, too, and raised with every change of results.
    """

    size: int = 128
    margin: float = 0.03
    max_pixels: int = 100_000_000
    keep_incomplete: bool = False
    keep_truncated: bool = field(default=False, metadata={"planning": True})
    keep_occluded: bool = field(default=False, metadata={"planning": True})
    keep_slightly_occluded: bool = field(default=False, metadata={"planning": True})
    max_roll_deg: float = field(default=10.0, metadata={"planning": True})
    keep_duplicates: bool = field(default=False, metadata={"planning": True})
    network: NetworkSettings | None = None
    weights: str = field(default="", metadata={"planning": True})
    phash_bits: int = field(default=440, init=False)
    method: int = field(default=3, init=False)

    def open_segmenter(self) -> Segmenter | None:
        """The network, None for GrabCut.

        Raises:
            SegmenterError: its file is missing or has changed.
        """
        return None if self.network is None else open_segmenter(Path(self.weights), self.network)
