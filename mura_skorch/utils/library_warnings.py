"""Silence the warnings of a module of another library."""

import re
import warnings

__all__ = ["ignore_warnings_of"]


def ignore_warnings_of(module: str) -> None:
    """Ignore the warnings that a module raises itself, from now on.

    Pillow and pydicom warn about each damaged field of a header, of which one file may hold
    thousands, and they have no setting against it. Call this when the first such file is read.

    Parameters
    ----------
    module : str
        Its name, such as "PIL.TiffImagePlugin", or that of a package, whose modules are included.

    Notes
    -----
    `warnings.catch_warnings` cannot be used where files are read in threads: before Python 3.14 it
    replaces the filters of all threads and may leave the wrong ones behind. A filter for one module
    changes no other warning. Filters that are set later come before it.

    Examples
    --------
    >>> ignore_warnings_of("PIL.TiffImagePlugin")
    """
    pattern = rf"{re.escape(module)}(\.|$)"
    modules = [found for _, _, _, found, _ in warnings.filters]
    if not any(isinstance(found, re.Pattern) and found.pattern == pattern for found in modules):
        warnings.filterwarnings("ignore", module=pattern)
