"""Read a folder of images as one array of samples."""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from clustering_common.aligned import aligned_empty
from clustering_common.array_files import file_error, memory_bytes
from clustering_common.checks import check_choice, check_number

__all__ = ["load_images"]

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
COLOURS = ("auto", "grey", "rgb")
GREY_MODES = ("1", "L", "LA", "I", "I;16")
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: height and width change places
MAX_PIXELS = 1 << 26  # of one file
MAX_SIDE = 1 << 12  # of what becomes of it
# What Pillow raises on a damaged file.
IMAGE_ERRORS = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError,
    EOFError, MemoryError, struct.error, TypeError, KeyError, IndexError, AttributeError,
)  # fmt: skip


def image_paths(folder: Path) -> list[Path]:
    """Return all image files below a folder, by name; hidden files and folders are left out.

    Raises
    ------
    ValueError
        If there is none.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        way_out = f"Put files {', '.join(SUFFIXES)} into it."
        raise file_error(folder, "a folder with images", "none", way_out)
    return paths


def load_images(
    folder: str | os.PathLike[str],
    *,
    image_size: int | Sequence[int] | None = None,
    colour: str = "auto",
) -> tuple[NDArray[np.float32], list[str]]:
    """Return the PNG and JPEG images below a folder, and their names.

    Parameters
    ----------
    folder : path
        Its images, and those of its folders, in the order of their names.
    image_size : int or (height, width), default=None
        Pixels; every image is resized to it (bilinear, averaging where it shrinks). None takes
        them as they are; all must have one size then.
    colour : {'auto', 'grey', 'rgb'}, default='auto'
        'auto' is grey where all images are, otherwise rgb.

    Returns
    -------
    X : float32 ndarray of shape (n, height, width), or (n, height, width, 3) for rgb
        From 0 to 1. What is transparent lies on white.
    names : list of str
        Of each image, from the folder on; bytes that are no UTF-8 are escaped as Python does it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no image, one is damaged or larger than 67 million pixels, two would have one
        name, or their sizes differ and `image_size` is None.
    """
    source = Path(folder).expanduser()
    if not source.is_dir():
        raise FileNotFoundError(
            f"folder must be an existing folder; got {str(source)!r}. Check its spelling."
        )
    check_choice("colour", colour, COLOURS)
    size = _check_size(image_size)
    paths = image_paths(source)
    names = _names(source, paths)
    modes, shapes = zip(*map(_header, paths), strict=True)
    if size is None:
        size = _common_size(paths, shapes)
    is_grey = colour == "grey" or (colour == "auto" and all(m in GREY_MODES for m in modes))
    shape = (len(paths), *size, *(() if is_grey else (3,)))
    if 4 * math.prod(shape) > memory_bytes():
        found = f"{4 * math.prod(shape) >> 20} MB of pixels"
        wanted = f"a folder of images for the {memory_bytes() >> 20} MB of memory here"
        raise file_error(source, wanted, found, "Give a smaller image_size.")
    X = aligned_empty(shape)
    for row, path in enumerate(paths):
        X[row] = _pixels(path, size, is_grey)
    return X, names


def _names(source: Path, paths: list[Path]) -> list[str]:
    """Return the names as texts that can be written, each its own."""
    plain = (path.relative_to(source).as_posix() for path in paths)
    names = [name.encode("utf-8", "backslashreplace").decode() for name in plain]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            way_out = "Rename the one that is not UTF-8."
            raise file_error(source, "a folder of unlike names", f"two that read {name}", way_out)
        seen.add(name)
    return names


def _check_size(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return (height, width), or None."""
    if image_size is None:
        return None
    sides = [image_size] if isinstance(image_size, int | np.integer) else list(image_size)
    if len(sides) not in (1, 2):
        raise ValueError(
            f"image_size must be one number or height and width; got {image_size!r}. Give two."
        )
    for side in sides:
        check_number("image_size", side, integer=True, low=1, high=MAX_SIDE)
    return int(sides[0]), int(sides[-1])


def _opened(path: Path) -> Image.Image:
    """Return an image whose pixels are not read yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            image = Image.open(path, formats=FORMATS)
    except IMAGE_ERRORS as error:
        raise file_error(path, "a PNG or JPEG image", _reason(error)) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        found = f"{image.width} x {image.height} pixels"
        raise file_error(path, f"an image of at most {MAX_PIXELS} pixels", found, "Shrink it.")
    return image


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    """Return the mode and (height, width) of an image."""
    with _opened(path) as image:
        mode = image.mode
        if mode == "P":  # colours by number
            mode = "RGB"
        try:
            is_turned = image.getexif().get(ORIENTATION) in TURNED
        except IMAGE_ERRORS as error:
            raise file_error(path, "an intact image", _reason(error)) from error
        size = (image.height, image.width)
        return mode, size[::-1] if is_turned else size


def _common_size(paths: list[Path], shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size that all images have."""
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0]:
            found = f"{shape[0]} x {shape[1]}"
            wanted = f"of {shapes[0][0]} x {shapes[0][1]} pixels like {paths[0].name!r}"
            raise file_error(path, wanted, found, "Give image_size; all are resized to it.")
    if max(shapes[0]) > MAX_SIDE:
        found = f"{shapes[0][0]} x {shapes[0][1]} pixels"
        wanted = f"at most {MAX_SIDE} pixels high and wide"
        raise file_error(paths[0], wanted, found, "Give image_size; all are resized to it.")
    return shapes[0]


def _pixels(path: Path, size: tuple[int, int], is_grey: bool) -> NDArray[np.float32]:
    """Return an image's pixels from 0 to 1, (height, width) or (height, width, 3)."""
    with _opened(path) as image:
        try:
            image.draft(None, (2 * max(size), 2 * max(size)))  # a JPEG unpacks no more than that
            image = ImageOps.exif_transpose(image)  # as the camera was held
            image = _on_white(_of_8_bits(image)).convert("L" if is_grey else "RGB")
            if (image.height, image.width) != size:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            return np.asarray(image, np.float32) / np.float32(255)
        except IMAGE_ERRORS as error:
            raise file_error(path, "an intact image", _reason(error)) from error


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits a pixel as one of 8: Pillow's own convert cuts off."""
    if image.mode in ("I", "I;16"):
        return Image.fromarray((np.asarray(image, np.float64) / 257).round().astype(np.uint8))
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image with what is transparent on white."""
    if "transparency" not in image.info and image.mode not in ("LA", "RGBA", "PA"):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
