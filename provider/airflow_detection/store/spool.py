"""Encoded outputs on their way to the database: in memory, or in a file where there are many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Protocol

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.scores import EventRule
from airflow_detection.domain.specs import ModelSpec
from airflow_detection.errors import StorageError
from airflow_detection.store.encoding import MAX_JSON_BYTES, row_encoder

CHUNK_BYTES = 2**16
"""Encoded bytes of a chunk: the server works on one while the next is encoded."""

MAX_CHUNK_BYTES = 2 * MAX_JSON_BYTES + 4 * CHUNK_BYTES
"""Bytes that a chunk may have: those before it was full, the largest row, and the marks of the rows."""

_FIELDS = 4
MARK_BYTES = 16


class EncodedOutputs(Protocol):
    """Outputs of one version that are encoded already; count and digest are known once they were read."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def digest(self) -> str:
        """sha256 of the encoded rows, in hex."""

    @property
    def score_counts(self) -> Mapping[str, int]:
        """How many have a score, have none, and are above each edge."""

    def chunks(self, prefix: bytes) -> Iterator[bytes]:
        """Iterate over chunks of rows in the format of binary COPY, each row behind `prefix`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """Encoded outputs of one version, in `file` from its start, with count, digest and score buckets.

    Another process may have filled the file: then only the other fields have to be sent, and `is_foreign`
    has each row checked as it is read.
    """

    file: IO[bytes]
    count: int
    digest: str
    score_counts: Mapping[str, int]
    is_foreign: bool = False

    def chunks(self, prefix: bytes) -> Iterator[bytes]:
        """Iterate over chunks of rows in the format of binary COPY, each row behind `prefix`.

        `prefix` holds the columns that name the version: bytes behind the fields of a row could smuggle in a
        row of another version. The bytes that are checked are the bytes that are yielded, because the process
        that filled the file may still be writing to it.

        Raises:
            StorageError: the file holds another number of rows than `count`, or bytes that are not rows.
        """
        self.file.seek(0)
        mark = self.file.read(MARK_BYTES)
        row_count = 0
        while head := self.file.read(4):
            if (size := int.from_bytes(head, "big")) > MAX_CHUNK_BYTES:
                raise StorageError("the encoded outputs of the version are no rows")
            chunk = self.file.read(size)
            if not self.is_foreign:
                row_count += chunk.count(mark)
                yield chunk.replace(mark, prefix)
                continue
            before, *rows = chunk.split(mark) if mark else (chunk,)
            if before or not rows or not all(map(_is_row, rows)):
                raise StorageError("the encoded outputs of the version are no rows")
            row_count += len(rows)
            yield prefix + prefix.join(rows)
        if row_count != self.count:
            raise StorageError(f"{row_count} encoded outputs were found, not {self.count}")


def _is_row(row: bytes) -> bool:
    at, size = 0, len(row)
    for _ in range(_FIELDS):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        if at + 4 > size or length < -1:
            return False
        at += 4 + max(length, 0)
    return at == size


class Encoder:
    """Encodes outputs, many at a time, and keeps count, digest and score buckets of all so far."""

    def __init__(self, model: ModelSpec) -> None:
        self._model = model
        self._digest = hashlib.sha256()
        self._edges = EventRule.of(model.events).edges
        self._buckets = dict.fromkeys(self._edges, 0)
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
                yield self._counted(batch, scores)
                batch, scores, size = [], [], 0
        if batch:
            yield self._counted(batch, scores)

    def _counted(self, batch: list[bytes], scores: list[float]) -> list[bytes]:
        self._digest.update(b"".join(batch))
        for name, edge in self._edges.items():
            self._buckets[name] += sum(map(float(edge).__lt__, scores))
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
        return counts | self._buckets


def encode_outputs(
    file: IO[bytes], model: ModelSpec, outputs: Iterable[tuple[JsonMapping, JsonMapping]]
) -> Spool:
    """Encode the outputs into `file`, which is empty; they are consumed once.

    Raises:
        UnstorableValue: an output cannot be stored exactly.
    """
    encoder = Encoder(model)
    mark = os.urandom(MARK_BYTES)  # before each row, in place of the columns that all rows share
    file.write(mark)
    for batch in encoder.batches(outputs):
        chunk = mark + mark.join(batch)
        file.write(len(chunk).to_bytes(4, "big"))
        file.write(chunk)
    file.flush()
    return Spool(file=file, count=encoder.count, digest=encoder.digest, score_counts=encoder.score_counts)
