"""Where a document stands in its file, told from where it stands in its piece."""

from __future__ import annotations

from collections import Counter
from typing import Final

from detect.scanning.pieces import Piece
from detect.scanning.reading import where
from detect.scanning.stores import open_binary
from watermark.extras import import_extra

__all__ = ["first_lines", "place_in_file", "with_place"]

_CHUNK: Final = 1 << 20


def first_lines(pieces: tuple[Piece, ...], lines: Counter[int]) -> list[int]:
    """Count the lines or rows of the same file before each piece.

    Args:
        pieces: of the whole corpus, in order.
        lines: those read of each piece.

    Returns:
        One number a piece.
    """
    before, found = 0, []
    for number, piece in enumerate(pieces):
        if number and pieces[number - 1].source != piece.source:
            before = 0
        found.append(before)
        before += lines[number]
    return found


def place_in_file(piece: Piece, place: int) -> int:
    """Count lines from the beginning of the file, which is read for that.

    Args:
        piece: where the document stands.
        place: its line or row in the piece.

    Returns:
        Its line or row in the file; of a streamed data set, in its shard.
    """
    if piece.kind == "rows":
        return piece.start + place
    if piece.start == 0 or piece.kind in ("text", "stream"):
        return place
    with open_binary(piece.source) as file:
        if piece.kind == "parquet":
            metadata = import_extra("pyarrow.parquet").ParquetFile(file).metadata
            return place + sum(int(metadata.row_group(i).num_rows) for i in range(piece.start))
        left, n_lines = piece.start, 0
        while left and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            n_lines += chunk.count(b"\n")
        file.seek(piece.start - 1)
        return place + n_lines + (file.read(1) != b"\n")


def with_place(message: str, piece: Piece, place: int) -> str:
    """Fill a document's place into a message of `detect.scanning.reading`."""
    return message.replace("{document}", where(piece, place), 1)
