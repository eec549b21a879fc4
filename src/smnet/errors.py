"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake in what the program was given: a file, a list, a key, a path.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with status 1; library callers may catch it as a ``ValueError``.
    """


def missing_extra(module: str, extra: str) -> UserError:
    """The error for an optional library that is not installed, with the line to type."""
    return UserError(
        f"this needs {module}, which is not installed; install it with:"
        f" pip install 'smnet-video[{extra}]'"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, PyTorch's, or that of the engine of an exported file.

    PyTorch has an exception for GPUs alone, and the engines have none, so the words decide.
    """
    words = ("can't allocate memory", "not enough memory", "Failed to allocate memory", "bad_alloc")
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or any(word in str(error) for word in words)
