"""The content of a run's result.json: its text, its check, and the digests of all files of the run."""

import json
from collections.abc import Mapping
from typing import Any

from .._support.fingerprint import digest
from .._support.storage import sha256

REPORTED = ("all", "balanced", "macro_f1", "head", "medium", "tail", "many_shot", "medium_shot", "few_shot")
DIGESTS = "digests"  # in a result: {name of a file of the run: its SHA-256}; results of older versions have none


def parse_json(data: bytes) -> Any:
    """The value of a JSON text. NaN, which older results contain, becomes None. Raises ValueError for invalid JSON."""
    try:
        return json.loads(data, parse_constant={"NaN": None}.__getitem__)
    except (KeyError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from error


def sealed(result: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The result with the digests of these files, {name: content}, and as "result.json" of all the rest of itself."""
    digests = {name: sha256(data) for name, data in files.items()}
    return {**result, DIGESTS: digests | {"result.json": digest({**result, DIGESTS: digests}, 64)}}


def check_digest(result: Mapping[str, Any], name: str, data: bytes) -> None:
    """Raise ValueError if the result has digests, and not this one for this file."""
    if DIGESTS in result and result[DIGESTS].get(name) != sha256(data):
        raise ValueError("its content is not what was stored with the result")


def parse_result(data: bytes) -> Any:
    """The value of a result.json. Raises ValueError for invalid JSON, or if it was changed after it was stored."""
    result = parse_json(data)
    if isinstance(result, dict) and DIGESTS in result:
        digests = {**result[DIGESTS]}
        if digests.pop("result.json", None) != digest({**result, DIGESTS: digests}, 64):
            raise ValueError("its content is not what was stored")
    return result


def problem_of(result: object) -> str | None:
    """What is wrong with the content of a result.json; None if it can be shown in a table.

    An accuracy may be None: its group has no test images.
    """
    if not isinstance(result, dict):
        return "is not a JSON object"
    for epoch in ("last", "best"):
        scores = result.get(epoch)
        scores = [scores.get(name) for name in REPORTED] if isinstance(scores, dict) else [None]
        if scores[0] is None or not all(s is None or (type(s) in (int, float) and 0 <= s <= 100) for s in scores):
            return f"has no accuracies from 0 to 100 for its {epoch} epoch"
    for name in ("name", "train_fingerprint"):
        if not isinstance(result.get(name, ""), str):
            return f"has a {name} that is not text"
    return None


def to_json(record: dict[str, Any]) -> bytes:
    """The record as a JSON text. Raises ValueError for NaN and inf, which JSON has not."""
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
