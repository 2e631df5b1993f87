"""Encoded outputs on their way to the database: in memory, or in a file where there are many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.scores import SCORE_BUCKETS
from airflow_detection.domain.specs import ModelSpec
from airflow_detection.errors import StorageError
from airflow_detection.store.encoding import row_encoder

CHUNK_BYTES = 2**16
"""Encoded bytes that are handed on at a time: the server works on one while the next is encoded."""

_FIELDS = 4
_MARK_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The encoded outputs of one version, in `file` from its start, and what is known of them.

    Another process may have filled the file: then only the facts beside it have to be sent, and `is_foreign`
    has each row checked as it is handed on.
    """

    file: IO[bytes]
    count: int
    digest: str
    score_counts: Mapping[str, int]
    is_foreign: bool = False

    def chunks(self, prefix: bytes) -> Iterator[bytes]:
        """Iterate over the rows as COPY wants them, many at a time, each behind `prefix`.

        `prefix` says whose a row is: one that went on after its fields could bring a row of another version
        with it. What is checked is what is handed on, for whoever filled the file may still be writing to it.

        Raises:
            StorageError: the file does not hold what the facts say, or something that is no row.
        """
        self.file.seek(0)
        mark = self.file.read(_MARK_BYTES)
        seen = 0
        while head := self.file.read(4):
            chunk = self.file.read(int.from_bytes(head, "big"))
            if not self.is_foreign:
                seen += chunk.count(mark)
                yield chunk.replace(mark, prefix)
                continue
            before, *rows = chunk.split(mark) if mark else (chunk,)
            if before or not rows or not all(map(_is_row, rows)):
                raise StorageError("the encoded outputs of the version are no rows")
            seen += len(rows)
            yield prefix + prefix.join(rows)
        if seen != self.count:
            raise StorageError(f"{seen} encoded outputs were found, not {self.count}")


def _is_row(row: bytes) -> bool:
    at, size = 0, len(row)
    for _ in range(_FIELDS):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        if at + 4 > size or length < -1:
            return False
        at += 4 + max(length, 0)
    return at == size


class Encoder:
    """Encodes outputs, many at a time, and keeps count, digest and score buckets of what it has seen."""

    def __init__(self, model: ModelSpec) -> None:
        self._model = model
        self._digest = hashlib.sha256()
        self._buckets = [0] * len(SCORE_BUCKETS)
        self._nulls = 0
        self.count = 0

    def batches(self, outputs: Iterable[tuple[JsonMapping, JsonMapping]]) -> Iterator[list[bytes]]:
        """Iterate over lists of encoded rows, about CHUNK_BYTES each.

        Raises:
            UnstorableValue: an output cannot be stored exactly.
        """
        batch: list[bytes] = []
        scores: list[float] = []
        size = 0
        encode = row_encoder(self._model)
        for pair in outputs:
            row, score = encode(self.count, pair)
            self.count += 1
            batch.append(row)
            size += len(row)
            if score is None:
                self._nulls += 1
            else:
                scores.append(score)
            if size > CHUNK_BYTES:
                yield self._told(batch, scores)
                batch, scores, size = [], [], 0
        if batch:
            yield self._told(batch, scores)

    def _told(self, batch: list[bytes], scores: list[float]) -> list[bytes]:
        self._digest.update(b"".join(batch))
        for number, edge in enumerate(SCORE_BUCKETS.values()):
            self._buckets[number] += sum(score > edge for score in scores)
        return batch

    @property
    def digest(self) -> str:
        """sha256 of the encoded rows, in hex."""
        return self._digest.hexdigest()

    @property
    def score_counts(self) -> dict[str, int]:
        """How many outputs have a score, have none, and are above each edge; empty without a score key."""
        if self._model.score_key is None:
            return {}
        counts = {"scored": self.count - self._nulls, "null": self._nulls}
        return counts | dict(zip(SCORE_BUCKETS, self._buckets, strict=True))


def encode_outputs(
    file: IO[bytes], model: ModelSpec, outputs: Iterable[tuple[JsonMapping, JsonMapping]]
) -> Spool:
    """Encode the outputs into `file`, which is empty; they are consumed once.

    Raises:
        UnstorableValue: an output cannot be stored exactly.
    """
    encoder = Encoder(model)
    mark = os.urandom(_MARK_BYTES)  # stands before each row, where the columns that they share will go
    file.write(mark)
    for batch in encoder.batches(outputs):
        chunk = mark + mark.join(batch)
        file.write(len(chunk).to_bytes(4, "big"))
        file.write(chunk)
    file.flush()
    return Spool(file=file, count=encoder.count, digest=encoder.digest, score_counts=encoder.score_counts)
