"""JSON schemas (draft 2020-12) of what each command prints with ``--json``.

A value that is not known is left out, so only the names under ``required`` are always there. Later versions may add
names; they change or remove none within a major version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def _text(what: str) -> Schema:
    return {"type": "string", "description": what}


def _whole(what: str) -> Schema:
    return {"type": "integer", "description": what}


def _number(what: str) -> Schema:
    return {"type": "number", "description": what}


def _flag(what: str) -> Schema:
    return {"type": "boolean", "description": what}


def _list(items: Schema, what: str) -> Schema:
    return {"type": "array", "items": items, "description": what}


def _table(values: Schema, what: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": what}


def _object(properties: Mapping[str, Schema], optional: tuple[str, ...] = (), what: str = "") -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }
    return schema | ({"description": what} if what else {})


_WARNINGS = _list({"type": "string"}, "sentences about the input")
_FILES = _list({"type": "string"}, "paths of the files that were written")
_SCORES = _object(
    {"psnr": _number("dB"), "ssim": _number("0 to 1"), "lpips": _number("0 is equal")}, what="means over the frames"
)
_TIMES: Final = ("tracking_ms", "rendering_ms")
_COUNTS: Final = ("packets", "damaged", "ignored")
_LINKED = _list({"type": "object"}, "repositories of the Hub, each with its id")

RESULTS: Final[Mapping[str, Schema]] = {
    "generate": _object(
        {
            "avatar": _text("path of the avatar file"),
            "gaussians": _whole("number of Gaussians"),
            "head": _text("id of the head model"),
        }
    ),
    "refine": _object(
        {
            "avatar": _text("path of the avatar file"),
            "iterations": _whole("steps of the refinement"),
            "held_out": _flag("whether the scores are of frames that were not trained on"),
            "before": _SCORES,
            "after": _SCORES,
            "report": _FILES,
        },
        ("held_out", "before", "after", "report"),
    ),
    "drive": _object(
        {
            "video": _text("path of the video; left out where a webcam is only shown"),
            "frames": _whole("number of frames"),
            "held": _whole("frames without a face, which hold the pose before"),
            "fps": _number("frames per second"),
            "seconds": _number("length of a webcam's or a stream's take"),
            "tracking_ms": _number("milliseconds of tracking a frame, webcam only"),
            "rendering_ms": _number("milliseconds of rendering a frame, webcams and streams"),
            "latency_ms": _number("milliseconds from a frame or packet to its picture, webcams and streams"),
            "packets": _whole("packets that were read, streams only"),
            "damaged": _whole("packets that were no motion, streams only"),
            "ignored": _whole("packets of other machines or beyond the largest rate, streams only"),
            "warnings": _WARNINGS,
        },
        ("video", "fps", "seconds", *_TIMES, "latency_ms", *_COUNTS, "warnings"),
    ),
    "track": _object(
        {
            "track": _text("path of the track or motion file; left out with --send"),
            "address": _text("where the motion was sent to, with --send"),
            "frames": _whole("number of frames"),
            "held": _whole("frames without a face"),
            "fps": _number("frames per second"),
            "seconds": _number("length of the take, with --send"),
            "tracking_ms": _number("milliseconds of tracking a frame, with --send"),
            "warnings": _WARNINGS,
            "report": _FILES,
        },
        ("track", "address", "fps", "seconds", "tracking_ms", "warnings", "report"),
    ),
    "live": _object(
        {
            "address": _text("of the page"),
            "frames": _whole("frames of motion that were sent"),
            "seconds": _number("how long it was served"),
        }
    ),
    "export": _object(
        {"output": _text("path of the file"), "format": _text("of the file"), "bytes": _whole("its size")}
    ),
    "demo": _object(
        {
            "video": _text("path of the video"),
            "sheet": _text("path of the picture"),
            "avatar": _text("path of the avatar"),
        }
    ),
    "app": _object({}),
    "info": {
        "description": "of an avatar, with all entries of its info, or of the installation",
        "anyOf": [
            _object(
                {
                    "avatar": _text("name of the file"),
                    "bytes": _whole("its size"),
                    "head": _text("id of the head model"),
                    "layout": _text("id of the UV layout"),
                    "gaussians": _whole("number of Gaussians"),
                    "camera": _list({"type": "integer"}, "width and height in pixels"),
                }
            ),
            _object(
                {
                    "version": _text("of the package"),
                    "python": _text("version"),
                    "platform": _text("operating system"),
                    "torch": _text("version"),
                    "cpu_cores": _whole("number"),
                    "gpu": _text("name, or none"),
                    "renderers": _table({"type": "string"}, "whether each can be used, or why not"),
                    "weights": _text("folder of the weights, or what is wrong with it"),
                    "head": {"type": "object", "description": "the head model that ships"},
                },
                ("cpu_cores", "head"),
            ),
        ],
    },
    "licences": _object(
        {
            "files": _list(
                _object(
                    {
                        "path": _text("of the file, in the repository"),
                        "what": _text("the file is"),
                        "licence": _text("SPDX id or name"),
                        "source": _text("where it is from"),
                    }
                ),
                "every file that ships",
            )
        }
    ),
    "bench": _object(
        {
            "files": _FILES,
            "schema": _text("version of the results file"),
            "results": _list({"type": "object"}, "the means of each method and protocol"),
            "failed": _table({"type": "string"}, "clips that could not be measured, with the reason"),
        }
    ),
    "shards": _object(
        {
            "shards": _FILES,
            "people": _whole("number of people in them"),
            "skipped": _table({"type": "string"}, "clips that were not used, with the reason"),
            "missing": _whole("shards that other machines still have to make"),
        }
    ),
    "synth": _object(
        {
            "heads": _FILES,
            "made": _whole("heads that this run made; the others were there"),
            "people": {"type": "array", "items": {"type": "string"}, "description": "photos whose skin is used"},
        }
    ),
    "train": _object(
        {
            "model": _text("folder of the trained model"),
            "steps": _whole("number of steps"),
            "people": _whole("trained on"),
            "left_out": _table({"type": "string"}, "people that could not be used, with the reason"),
            "redrawn": _whole("draws that were replaced"),
            "verdict": _table({}, "scores on the people held out"),
        },
        ("verdict",),
    ),
    "prior-samples": _object(
        {
            "made": _whole("new samples"),
            "left_out": _table({"type": "string"}, "heads and photos that could not be used, with the reason"),
        }
    ),
    "train-prior": _object(
        {
            "model": _text("folder of the model with the trained prior"),
            "steps": _whole("number of steps"),
            "samples": _whole("samples of heads trained on"),
            "verdict": _table({"type": "number"}, "errors on the heads held out"),
        }
    ),
    "push": _object(
        {
            "repo_id": _text("on the Hub"),
            "commit": _text("address of the commit"),
            "private": _flag("whether the repository was asked to be private"),
            "page": _text("address of the page that can be embedded"),
        },
        ("page",),
    ),
    "papers info": _object(
        {
            "id": _text("arXiv id"),
            "title": _text("of the paper"),
            "authors": _list({"type": "string"}, "names"),
            "published_at": _text("date"),
            "summary": _text("abstract"),
            "upvotes": _whole("on the Hub"),
            "url": _text("of the paper"),
            "linked_models": _LINKED,
            "linked_spaces": _LINKED,
            "linked_datasets": _LINKED,
        },
        ("title", "published_at", "summary", "upvotes"),
    ),
    "papers load": _object(
        {
            "model": _text("Hub id"),
            "revision": _text("commit"),
            "folder": _text("path of the downloaded model"),
            "head": _text("id of its head model"),
            "gaussians": _whole("number of Gaussians of an avatar"),
            "encoder": _text("kind of the network's encoder"),
        },
        ("encoder",),
    ),
    "schema": {"type": "object", "description": "the schemas by command, or the schema of one command"},
}
"""The schema of the object of each command."""


def schema_of(command: str) -> Schema:
    """The schema of one command as a document of its own.

    Raises:
        KeyError: there is no command of that name.
    """
    return {"$schema": DIALECT, "title": f"spatialavatar {command} --json", **RESULTS[command]}
