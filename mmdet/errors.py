"""The one exception a user can cause: its text is the whole message, a single line that names thing and remedy."""


class UserError(ValueError):
    """Wrong input from outside (file, flag, config key). Command lines print its text and exit with status 2.

    Args:
        message: one line that names the file, key or value and says what to do about it.
    """
