"""What the user can mend: one clear sentence, which the command line shows without a traceback.

Every other exception is a bug.
"""


class InputError(ValueError):
    """A file, key or value from outside that zs2 cannot use.

    The message is one sentence that names the file, key or value and says what to do.
    """


class NumericalError(ArithmeticError):
    """NaN or Inf in a result. The message names the step and what to try."""
