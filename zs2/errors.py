"""What the user can mend: one clear sentence, which the command line shows without a traceback.

Every other exception is a bug.
"""


class InputError(ValueError):
    """A file, key or value from outside that zs2 cannot use.

    The message is one sentence that names the file, key or value and says what to do.
    """


class NumericalError(ArithmeticError):
    """NaN or Inf in a result. The message names the place and what to try."""

    def __init__(self, where: str, dtype: object) -> None:
        remedies = {
            "torch.float32": "the weights, or the prediction type, do not fit this model",
            "torch.bfloat16": "the model overflows in this precision, use --dtype fp32",
        }
        remedy = remedies.get(
            str(dtype), "the model overflows in this precision, use --dtype fp32 (or bf16)"
        )
        super().__init__(f"NaN or Inf {where}: {remedy}")
