"""What the user gave cannot be used: one clear sentence, shown without a traceback."""


class InputError(ValueError):
    """A file, key or value from outside that zs2 cannot use.

    The message is one sentence that names the file, key or value and says what to do.
    The command line prints it and exits with status 2; every other exception is a bug.
    """
