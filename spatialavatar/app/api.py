"""Serves the endpoints, as gradio endpoints and as MCP tools: stateless, files in and files out."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware

from spatialavatar.app import checks
from spatialavatar.app.admission import GPU_QUEUE, ClientWatch, check_before_files
from spatialavatar.app.endpoints import ENDPOINTS, REQUIRED, Endpoint, Value
from spatialavatar.app.parameters import Parameter
from spatialavatar.app.service import Service
from spatialavatar.app.sessions import Sessions
from spatialavatar.app.steps import plain

_Results = Generator[tuple[Any, ...], None, None]


def add_endpoints(service: Service, sessions: Sessions) -> None:
    """Add every endpoint to the Blocks that is being built; ``sessions`` keeps the files that they return."""
    for endpoint in ENDPOINTS:
        queued = endpoint.request is not None
        gr.on(
            [],
            _described(endpoint, _streamed(endpoint, service, sessions) if queued else service.info),
            [_component(value) for value in endpoint.values],
            [_component(value) for value in endpoint.returns],
            api_name=endpoint.name,
            validator=_validator(endpoint),
            queue=queued,
            show_progress="hidden",
            concurrency_id=GPU_QUEUE if queued else None,
            concurrency_limit=1 if queued else None,
        )


def _component(value: Value) -> Parameter:
    default = None if value.default is REQUIRED else value.default
    return Parameter(value.schema, value.label, default, value.max_bytes)


def _streamed(endpoint: Endpoint, service: Service, sessions: Sessions) -> Callable[..., _Results]:
    """The function that gradio calls for an endpoint whose work takes long."""
    names = [value.name for value in endpoint.values]

    def call(*arguments: Any) -> _Results:
        """Yield nothing while the work runs, then the kept files and the facts."""
        *given, progress, request = arguments
        values = dict(zip(names, given, strict=True))
        session = None if request is None else request.session_hash
        sessions.note(session, _uploads(endpoint, values))
        roles = [role.format(**values) for role in endpoint.roles]
        result = (None,) * (len(roles) + 1)
        yield result  # at once, so that an early cancel finds a generator to close
        for step in service.steps(endpoint.name, **values):
            progress(step.fraction, desc=step.message)
            if step.fraction >= 1.0 and all(role in step.files for role in roles):
                result = *(sessions.keep(session, step.files[role]) for role in roles), dict(step.facts)
            yield result

    return call


def _uploads(endpoint: Endpoint, values: Mapping[str, Any]) -> list[str]:
    """The paths of the files that a call brought."""
    files = [values[value.name] for value in endpoint.values if value.is_file and values[value.name]]
    return [path for entry in files for path in (entry if isinstance(entry, list) else [entry])]


def _described(endpoint: Endpoint, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the name, signature and docstring that gradio and the MCP server read."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(
            value.name, kind, default=inspect.Parameter.empty if value.default is REQUIRED else value.default
        )
        for value in endpoint.values
    ]
    hints: dict[str, Any] = {}
    if endpoint.request is not None:
        hints = {"progress": gr.Progress, "request": gr.Request | None}
        parameters.append(inspect.Parameter("progress", kind, default=gr.Progress()))
        parameters.append(inspect.Parameter("request", kind, default=None, annotation=hints["request"]))

        def described(*arguments: Any) -> Any:
            yield from function(*arguments)
    else:

        def described(*arguments: Any) -> Any:
            return function(*arguments)

    described.__name__ = endpoint.name
    described.__doc__ = endpoint.help
    described.__annotations__ = hints
    described.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return described


def _validator(endpoint: Endpoint) -> Callable[..., Any]:
    def answers(values: Sequence[Any], early: bool) -> list[dict[str, Any]]:
        given = {value.name: one for value, one in zip(endpoint.values, values, strict=True)}
        complaints = endpoint.complaints(given, early)
        return [_answer(complaints.get(name)) for name in given]

    def validate(*values: Any) -> Any:
        found = answers(values, False)
        return found if len(found) > 1 else found[0]

    def before_files(values: list[Any]) -> list[dict[str, Any]]:
        if len(values) != len(endpoint.values):  # gradio itself refuses such a call
            return [_answer(None)] * len(values)
        return answers(values, True)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [inspect.Parameter(value.name, kind) for value in endpoint.values]
    # Gradio reads the names of the parameters from here, for its messages.
    validate.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    check_before_files(validate, before_files)
    return validate


def _answer(sentence: str | None) -> dict[str, Any]:
    return gr.validate(sentence is None, sentence or "")


def _wrong_name(request: Request, error: Exception) -> JSONResponse:
    """The response to a call that names no endpoint, or a parameter that it does not have; gradio's own is a bare 500.

    Raises:
        Exception: the error itself, where it is about something else.
    """
    if "/call/v2/" not in request.url.path:
        raise error
    if isinstance(error, KeyError):
        return JSONResponse({"detail": f"There is no endpoint {plain(str(error))}; /gradio_api/info lists them."}, 404)
    if "argument" in str(error):
        return JSONResponse({"detail": plain(str(error)).partition(" Please click")[0]}, 422)
    raise error


def launch_arguments() -> dict[str, Any]:
    """Arguments of ``launch`` that safety and privacy require; new ones for every launch, since gradio changes them."""
    return {
        # It would keep visitors' faces in their browser.
        "run_history": False,
        "max_file_size": checks.MAX_VIDEO_BYTES,
        "mcp_server": importlib.util.find_spec("mcp") is not None,
        "show_error": False,
        "app_kwargs": {
            "exception_handlers": {KeyError: _wrong_name, TypeError: _wrong_name},
            "middleware": [Middleware(ClientWatch)],
        },
    }
