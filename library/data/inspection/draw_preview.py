"""Previews of showings: the image with the area outside its crop dimmed, and its caption."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import FilledData
from library.data.batching.captions import Position
from library.data.batching.prior_draws import DrawnText, drawn_caption
from library.data.batching.sampler import EpochSampler, SampleRequest
from library.data.pixels.fill_masks import FillMasks
from library.data.pixels.images import Pixels, flipped, load_image, part_shown, read_rgb, resize

_DIMMED = 0.35  # brightness factor outside the crop
_FRAME = (255, 176, 64)  # RGB of the line around the crop


@dataclass(frozen=True)
class Draws:
    """What the loader returns for requests; `updates` and `batches_per_update` of the run are needed for token warm-up."""

    filled: FilledData
    sampler: EpochSampler
    rewrite: RewriteCaption
    updates: int
    batches_per_update: int

    def caption(self, request: SampleRequest) -> str:
        """The caption of this showing."""
        return self.text(request).text

    def text(self, request: SampleRequest) -> DrawnText:
        """The caption of this showing, and whether the base model's prediction is its target."""
        position = Position(request.epoch, request.batch // self.batches_per_update, self.updates)
        return drawn_caption(self.filled, request, position, self.rewrite)

    def pixels(self, request: SampleRequest) -> Pixels:
        """The pixels of this showing, uint8 [H,W,3], grey where an inpainting model fills in.

        Raises UserError with the name of an unreadable file.
        """
        placement = self.filled.placements[request.record]
        image = load_image(self.filled.records[request.record], placement, request.seed)
        if self.filled.blueprint.inpainting:
            image *= 1 - FillMasks(self.filled).of([(request.record, request.seed)], [placement])[0]
        values: np.ndarray = np.clip(image.transpose(1, 2, 0) * 127.5 + 127.5 + 0.5, 0, 255)
        return values.astype(np.uint8)

    def with_surroundings(self, request: SampleRequest, side: int) -> Pixels:
        """This showing inside the whole image, dimmed outside the crop; the longer side has `side` pixels."""
        record, placement = self.filled.records[request.record], self.filled.placements[request.record]
        (width, height), (left, top) = part_shown(record, placement, request.seed)
        crop_width, crop_height = placement.bucket
        mirrored = flipped(record.subset, request.seed)
        if mirrored:
            left = width - crop_width - left
        scale = side / max(width, height)
        whole = (max(1, round(width * scale)), max(1, round(height * scale)))
        begin = (round(left * scale), round(top * scale))
        end = (round((left + crop_width) * scale), round((top + crop_height) * scale))
        crop = resize(self.pixels(request), (max(1, end[0] - begin[0]), max(1, end[1] - begin[1])))
        if crop.shape[:2] == whole[::-1]:
            return crop
        canvas = resize(read_rgb(record.path, whole), whole)
        canvas = (canvas[:, ::-1] if mirrored else canvas) * _DIMMED
        canvas[begin[1] : begin[1] + crop.shape[0], begin[0] : begin[0] + crop.shape[1]] = crop
        canvas = canvas.astype(np.uint8)
        rows, columns = slice(begin[1], begin[1] + crop.shape[0]), slice(begin[0], begin[0] + crop.shape[1])
        canvas[[rows.start, rows.stop - 1], columns] = _FRAME
        canvas[rows, [columns.start, columns.stop - 1]] = _FRAME
        return canvas


def as_jpeg(pixels: Pixels) -> bytes:
    """JPEG bytes of a preview, in low quality to keep them small."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=72, optimize=True)
    return file.getvalue()
