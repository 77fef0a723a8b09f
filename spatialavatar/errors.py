"""Errors for users: one sentence each, which states what to do.

Every failure that a user's input can cause is raised as a :class:`SpatialAvatarError` whose message is one sentence
that states the problem and its remedy. The command line prints it and exits with status 1; the app shows it unchanged.
"""

_MAX_LENGTH = 1000


class SpatialAvatarError(Exception):
    """Base of all errors meant for a person: the message is one clear sentence.

    Messages quote values of files, which can be of any length; a message of more than 1,000 characters is cut in its
    middle.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        if arguments and isinstance(arguments[0], str) and len(arguments[0]) > _MAX_LENGTH:
            message = arguments[0]
            self.args = (f"{message[: _MAX_LENGTH // 2]} ... {message[-_MAX_LENGTH // 3 :]}", *arguments[1:])


class InputError(SpatialAvatarError, ValueError):
    """A file or value that was given cannot be used (unreadable photo, no face, wrong type, NaN ...)."""


class NoFaceError(InputError):
    """No usable face was found in a picture."""


class FormatError(SpatialAvatarError, ValueError):
    """A SpatialAvatar or head model file is damaged, of an unsupported version, or does not fit the other files."""


class MissingAssetError(SpatialAvatarError, FileNotFoundError):
    """A weight or head file that the default model needs is neither on disk nor downloadable."""


def missing_extra(subject: str, extra: str) -> MissingAssetError:
    """The error for an optional dependency that is not installed.

    Args:
        subject: what needs it, as the start of the sentence.
        extra: name of the extra in pyproject.toml that installs it.
    """
    return MissingAssetError(f"{subject} needs the extra {extra}: {install_extra(extra)}.")


def install_extra(extra: str) -> str:
    """The instruction that installs an extra from a checkout."""
    return f"in the project's folder, run pip install -e '.[{extra}]'"


class OutputError(SpatialAvatarError, OSError):
    """The result cannot be written to the given path."""
