"""The exception for errors of the user, the exit statuses of the command lines, and helpers for messages."""
import re
from collections.abc import Sequence
from typing import Any

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: stopped by SIGTERM after saving; run again with --resume


class UserError(ValueError):
    """An error of the user: an invalid file, flag or config key. Command lines print its text and exit with status 2.

    Args:
        message: one line with the file or key, the value and the remedy.
    """


def shortened(names: Sequence[str], shown: int = 6) -> str:
    """Join names for a message: the first ``shown`` of them and the number of the others."""
    rest = len(names) - shown
    return ', '.join(names[:shown]) + (f' and {rest} more' if rest > 0 else '')


def counted(number: int, noun: str) -> str:
    """Return a number with its noun for a message, in the plural unless the number is 1: "1 box", "2 categories".

    Args:
        number: the number.
        noun: singular of a noun with a regular plural, perhaps after adjectives.
    """
    if number != 1:
        noun = (f'{noun[:-1]}ies' if re.search('[^aeiou]y$', noun) else
                f'{noun}es' if re.search('(s|x|[^o]ch|sh)$', noun) else f'{noun}s')  # epochs, but batches
    return f'{number} {noun}'


def missing_package(error: ImportError, user: str, requirement: str) -> UserError:
    """Return an error that names a missing optional package and the command that installs it.

    Args:
        error: error of the import. The missing package may also be a dependency of the required one.
        user: what requires the package: a flag or a class.
        requirement: the required package, as an argument of pip: ``'trackeval==1.3.0'``.
    """
    wanted = requirement.partition('==')[0]
    absent = (error.name or wanted).partition('.')[0] if isinstance(error, ModuleNotFoundError) else wanted
    if absent == wanted:
        return UserError(f'{user} needs the package {wanted}, which cannot be imported ({error}); install it: '
                         f'pip install {requirement}')
    # pip installs the missing dependencies of an installed package, whose names may differ from those of the imports
    return UserError(f'{user} needs the package {wanted}, and that needs {absent}, which is not installed; install '
                     f'both: pip install {requirement}')


def json_kind(value: Any) -> str:
    """Return what a value of a JSON file is, in the terms of JSON: ``'an object'``, ``'a list'``, ``'null'``, ..."""
    kinds = {type(None): 'null', bool: 'true or false', dict: 'an object', list: 'a list', str: 'a string',
             int: 'a number', float: 'a number'}
    return kinds.get(type(value), f'a {type(value).__name__}')
