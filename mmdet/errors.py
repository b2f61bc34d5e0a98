"""The one exception a user can cause: its text is the whole message, a single line that names thing and remedy.

Also the exit statuses of the command lines, lists of names in messages, and numbers given as strings.
"""
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # sysexits' EX_TEMPFAIL: stopped by SIGTERM, the work is saved; run again with --resume


class UserError(ValueError):
    """Wrong input from outside (file, flag, config key). Command lines print its text and exit with status 2.

    Args:
        message: one line that names the file, key or value and says what to do about it.
    """


def shortened(names: Sequence[str], shown: int = 6) -> str:
    """Names for a message: the first ones, the rest counted."""
    rest = len(names) - shown
    return ', '.join(names[:shown]) + (f' and {rest} more' if rest > 0 else '')


def missing_package(error: ImportError, user: str, requirement: str) -> UserError:
    """Say which optional package is missing and how to install it.

    Args:
        error: of the import. The package that is not there may be one that the wanted package needs.
        user: what needs the package: a flag, a class.
        requirement: the wanted package as pip takes it: ``'trackeval==1.3.0'``.
    """
    wanted = requirement.partition('==')[0]
    absent = (error.name or wanted).partition('.')[0] if isinstance(error, ModuleNotFoundError) else wanted
    if absent == wanted:
        return UserError(f'{user} needs the package {wanted}, which cannot be imported ({error}); install it: '
                         f'pip install {requirement}')
    return UserError(f'{user} needs the package {wanted}, and that needs {absent}, which is not installed; install it: '
                     f'pip install {absent}')


def require_number(name: str, value: Any, whole: bool = False) -> None:
    """Raises UserError unless an argument is a number (of Python or NumPy), or with ``whole`` a whole one.

    In Python, ``thresh='0.3'`` would fail somewhere behind, or compare as a string.
    """
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise UserError(f'{name} {value!r}: is a {type(value).__name__}, not a {"whole " * whole}number such as '
                        f'{1 if whole else 0.3}')
