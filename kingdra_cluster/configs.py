"""JSON configs of Kingdra experiments (SPEC 2.6)."""

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from clustering_common.checks import check_choice, check_number
from clustering_common.datasets import FOLDER_NAMES
from clustering_common.image_files import MAX_SIDE
from kingdra_cluster.base import LadderClusterer
from kingdra_cluster.kingdra_cluster import KingdraCluster
from kingdra_cluster.ladder_im import LadderIM

MODELS: dict[str, type[LadderClusterer]] = {"KingdraCluster": KingdraCluster, "LadderIM": LadderIM}
PLACE_KEYS = ("training_path", "ground_truth_path", "dataset")
READING_KEYS = ("image_size", "colour", "data_key")
DATA_KEYS = (*PLACE_KEYS, *READING_KEYS)
OTHER_KEYS = ("model", "paper_row")
RUN_KEYS = ("random_state", "verbose", "precision")  # belong to a run, not to a config
MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class Config:
    """One experiment.

    Attributes
    ----------
    name : str
        The file's name without ``.json``.
    model : str
        Key of ``MODELS``.
    params : dict
        Constructor arguments.
    training_path, ground_truth_path, dataset : str or None
        Where the data is: files, for samples also a folder of images, or the name of a data set.
    image_size, colour, data_key : optional
        Of images, and of a file of several arrays, as `user_data.load_user_data` takes them.
    paper_row : tuple of str or None
        Method and data set in the paper's table.
    """

    name: str
    model: str
    params: dict[str, Any]
    training_path: str | None = None
    ground_truth_path: str | None = None
    dataset: str | None = None
    image_size: int | list[int] | None = None
    colour: str | None = None
    data_key: str | None = None
    paper_row: tuple[str, str] | None = None

    def make_estimator(self, **params: Any) -> LadderClusterer:
        """Return the estimator, with ``params`` on top."""
        return MODELS[self.model](**{**self.params, **params})

    def paper_figure(self) -> dict[str, float]:
        """Return the published ``acc`` and ``std``, {} where there is none."""
        method, dataset = self.paper_row or ("", "")
        return paper_table().get(method, {}).get(dataset, {})


def paper_table() -> dict[str, Any]:
    """Return the paper's table, method by method."""
    text = resources.files("kingdra_cluster").joinpath("paper.json").read_text()
    return json.loads(text)["methods"]


def read_config(path: str | os.PathLike) -> Config:
    """Read a config; anything wrong with it is one line.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON object, has unknown keys (the known ones are listed), or names no data.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(
            f"CONFIG must be an existing .json file; got {str(path)!r}. See the folder configs."
        )
    content = _parsed(source)
    model = content.pop("model", "KingdraCluster")
    check_choice("model", model, tuple(MODELS))
    params = sorted(set(MODELS[model]._get_param_names()) - set(RUN_KEYS))  # type: ignore[attr-defined]
    known = [*DATA_KEYS, *OTHER_KEYS, *params]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(
            f"{source.name}: unknown key {', '.join(map(repr, unknown))} for {model}; "
            f"the known ones are {', '.join(known)}."
        )
    places = {key: content.pop(key, None) for key in DATA_KEYS}
    if bool(places["training_path"]) == bool(places["dataset"]):
        raise ValueError(
            f"{source.name}: training_path must name a file or a folder of images, or dataset a "
            f"data set, and not both; got {places['training_path']!r} and {places['dataset']!r}. "
            "Give one of them."
        )
    _check_places(source, places)
    row = _paper_row(source, content.pop("paper_row", None))
    return Config(source.stem, model, content, **places, paper_row=row)


def _check_places(source: Path, places: dict[str, Any]) -> None:
    """Raise unless what names data is text that can be used."""
    for key in (*PLACE_KEYS, "colour", "data_key"):
        value = places[key]
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{source.name}: {key} must be text; got {value!r}. Put it in quotes.")
    for key in READING_KEYS:
        if places[key] is not None and places["dataset"]:
            raise ValueError(
                f"{source.name}: {key} must come with training_path; got {places[key]!r} with "
                f"dataset {places['dataset']!r}. Leave it out."
            )
    size = places["image_size"]
    for side in size if isinstance(size, list) else [size] if size is not None else []:
        check_number(f"{source.name}: image_size", side, integer=True, low=1, high=MAX_SIDE)
    if places["dataset"]:
        check_choice(f"{source.name}: dataset", places["dataset"], (*FOLDER_NAMES, "digits"))
    if places["dataset"] and places["ground_truth_path"]:
        raise ValueError(
            f"{source.name}: ground_truth_path must come with training_path; got "
            f"{places['ground_truth_path']!r} with dataset {places['dataset']!r}, which brings its "
            "own labels. Leave it out."
        )


def _paper_row(source: Path, row: Any) -> tuple[str, str] | None:
    """Return the method and data set of the paper's table that a config names, or raise."""
    if row is None:
        return None
    methods = paper_table()
    if isinstance(row, list) and len(row) == 2 and all(isinstance(name, str) for name in row):
        method, dataset = row
        if dataset in methods.get(method, {}):
            return method, dataset
    raise ValueError(
        f"{source.name}: paper_row must be a method and a data set of the paper's table; got "
        f"{row!r}. The methods are {', '.join(methods)}."
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, or raise where a key comes twice: JSON would drop the first."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key!r} comes twice")
        content[key] = value
    return content


def _parsed(source: Path) -> dict[str, Any]:
    try:
        if source.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is larger than 1 MB")
        content = json.loads(source.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"CONFIG must be a JSON file; got {str(source)!r} ({error}). See the folder configs."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"CONFIG must be a JSON object; got {type(content).__name__} in {str(source)!r}. "
            "See the folder configs."
        )
    return content
