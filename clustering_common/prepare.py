"""Make the .npy files that the configs of Kingdra name.

``python -m clustering_common.prepare NAME`` fetches a data set and writes
ens_cluster_datasets/NAME/train_X.npy and train_Y.npy; given the authors' zip, it unpacks that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clustering_common import cli, datasets, files, prepare_images, prepare_text, prepare_zip
from clustering_common.checks import check_choice, check_finite
from clustering_common.datasets import Samples
from clustering_common.prepare_layout import FOLDERS, Say, folder_of, keeps, write_pair

__all__ = ["prepare"]

# What is made here; the other names are those of load_dataset.
MAKERS: dict[str, Callable[[Say], Samples]] = {
    "20news": prepare_text.newsgroups,
    "reuters": prepare_text.reuters,
    "cifar10": prepare_images.cifar10,
    "stl10": prepare_images.stl10,
}


def prepare(name: str, data_dir: Path, say: Say, *, force: bool = False) -> None:
    """Fetch a data set, bring it to vectors, and write it below `data_dir`.

    Parameters
    ----------
    name : str
        Key of ``FOLDERS``.
    data_dir : Path
        An existing folder. Files of mnist, fmnist and usps are looked for in its folder "data"
        before they are downloaded (`load_dataset`).
    say : callable
        Takes a line for the user.
    force : bool, default=False
        Whether to make and write over files that are there.

    Raises
    ------
    DatasetUnavailableError
        If the download fails; the text says what to put where.
    ValueError
        If the name is unknown, or files are damaged.
    """
    check_choice("name", name, tuple(FOLDERS))
    folder = folder_of(name, data_dir)
    if keeps(folder, force, say):
        return
    if name in MAKERS:
        X, labels = MAKERS[name](say)
    else:
        dataset = datasets.load_dataset(name, data_dir / "data", fetch=_download)
        X, labels = dataset.vectors, dataset.labels
    check_finite(name, X)
    say(write_pair(folder, X.astype(np.float32, copy=False), labels.astype(np.int64, copy=False)))


def _download(name: str) -> Samples:
    """Return what `download` gives, without the start-up chatter of Keras's engine."""
    if name != "usps":
        with cli.quiet_start():
            import keras  # noqa: F401
    return datasets.download(name)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = cli.OneLineParser(
        prog="python -m clustering_common.prepare",
        description="Make the files that the configs of Kingdra name, "
        "ens_cluster_datasets/*/train_X.npy and train_Y.npy.",
    )
    add = parser.add_argument
    add("name", metavar="NAME", help=f"one of {', '.join(FOLDERS)}, or the authors' "
        "ens_cluster_datasets.zip, of which everything is unpacked")  # fmt: skip
    add("--zip", metavar="FILE", help="the authors' zip, to unpack NAME from")
    add("--data-dir", default=".", metavar="DIR",
        help="gets the folder ens_cluster_datasets (default: this folder)")  # fmt: skip
    add("--force", action="store_true", help="make files anew that are there already")
    return parser


def command(argv: Sequence[str] | None = None) -> None:
    """Do what the arguments ask for."""
    parser = build_parser()
    args = parser.parse_args(argv)
    is_zip = args.name not in FOLDERS
    if is_zip and not args.name.lower().endswith(".zip"):
        names = ", ".join(FOLDERS)
        parser.error(f"NAME must be one of {names}, or a .zip file; got {args.name!r}")
    if is_zip and args.zip:
        parser.error(f"--zip must come with the name of a data set; got {args.name!r}")
    data_dir = files.writable_folder("--data-dir", Path(args.data_dir).expanduser())
    if is_zip or args.zip:
        path = Path(args.zip or args.name).expanduser()
        name = None if is_zip else args.name
        prepare_zip.unpack(path, data_dir, _say, name=name, force=args.force)
    else:
        prepare(args.name, data_dir, _say, force=args.force)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(cli.run(command))
