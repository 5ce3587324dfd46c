"""Training that stays on the device: many mini-batches in one compiled call of ``Model.fit``.

``keras.Model.fit`` is fed blocks of mini-batches, as sample indices where the data is resident on
the device and as rows where it is not. A block is one dispatch, or one a step where that is faster.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from clustering_common import backend
from clustering_common.mapped import BLOCK_BYTES
from clustering_common.watched_model import WatchedModel

BLOCK_STEPS = 256  # mini-batches per block at most: an update's 140 of the paper are one
BLOCK_OPERATIONS = 4e11  # of one block on a CPU: a few seconds, so that Ctrl-C is heard
ROWS_PER_CALL = 512  # rows per inference call; one fixed shape, so a row's result is its own


class BatchSchedule:
    """The mini-batches of every training step, as a pure function of the step's number.

    A pass over the data is floor(n_samples / batch_size) full batches of a fresh permutation; with
    fewer samples than a batch, one batch of all of them (SPEC 1.2). Nothing is stored between
    calls but the latest permutation, so the batches of any step follow from the seed alone.

    Parameters
    ----------
    n_samples, batch_size : int
        At least 1.
    seed : int
        Seed of the permutations.

    Examples
    --------
    >>> BatchSchedule(5, 2, seed=0).batches(0, 4).shape
    (4, 2)
    """

    def __init__(self, n_samples: int, batch_size: int, seed: int):
        self.n_samples = n_samples
        self.batch_size = min(batch_size, n_samples)
        self.seed = seed
        self.steps_per_pass = n_samples // self.batch_size
        self._pass: tuple[int, np.ndarray] = (-1, np.empty(0, np.int32))

    def batches(self, start: int, stop: int) -> np.ndarray:
        """Return the sample indices of steps ``start`` to ``stop``, (stop - start, batch_size)."""
        rows = np.empty((stop - start, self.batch_size), np.int32)
        for row, step in enumerate(range(start, stop)):
            which_pass, position = divmod(step, self.steps_per_pass)
            begin = position * self.batch_size
            rows[row] = self._permutation(which_pass)[begin : begin + self.batch_size]
        return rows

    def _permutation(self, which_pass: int) -> np.ndarray:
        if self._pass[0] != which_pass:
            order = np.random.default_rng([self.seed, which_pass]).permutation(self.n_samples)
            self._pass = (which_pass, order.astype(np.int32))
        return self._pass[1]


@dataclass(frozen=True)
class _Plan:
    """How training steps are laid into blocks, and blocks into epochs.

    Attributes
    ----------
    steps_per_epoch, block_steps, n_steps : int
        The last block of an epoch and the last epoch are shorter where they don't divide.
    blocks_per_epoch, block_entries : int
        A block has two entries at least: of one alone XLA makes a program that rounds otherwise.
    """

    steps_per_epoch: int
    block_steps: int
    n_steps: int
    blocks_per_epoch: int
    block_entries: int

    @property
    def n_epochs(self) -> int:
        """Epochs of the run, the last one shorter or not."""
        return -(-self.n_steps // self.steps_per_epoch)

    def end(self, epoch: int) -> int:
        """Return the steps done after an epoch."""
        return min((epoch + 1) * self.steps_per_epoch, self.n_steps)


class SteppedModel(WatchedModel):
    """Abstract trainer: a ``keras.Model`` that trains on blocks of mini-batches.

    A subclass creates its variables in ``__init__``, gathers one mini-batch in ``call`` and returns
    its scalar loss from ``compute_loss``.

    Parameters
    ----------
    precision : {'float32', 'tf32', 'bfloat16'}, default='float32'
        Of the training's products (`clustering_common.backend.products_in`).

    Attributes
    ----------
    fixed : list of keras.Variable
        What of ``resident`` nothing changes: the data.
    step_operations : float
        Of a training step, about: on a CPU they limit how many make a block.
    """

    def __init__(self, *, precision: str = "float32", **kwargs: Any):
        super().__init__(**kwargs)
        self.precision = precision
        self.fixed: list[Any] = []
        self.step_operations = 1.0
        self._plan = _Plan(1, 1, 0, 1, 1)

    def add_resident(self, array: np.ndarray, name: str, fixed: bool = True) -> Any:
        """Put ``array`` on the device and return the variable that holds it."""
        return self.share_resident(backend.held(array, name), fixed=fixed)

    def share_resident(self, *variables: Any, fixed: bool = True) -> Any:
        """Take variables that hold arrays on the device already, and return the first."""
        self.resident.extend(variables)
        if fixed:
            self.fixed.extend(variables)
        return variables[0]

    def steps_after(self, epoch: int, blocks: int | None = None) -> int:
        """Return the training steps done after ``blocks`` of an epoch, None meaning all of it."""
        plan = self._plan
        end = plan.end(epoch)
        if blocks is None:
            return end
        return min(epoch * plan.steps_per_epoch + blocks * plan.block_steps, end)

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Compile with the optimiser, all variables built before the first trace."""
        self.built = True
        self.compile(optimizer=optimizer, loss=None, jit_compile=backend.best_jit())
        optimizer.build(self.trainable_variables)
        backend.prepare_optimizer(optimizer)

    def train_step(self, *args: Any) -> Any:
        """Train on every mini-batch of one block (see `clustering_common.backend.many_steps`)."""
        return backend.many_steps(self, super().train_step, *args)

    def make_train_function(self, force: bool = False) -> None:
        """Make what ``Model.fit`` calls for each block, unless it is made."""
        if self.train_function is not None and not force:
            return
        self.train_function: Any = backend.own_train_function(self, super().train_step)
        if self.train_function is None:
            super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: all is built, and Keras would lose the block that it reads for it."""

    def fit_steps(
        self,
        batches: Callable[[int, int], Any],
        *,
        steps_per_epoch: int,
        n_steps: int,
        first_step: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Run ``n_steps`` training steps, an epoch of ``Model.fit`` every ``steps_per_epoch``.

        Parameters
        ----------
        batches : callable
            ``batches(start, stop)`` returns the mini-batches of these steps, stacked.
        steps_per_epoch, n_steps : int
            The last epoch is shorter where they don't divide; without steps, none is run.
        first_step : int
            Steps that were done before, for a resumed run; the epochs before it are left out.
        callbacks : sequence of keras.callbacks.Callback
            See each epoch end once all its steps are done.
        """
        if first_step >= n_steps:
            self._fit_nothing(callbacks)
            return
        self._plan = plan = self._planned(batches, steps_per_epoch, n_steps)
        endless = _Endless(_blocks(batches, plan, first_step))
        try:
            with backend.products_in(self.precision):
                self.fit(
                    backend.feed(endless),
                    epochs=plan.n_epochs,
                    initial_epoch=first_step // steps_per_epoch,
                    steps_per_epoch=plan.blocks_per_epoch,
                    shuffle=False,
                    callbacks=list(callbacks),
                    verbose=0,
                )
        finally:
            endless.release()

    def _fit_nothing(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Let callbacks see that training begins and ends, where no step is left."""
        watchers = keras.callbacks.CallbackList(
            list(callbacks), model=self, epochs=0, steps=0, verbose=0
        )
        watchers.on_train_begin()
        watchers.on_train_end()

    def _planned(
        self, batches: Callable[[int, int], Any], steps_per_epoch: int, n_steps: int
    ) -> _Plan:
        """Return the plan of a training: blocks equally long, and no larger than may be."""
        step_bytes = sum(leaf.nbytes for leaf in keras.tree.flatten(batches(0, 1)))
        fitting = BLOCK_OPERATIONS / self.step_operations if backend.is_cpu() else BLOCK_STEPS
        most = max(1, min(BLOCK_STEPS, int(fitting), BLOCK_BYTES // step_bytes))
        longest = min(steps_per_epoch, n_steps)
        n_blocks = -(-longest // most)
        block_steps = -(-longest // n_blocks)
        n_entries = max(block_steps, min(2, BLOCK_BYTES // step_bytes))
        return _Plan(steps_per_epoch, block_steps, n_steps, n_blocks, n_entries)


def _blocks(batches: Callable[[int, int], Any], plan: _Plan, first_step: int) -> Iterator[Any]:
    """Yield every block of a run that ``first_step`` steps were done of, padded to one shape."""
    for epoch in range(first_step // plan.steps_per_epoch, plan.n_epochs):
        end = plan.end(epoch)
        for block in range(plan.blocks_per_epoch):
            start = epoch * plan.steps_per_epoch + block * plan.block_steps
            stop = min(start + plan.block_steps, end)
            # Of a resumed epoch the blocks that were done come again without steps.
            start = min(max(start, first_step), stop)
            yield (_padded(batches, start, stop, plan.block_entries),)


def _padded(batches: Callable[[int, int], Any], start: int, stop: int, size: int) -> Any:
    """Return ``([n_steps], batches)`` with the leading axis filled up to ``size``."""
    n_steps = stop - start
    rows = batches(start, stop) if n_steps else batches(0, 1)
    return np.array([n_steps], np.int32), keras.tree.map_structure(
        lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], size - len(leaf), axis=0)]), rows
    )


class _Endless:
    """The blocks, then blocks without steps: Keras reads two ahead to learn their shapes."""

    def __init__(self, blocks: Iterator[Any]):
        self._blocks = blocks
        self._last: Any = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        block = next(self._blocks, None)
        if block is not None:
            self._last = block
            return block
        if self._last is None:
            raise StopIteration
        ((_, batches),) = self._last
        return ((np.array([0], np.int32), batches),)

    def release(self) -> None:
        """Let go of the blocks and what makes them: TensorFlow keeps who reads them for ever."""
        self._blocks, self._last = iter(()), None


def apply_in_chunks(function: Callable[[Any], Any], X: Any) -> np.ndarray:
    """Apply a compiled function to the rows of ``X``, a fixed number of rows at a time.

    Every call has the same shape (the last chunk is padded), so nothing is compiled anew, memory
    stays bounded, and a row's result does not depend on what else is in ``X``.

    Parameters
    ----------
    function : callable
        Maps (ROWS_PER_CALL, ...) float32 to an array with the same leading axis.
    X : ndarray or sparse matrix of shape (n_samples, ...)

    Returns
    -------
    ndarray of shape (n_samples, ...)
    """
    outputs = []
    for rows, n_rows in row_chunks(X):
        outputs.append(backend.to_numpy(function(rows))[:n_rows])
    return np.concatenate(outputs)


def row_chunks(X: Any) -> Iterable[tuple[np.ndarray, int]]:
    """Yield (ROWS_PER_CALL, ...) float32 rows of ``X``, zeros at the end, and how many count."""
    for start in range(0, X.shape[0], ROWS_PER_CALL):
        part = X[start : start + ROWS_PER_CALL]
        rows = np.asarray(part.toarray() if hasattr(part, "toarray") else part, np.float32)
        if (n_rows := len(rows)) < ROWS_PER_CALL:
            padding = np.zeros((ROWS_PER_CALL - n_rows, *rows.shape[1:]), np.float32)
            rows = np.concatenate([rows, padding])
        yield rows, n_rows
