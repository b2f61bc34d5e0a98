"""The one exception a user can cause: its text is the whole message, a single line that names thing and remedy.

Also the exit statuses of the command lines, and lists of names in messages.
"""
from collections.abc import Sequence

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
