"""Run experiments: without a config the DEC-DA grid of the paper's table."""

import argparse
import sys
from collections.abc import Sequence

from clustering_common import cli

METHODS = ("FcDEC", "FcIDEC", "ConvDEC", "ConvIDEC", "FcDCN")
DATASETS = ("mnist", "mnist-test", "usps", "fmnist")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = cli.OneLineParser(
        prog="run_exp.py",
        description="The DEC-DA grid, methods x data sets x trials, to results.csv.",
    )
    names = [name + suffix for name in METHODS for suffix in ("", "-DA")]
    add = parser.add_argument
    add("--methods", nargs="+", default=names, choices=names, metavar="METHOD",
        help=f"of {', '.join(names)} (default: all)")  # fmt: skip
    add("--datasets", nargs="+", default=list(DATASETS), choices=[*DATASETS, "digits"],
        metavar="NAME", help=f"of {', '.join(DATASETS)}, digits (default: first 4)")  # fmt: skip
    add("--trials", type=cli.number(int, 1), default=5, help="default: 5")
    add("--pretrain-epochs", type=cli.number(int, 0), help="default: the paper's 500")
    add("--maxiter", type=cli.number(int, 0), help="default: the paper's 20000")
    add("--seed", type=cli.number(int, 0, high=2**31), default=0,
        help="of the first trial; the next have the next (default: 0)")  # fmt: skip
    add("--data-dir", default="data", help="where the data sets' files are; see data/README.md")
    add("-d", "--save-dir", default="results/dec_da", help="default: %(default)s")
    add("-v", "--verbose", type=cli.number(int, 0), default=1, help="0 is silent; default: 1")
    return parser


def command(argv: Sequence[str] | None = None) -> None:
    """Run the grid and print its table."""
    args = build_parser().parse_args(argv)
    with cli.quiet_start():
        import keras  # noqa: F401 (starts the engine)
    from clustering_common import files
    from clustering_common.callbacks import show_progress
    from dec_da import grid

    show_progress(args.verbose)
    folder = files.writable_folder("--save-dir", args.save_dir)
    rows = grid.run_grid(
        args.methods,
        args.datasets,
        folder,
        n_trials=args.trials,
        data_dir=args.data_dir,
        seed=args.seed,
        pretrain_epochs=args.pretrain_epochs,
        max_iter=args.maxiter,
        verbose=args.verbose,
    )
    print(grid.summary(rows))
    print(f"Written to {folder / 'results.csv'}.")


if __name__ == "__main__":
    sys.exit(cli.run(command))
