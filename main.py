"""Run one DEC-DA method: ``python main.py --method FcDEC-DA --dataset mnist``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clustering_common import cli
from clustering_common.record import MEASURES

METHODS = ("FcDEC", "FcIDEC", "ConvDEC", "ConvIDEC", "FcDCN")
DATASETS = ("mnist", "mnist-test", "usps", "fmnist", "digits")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
# Arguments of the constructors; each is where its flag's value goes.
SETTINGS = (
    "n_clusters", "aug_pretrain", "aug_cluster", "layer_sizes", "alpha", "pretrain_epochs",
    "pretrain_optimizer", "pretrain_learning_rate", "max_iter", "update_interval", "tol",
    "batch_size", "optimizer", "learning_rate", "pretrained_weights", "precision", "random_state",
    "verbose",
)  # fmt: skip
MEMORY_HINT = "Lower --batch-size, --n-clusters or --layer-sizes, or use a device with more memory."


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what is not given means the paper's own for method and data set."""
    parser = cli.OneLineParser(
        prog="main.py",
        description="Cluster images with DEC-DA. Settings that are not given are the paper's own "
        "for method and data set; for digits, which it lacks, ours.",
    )
    names = [name + suffix for name in METHODS for suffix in ("", "-DA")]
    add = parser.add_argument
    add("--method", default="FcDEC", choices=names, metavar="METHOD", help=", ".join(names))
    add("-d", "--save-dir", type=cli.path, default="results/temp", metavar="FOLDER",
        help="where files go (default: %(default)s)")  # fmt: skip
    add("--seed", type=cli.number(int, 0, high=2**32 - 1), default=0, metavar="SEED",
        dest="random_state", help="default: 0")  # fmt: skip
    add("-v", "--verbose", type=cli.number(int, 0), default=1,
        help="0 says warnings and results alone, 2 each epoch and update; default: 1")  # fmt: skip
    add("-t", "--testing", action="store_true", help="score --weights instead of training")
    add(
        "-w",
        "--weights",
        type=cli.path,
        metavar="FILE",
        help=".h5 of a trained model, for --testing",
    )
    cli.add_precision(parser)
    cli.add_devices(parser)
    cli.add_resume(parser)
    cli.add_report(parser)
    _add_data(parser.add_argument_group("data").add_argument)
    _add_network(parser.add_argument_group("network").add_argument)
    _add_pretraining(parser.add_argument_group("pretraining").add_argument)
    _add_clustering(parser.add_argument_group("clustering phase").add_argument)
    return parser


def _add_data(add: Callable[..., Any]) -> None:
    add("--dataset", default="mnist", choices=DATASETS, help="default: mnist")
    add("--data-dir", type=cli.path, default="data", metavar="FOLDER",
        help="where the data sets' files are; see data/README.md")  # fmt: skip
    add("--data", type=cli.path, metavar="FILE",
        help="your own .npy, .npz, .csv, .parquet or .h5, or a folder of PNG or JPEG images, "
        "instead of --dataset")  # fmt: skip
    add("--data-key", type=cli.path, metavar="NAME", help="which array of a .npz or .h5 has the "
        "samples; default: x, X, data, or the only one beside the labels")  # fmt: skip
    add("--image-size", nargs="+", type=cli.number(int, 1, high=4096), metavar="PIXELS",
        help="of a folder's images, side or height and width; all are resized to it")  # fmt: skip
    add("--colour", choices=("auto", "grey", "rgb"), help="of a folder's images; default: auto, "
        "grey where all are")  # fmt: skip
    add("--labels", type=cli.path, metavar="FILE", help="its true labels, for scores only")
    add("--n-clusters", type=cli.number(int, 1), help="default: the data set's 10")


def _add_network(add: Callable[..., Any]) -> None:
    add("--layer-sizes", nargs="+", type=cli.number(int, 1), metavar="UNITS",
        help="of an Fc encoder; default: 500 500 2000 10, for digits 500 500 500 10")  # fmt: skip
    add("--alpha", type=cli.number(float, 0, strict=True), help="default: 1")
    add("--batch-size", type=cli.number(int, 1), help="of both phases; default: 256, for digits 64")


def _add_pretraining(add: Callable[..., Any]) -> None:
    add("--aug-pretrain", action="store_true", default=None, help="augment images in this phase")
    add("--pretrained-weights", type=cli.path, metavar="FILE", help=".h5 of an autoencoder: skips "
        "pretraining; ae_weights.h5 in the save-dir becomes a copy of it")  # fmt: skip
    add("--pretrain-epochs", type=cli.number(int, 0), help="default: 500")
    add("--pretrain-optimizer", choices=OPTIMIZERS, help="default: the method's own")
    add("--pretrain-lr", type=cli.number(float, 0, strict=True), metavar="RATE",
        dest="pretrain_learning_rate", help="default: the method's own")  # fmt: skip


def _add_clustering(add: Callable[..., Any]) -> None:
    add("--aug-cluster", action="store_true", default=None, help="augment images in this phase")
    add("--optimizer", choices=OPTIMIZERS, help="default: the method's own")
    add("--lr", type=cli.number(float, 0, strict=True), metavar="RATE", dest="learning_rate",
        help="learning rate; default: the method's own")  # fmt: skip
    add("--maxiter", type=cli.number(int, 0), metavar="STEPS", dest="max_iter",
        help="training steps at most; default: 20000, for digits 560")  # fmt: skip
    add("-i", "--update-interval", type=cli.number(int, 1),
        help="steps between updates; default: 140, for mnist-test and usps 30")  # fmt: skip
    add("--tol", type=cli.number(float, 0), help="stop when fewer labels change; default: 0.001")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments, checked together."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.testing and not args.weights:
        parser.error("-t/--testing must come with -w/--weights FILE; got none")
    if args.weights and not args.testing:
        parser.error(f"-w/--weights must come with -t/--testing; got {args.weights!r} alone")
    for name in ("resume", "report"):
        if getattr(args, name) and args.testing:
            parser.error(f"--{name} must come without -t/--testing; got both")
    if args.layer_sizes and not args.method.startswith("Fc"):
        parser.error(f"--layer-sizes must come with an Fc method; got {args.method}")
    _check_data(parser, args)
    return args


def _check_data(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop with one line unless the flags of --data fit together."""
    if args.data and not args.n_clusters:
        parser.error("--data must come with --n-clusters K; got none")
    for name in ("image_size", "colour"):
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if value and not (args.data and Path(args.data).expanduser().is_dir()):
            parser.error(f"{flag} must come with a folder as --data; got {value!r}")
    if args.image_size and len(args.image_size) > 2:
        parser.error(f"--image-size must be one or two numbers; got {args.image_size!r}")
    for name in ("labels", "data_key"):
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if value and not args.data:
            parser.error(f"{flag} must come with --data FILE; got {value!r} alone")


def flag_names(args: argparse.Namespace) -> dict[str, str]:
    """Return what the user typed for each argument that a message may name."""
    flags = build_parser().flags
    names = {name: flags[name] for name in SETTINGS}
    if args.method.endswith("-DA"):
        for name in ("aug_pretrain", "aug_cluster"):
            if not getattr(args, name):
                names[name] = f"the augmentation of --method {args.method}"
    source = f"--data {args.data!r}" if args.data else f"--dataset {args.dataset}"
    labels = f"--labels {args.labels!r}" if args.labels else f"the labels of {source}"
    weights = "--weights" if args.testing else "--pretrained-weights"
    return {
        **names,
        "X": source,
        "labels_true": labels,
        "labels": labels,
        "weights": weights,
        "checkpoint_dir": "--save-dir",
        "devices": "--devices",
    }


def load_task(args: argparse.Namespace) -> Any:
    """Return the data to work on; a data set comes as images."""
    from clustering_common.datasets import load_dataset
    from clustering_common.user_data import load_user_data
    from dec_da.experiment import Task

    if args.data:
        flags = build_parser().flags
        names = {name: flags[name] for name in ("data_key", "image_size", "colour")}
        names |= {"path": "--data", "labels_path": "--labels"}
        for flag, given in (("--data", args.data), ("--labels", args.labels)):
            path = str(Path(given).expanduser()) if given else flag
            names |= dict.fromkeys((path, repr(path)), f"{flag} {path!r}")
        with cli.naming(names):
            found = load_user_data(
                args.data,
                args.labels,
                image_size=args.image_size,
                colour=args.colour,
                data_key=args.data_key,
            )
        return Task(str(args.data), *found, path=str(args.data))
    dataset = load_dataset(args.dataset, args.data_dir)
    return Task(args.dataset, dataset.images, dataset.labels)


def inputs(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the files of the data by their flags."""
    return {"--data": args.data, "--labels": args.labels}


def make_estimator(args: argparse.Namespace) -> Any:
    """Return the estimator that the arguments ask for."""
    from dec_da import presets

    settings = {name: getattr(args, name) for name in SETTINGS}
    if args.layer_sizes:
        settings["layer_sizes"] = tuple(args.layer_sizes)
    return presets.make_estimator(args.method, None if args.data else args.dataset, **settings)


def train(args: argparse.Namespace, estimator: Any, task: Any) -> None:
    """Train, write the files, print the table and the closing line."""
    from clustering_common.run_folder import RunFolder
    from dec_da import experiment, presets, run_files

    needed = experiment.needed(task)
    place = RunFolder(args.save_dir, resume=args.resume, every=args.checkpoint_every, needed=needed)
    place.check_inputs(inputs(args), run_files.WRITTEN)
    # A run may begin with the autoencoder of its own folder, which then stays.
    weights = {"--pretrained-weights": args.pretrained_weights}
    place.check_inputs(weights, run_files.STALE)
    method = presets.paper_name(estimator)
    paper = {} if task.path else presets.paper_figures(method, task.name)
    record = experiment.train(
        estimator, task, place, method=method, seed=args.random_state,
        paper=paper, with_report=args.report,
    )  # fmt: skip
    seconds = record["seconds"]
    print(
        f"{method} on {task.name}: {record['n_iter']} iterations, "
        f"stopped by {record['termination_condition']}, {seconds['total']:.1f} s "
        f"(pretraining {seconds['pretrain']:.1f}, clustering {seconds['cluster']:.1f}). "
        f"Files in {place.path}."
    )
    if args.report:
        print(f"Report: {place.path / 'report.html'}")
    if record["empty_clusters"]:
        print(f"Warning: {record['empty_clusters']}.")
    if task.labels is None:
        sizes = list(enumerate(record["cluster_sizes"]))
        print(cli.table(["cluster", "samples"], sizes))
        return
    metrics = record["metrics"]
    rows = [
        ["k-means on pixels", *(metrics["kmeans_pixels"][name] for name in MEASURES)],
        ["k-means on embedding", *(metrics["kmeans_embedding"][name] for name in MEASURES)],
        [method, *(metrics["final"][name] for name in MEASURES)],
    ]
    if paper:
        rows.append(["paper (mean of 5)", *(paper.get(name) for name in MEASURES)])
    print(cli.table(["", *MEASURES], rows))
    print(cli.score_line(metrics["final"]))


def test(args: argparse.Namespace, estimator: Any, task: Any) -> None:
    """Score trained weights and print the closing line; of files, write where each belongs."""
    from clustering_common.callbacks import scores
    from clustering_common.run_folder import RunFolder
    from clustering_common.samples_file import SAMPLES_FILE
    from dec_da import experiment

    place = RunFolder(args.save_dir) if task.names else None
    if place is not None:
        place.check_inputs(inputs(args), [SAMPLES_FILE])
    estimator.load_weights(args.weights, task.X.shape[1:])
    labels = estimator.predict(task.X)
    if place is not None:
        print(f"Written to {experiment.write_tested(place, task, estimator, labels)}.")
    if task.labels is None:
        import numpy as np

        sizes = np.bincount(labels, minlength=estimator.n_clusters)
        print(cli.table(["cluster", "samples"], list(enumerate(sizes.tolist()))))
        return
    print(cli.score_line(scores(task.labels, labels)))


def command(argv: Sequence[str] | None = None) -> None:
    """Parse, load, then train or test."""
    args = parse(argv)
    for name in ("weights", "pretrained_weights"):
        path = getattr(args, name)
        if path and not Path(path).is_file():
            flag = "--" + name.replace("_", "-")
            raise FileNotFoundError(
                f"{flag} must be an existing .h5 file; got {path!r}. Check the path."
            )
    with cli.quiet_start():
        import keras  # noqa: F401 (starts the engine)
    from clustering_common import devices

    with cli.naming(flag_names(args)), devices.use(args.devices):
        estimator, task = make_estimator(args), load_task(args)
        (test if args.testing else train)(args, estimator, task)


if __name__ == "__main__":
    sys.exit(cli.run(command, memory_hint=MEMORY_HINT))
