"""Run experiments: a Kingdra config, or without one the DEC-DA grid of the paper's table."""

import argparse
import functools
import sys
from collections.abc import Sequence

from clustering_common import cli

METHODS = ("FcDEC", "FcIDEC", "ConvDEC", "ConvIDEC", "FcDCN")
DATASETS = ("mnist", "mnist-test", "usps", "fmnist")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = cli.OneLineParser(
        prog="run_exp.py",
        description="Run a Kingdra experiment from CONFIG, or without one the DEC-DA grid: "
        "methods x data sets x trials, to results.csv.",
    )
    names = [name + suffix for name in METHODS for suffix in ("", "-DA")]
    add = parser.add_argument
    add("config", nargs="?", metavar="CONFIG", help="such as configs/kingdra_ladder_im_mnist.json")
    add("--seed", type=cli.number(int, 0, high=2**31), default=0,
        help="of the first trial; the next have the next (default: 0)")  # fmt: skip
    add("--data-dir", type=cli.path, metavar="FOLDER",
        help="grid: where the data sets' files are (default: data); config: the folder that its "
        "paths start from (default: this one)")  # fmt: skip
    add("-d", "--save-dir", type=cli.path, metavar="FOLDER",
        help="default: results/dec_da, or results/NAME of a config")  # fmt: skip
    add("-v", "--verbose", type=cli.number(int, 0), default=1,
        help="0 says warnings and results alone, 2 more than 1; default: 1")  # fmt: skip
    cli.add_precision(parser)
    cli.add_devices(parser)
    cli.add_resume(parser)
    cli.add_report(parser)
    grid = parser.add_argument_group("of the grid")
    add = grid.add_argument
    add("--methods", nargs="+", choices=names, metavar="METHOD",
        help=f"of {', '.join(names)} (default: all)")  # fmt: skip
    add("--datasets", nargs="+", choices=[*DATASETS, "digits"],
        metavar="NAME", help=f"of {', '.join(DATASETS)}, digits (default: first 4)")  # fmt: skip
    add("--trials", type=cli.number(int, 1, high=1000), help="default: 5")
    add("--pretrain-epochs", type=cli.number(int, 0), help="default: 500, the paper's")
    add("--maxiter", type=cli.number(int, 0),
        help="default: the paper's 20000; for digits, which it lacks, 560")  # fmt: skip
    add("--jobs", type=cli.number(int, 1, high=1000), metavar="N",
        help="trials at a time, each in a process of its own (default: 1)")  # fmt: skip
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked together."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ("methods", "datasets", "trials", "pretrain_epochs", "maxiter", "jobs"):
        if args.config and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} must come without CONFIG; got both")
    if (args.jobs or 1) > 1 and args.devices > 1:
        parser.error("--devices must be 1 with --jobs above 1; got both")
    return args


def run_grid(args: argparse.Namespace) -> None:
    """Run the DEC-DA grid and print its table."""
    from clustering_common import files
    from clustering_common.run_lock import locked
    from dec_da import grid, grid_table, presets

    folder = files.writable_folder("--save-dir", args.save_dir or "results/dec_da")
    with locked("--save-dir", folder):
        files.remove_parts(folder)
        rows = grid.run_grid(
            args.methods or presets.METHODS,
            args.datasets or DATASETS,
            folder,
            n_trials=args.trials or 5,
            data_dir=args.data_dir or "data",
            seed=args.seed,
            pretrain_epochs=args.pretrain_epochs,
            max_iter=args.maxiter,
            precision=args.precision,
            verbose=args.verbose,
            resume=args.resume,
            checkpoint_every=args.checkpoint_every,
            n_jobs=args.jobs or 1,
            with_report=args.report,
        )
    print(grid_table.summary(rows))
    print(f"Written to {folder / 'results.csv'}.")
    if args.report:
        print(f"Report: {folder / 'report.html'}")


def run_config(args: argparse.Namespace) -> None:
    """Run a Kingdra experiment, print each iteration and the closing table."""
    from clustering_common.run_folder import RunFolder
    from kingdra_cluster import configs, experiment

    config = configs.read_config(args.config)
    estimator = config.make_estimator(
        random_state=args.seed, precision=args.precision, verbose=args.verbose
    )
    estimator.check()
    data = experiment.load_data(config, args.data_dir or ".")
    estimator.check(data.X.shape)
    path = args.save_dir or f"results/{config.name}"
    needed = experiment.needed(data)
    place = RunFolder(path, resume=args.resume, every=args.checkpoint_every, needed=needed)
    given = {"CONFIG": args.config, **experiment.input_paths(config, args.data_dir or ".")}
    place.check_inputs(given, experiment.WRITTEN)

    say = functools.partial(print, flush=True) if args.verbose else lambda line: None
    record = experiment.run(
        config, estimator, data, place, seed=args.seed, say=say, with_report=args.report
    )
    print(f"{config.name}: {record['seconds']['total']:.1f} s. Files in {place.path}.")
    if args.report:
        print(f"Report: {place.path / 'report.html'}")
    if record["empty_clusters"]:
        print(f"Warning: {record['empty_clusters']}.")
    print(experiment.report(record))


def command(argv: Sequence[str] | None = None) -> None:
    """Run what the arguments ask for."""
    args = parse(argv)
    with cli.quiet_start():
        import keras  # noqa: F401 (starts the engine)
    from clustering_common import devices
    from clustering_common.progress import show_progress

    show_progress(args.verbose)
    names = {"checkpoint_dir": "--save-dir", "devices": "--devices"}
    with cli.naming(names), devices.use(args.devices):
        (run_config if args.config else run_grid)(args)


if __name__ == "__main__":
    sys.exit(cli.run(command))
