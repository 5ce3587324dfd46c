"""What training raises when its loss is no number any more; it needs no engine."""


class TrainingDivergedError(ValueError):
    """A loss became NaN or infinite."""


def diverged(what: str) -> TrainingDivergedError:
    """Return the error that says ``what`` happened and what to try."""
    return TrainingDivergedError(
        f"{what}. Scale X to about [0, 1], or choose a smaller learning rate."
    )
