"""How many clusters: fit an estimator with several, and show what speaks for each.

python -m clustering_common.select_k --data FILE --k 2-15 [--estimator dec_da.FcDEC]
"""

import argparse
import importlib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clustering_common import cli, files
from clustering_common.evidence import Evidence, select_k
from clustering_common.evidence_report import TABLE, plot, report

__all__ = ["Evidence", "plot", "report", "select_k"]


def numbers(text: str) -> list[int]:
    """Return the numbers that '2-15' or '5' names."""
    low, _, high = text.partition("-")
    try:
        first, last = int(low), int(high or low)
    except ValueError:
        first, last = 0, 0
    if not 2 <= first <= last <= 1000:
        raise argparse.ArgumentTypeError(f"must be like 8 or 2-15, from 2 to 1000; got {text!r}")
    return list(range(first, last + 1))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = cli.OneLineParser(
        prog="python -m clustering_common.select_k",
        description="Fit an estimator with several numbers of clusters and show what speaks for "
        "each, without labels.",
    )
    add = parser.add_argument
    add("--data", type=cli.path, metavar="FILE",
        help=".npy, .npz, .csv, .parquet, .h5 or a folder of images")  # fmt: skip
    add("--data-key", type=cli.path, metavar="NAME", help="of a .npz or .h5 with several arrays")
    add("--dataset", help="a known data set, such as digits, instead of --data")
    add("--data-dir", type=cli.path, default="data", metavar="FOLDER", help="of --dataset")
    add("--image-size", nargs="+", type=cli.number(int, 1, high=4096), metavar="PIXELS",
        help="of a folder's images")  # fmt: skip
    add("--k", nargs="+", type=numbers, default=[list(range(2, 16))], metavar="K",
        help="candidates, such as 2-15 (the default) or 5 10 20")  # fmt: skip
    add("--estimator", default="dec_da.FcDEC", metavar="MODULE.CLASS",
        help="default: dec_da.FcDEC; kingdra_cluster.KingdraCluster, sklearn.cluster.KMeans, "
        "...")  # fmt: skip
    add("--set", nargs="+", default=[], metavar="NAME=VALUE",
        help="its arguments, such as aug_pretrain=true pretrain_epochs=50")  # fmt: skip
    add("--seeds", type=cli.number(int, 1, high=1000), default=3,
        help="fits of each candidate; default: 3")  # fmt: skip
    add("--seed", type=cli.number(int, 0, high=2**31), default=0, help="the first; default: 0")
    add("-d", "--save-dir", type=cli.path, default="results/select_k", metavar="FOLDER",
        help="gets select_k.csv and, with matplotlib, select_k.png")  # fmt: skip
    add("--resume", action="store_true", help="go on: fits that the save-dir has, of the same "
        "settings and data, are not done again")  # fmt: skip
    return parser


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.data) == bool(args.dataset):
        parser.error("one of --data and --dataset must be given")
    for name, what in (("image_size", "a folder as --data"), ("data_key", "--data FILE")):
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if value and not args.data:
            parser.error(f"{flag} must come with {what}; got {value!r}")
    if args.data and _is_within(args.save_dir, args.data):
        # The picture would be one more sample of the next search.
        parser.error(f"--save-dir must be outside the folder --data; got {args.save_dir!r}")
    return args


def _is_within(path: str, folder: str) -> bool:
    """Return whether a path leads into a folder, or to it."""
    data = Path(folder).expanduser()
    return data.is_dir() and Path(path).resolve().is_relative_to(data.resolve())


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of NAME=VALUE texts; a value is JSON, or text as it is."""
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--set must be NAME=VALUE; got {pair!r}. Write it so.")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        settings[name] = tuple(value) if isinstance(value, list) else value
    return settings


def _make_estimator(path: str, settings: dict[str, Any]) -> Any:
    """Return the estimator of 'module.Class'."""
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
        known = cls().get_params()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f"--estimator must be MODULE.CLASS of an estimator; got {path!r}. "
            "Such as dec_da.FcDEC or kingdra_cluster.KingdraCluster."
        ) from error
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"--set must name arguments of {name}; got {unknown[0]!r}. It has {', '.join(known)}."
        )
    return cls(**settings)


def command(argv: Sequence[str] | None = None) -> None:
    """Run what the arguments ask for."""
    args = _parsed(argv)
    from clustering_common.run_lock import locked

    settings = _settings(args.set)
    with cli.quiet_start():  # of the engine, for estimators that have one
        estimator = _make_estimator(args.estimator, settings)
    folder = files.writable_folder("--save-dir", args.save_dir)
    X = _samples(args)
    if not hasattr(estimator, "aug_pretrain"):  # who takes no images
        X = X.reshape(len(X), -1)
    ks = sorted(set(itertools.chain.from_iterable(args.k)))
    with locked("--save-dir", folder), cli.naming(_flag_names(args)):
        found = select_k(
            estimator, X, ks, n_seeds=args.seeds, seed=args.seed, say=_progress, folder=folder,
            resume=args.resume,
        )  # fmt: skip
    _say(report(found))
    try:
        plot(found, folder / "select_k.png")
        _say(f"Written to {folder / TABLE} and {folder / 'select_k.png'}.")
    except ImportError:
        _say(f"Written to {folder / TABLE}. For the picture: pip install matplotlib.")


def _flag_names(args: argparse.Namespace) -> dict[str, str]:
    """Return what the user typed for each argument that a message may name."""
    return {
        "folder": "--save-dir",
        "estimator": "--estimator",
        "ks": "--k",
        "each of ks": "each of --k",
        "X": f"--data {args.data!r}" if args.data else f"--dataset {args.dataset}",
    }


def _samples(args: argparse.Namespace) -> Any:
    """Return the samples that the arguments name."""
    from clustering_common.datasets import load_dataset
    from clustering_common.user_data import load_user_data

    if args.dataset:
        return load_dataset(args.dataset, args.data_dir).vectors
    names = {"path": "--data", "image_size": "--image-size", "data_key": "--data-key"}
    with cli.naming(names):
        return load_user_data(args.data, image_size=args.image_size, data_key=args.data_key).X


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(cli.run(command))
