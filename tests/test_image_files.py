"""A folder of images becomes samples; what is no image is one line."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import main
from clustering_common import cli
from clustering_common.image_files import load_images
from clustering_common.samples_file import write_samples
from clustering_common.user_data import load_user_data

ROOT = Path(__file__).resolve().parent.parent


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.png", "sub/c.PNG", "sub/d.jpg"):
        save(tmp_path / "images" / name, rng.integers(0, 256, (8, 6)))
    (tmp_path / "images/notes.txt").write_text("no image")
    save(tmp_path / "images/.hidden/e.png", np.zeros((3, 3)))
    return tmp_path / "images"


def test_names_and_pixels(folder):
    X, names = load_images(folder)
    assert names == ["a.png", "b.png", "sub/c.PNG", "sub/d.jpg"]
    assert X.shape == (4, 8, 6) and X.dtype == np.float32
    for row, name in enumerate(names):
        with Image.open(folder / name) as image:
            np.testing.assert_array_equal(X[row], np.asarray(image) / np.float32(255))
    found = load_user_data(folder)
    assert found.names == names and found.labels is None and (found.X == X).all()


def test_one_image_in_colour_makes_all_rgb(folder):
    save(folder / "e.png", np.full((8, 6, 3), [255, 0, 51]))
    X, names = load_images(folder)
    assert X.shape == (5, 8, 6, 3)
    np.testing.assert_allclose(X[names.index("e.png")], np.full((8, 6, 3), [1, 0, 0.2]), atol=1e-6)
    np.testing.assert_array_equal(X[0, ..., 0], X[0, ..., 2])
    assert load_images(folder, colour="grey")[0].shape == (5, 8, 6)


def test_sizes(folder):
    X, _ = load_images(folder, image_size=4)
    assert X.shape == (4, 4, 4)
    assert load_images(folder, image_size=(5, 7))[0].shape == (4, 5, 7)
    # A half averages: no pixel is left out.
    half = np.zeros((8, 6))
    half[::2] = 255
    save(folder / "a.png", half)
    small = load_images(folder, image_size=(4, 3))[0][0]
    assert abs(small[1:-1] - 0.5).max() < 0.01
    save(folder / "z.png", np.zeros((9, 6)))
    with pytest.raises(ValueError, match=r"z\.png' must be of 8 x 6 pixels like 'a\.png'; got 9"):
        load_images(folder)
    assert load_images(folder, image_size=8)[0].shape == (5, 8, 8)


def test_kinds_of_pixels(tmp_path):
    save(tmp_path / "rgba.png", [[[255, 0, 0, 255], [255, 0, 0, 0]]])
    X, _ = load_images(tmp_path)
    np.testing.assert_allclose(X[0, 0], [[1, 0, 0], [1, 1, 1]])  # on white
    (tmp_path / "rgba.png").unlink()
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_allclose(load_images(tmp_path)[0][0, 0], [0, 1 / 255, 1])
    Image.fromarray(np.array([[False, True, True]])).save(tmp_path / "deep.png")
    np.testing.assert_allclose(load_images(tmp_path)[0][0, 0], [0, 1, 1])
    Image.fromarray(np.array([[10, 200, 90]], np.uint8)).convert("P").save(tmp_path / "deep.png")
    assert load_images(tmp_path)[0].shape == (1, 1, 3, 3)


def test_photos_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the left when it was taken
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    X, _ = load_images(tmp_path)
    assert X.shape == (1, 16, 8)
    assert X[0, :7].min() > 0.9 and X[0, 9:].max() < 0.1


def test_more_images_than_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr("clustering_common.image_files.memory_bytes", lambda: 3 << 20)
    with pytest.raises(ValueError, match=r"got 15 MB of pixels\. Give a smaller image_size"):
        load_images(folder, image_size=1000)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_damaged_files_are_one_line(folder, content):
    (folder / "b.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"b\.png' must be a PNG or JPEG image; got") as caught:
        load_images(folder)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_one_line(folder):
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"b\.png' must be an intact image; got"):
        load_images(folder)


def test_bad_arguments(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder must be an existing folder"):
        load_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must be a folder with images; got none"):
        load_images(tmp_path / "empty")
    for size in (0, -1, 5000, (1, 2, 3), ()):
        with pytest.raises(ValueError, match="image_size must be"):
            load_images(folder, image_size=size)
    with pytest.raises(ValueError, match="colour must be one of auto, grey, rgb; got 'blue'"):
        load_images(folder, colour="blue")
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match="image_size must come with a folder of images; got 8"):
        load_user_data(tmp_path / "x.npy", image_size=8)


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("clustering_common.image_files.MAX_PIXELS", 40)
    save(tmp_path / "a.png", np.zeros((7, 6)))
    with pytest.raises(ValueError, match="must be an image of at most 40 pixels; got 6 x 7"):
        load_images(tmp_path, image_size=2)


TINY = ["--n-clusters", "2", "--pretrain-epochs", "1", "--maxiter", "1", "--layer-sizes", "4", "2"]


def test_main_takes_a_folder(folder, tmp_path, handlers):
    out = tmp_path / "out"
    argv = ["--data", str(folder), "--image-size", "8", *TINY, "-d", str(out), "-v", "0"]
    assert cli.run(main.command, [*argv, "--method", "FcDEC-DA"]) == 0
    with open(out / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "b.png", "sub/c.PNG", "sub/d.jpg"]
    assert [int(row["cluster"]) for row in rows] == np.load(out / "labels.npy").tolist()
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_not_utf8_stay_distinct(folder):
    (folder / "a.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xe9.png"))
    (folder / "b.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xe8.png"))
    names = load_images(folder)[1]
    assert names[-2:] == [r"\udce8.png", r"\udce9.png"]
    (folder / "sub/c.PNG").rename(folder / r"\udce9.png")
    with pytest.raises(ValueError, match=r"unlike names; got two that read \\udce9.png\. Rename"):
        load_images(folder)


def test_samples_csv_has_no_formulas(tmp_path):
    ordinary = ["a.png", "ä/=.png", "a-1.png", "a, b.png", 'a"b.png', "a\nb.png", " .png"]
    names = [*ordinary, "=cmd|calc.png", "+1.png", "-1.png", "@a.png", "\ta.png", "\r=.png"]
    proba = np.full((len(names), 2), 0.5)
    path = write_samples(tmp_path, names, proba, np.zeros(len(names), int))
    found = [row["file"] for row in rows_of(path)]
    assert found[: len(ordinary)] == ordinary
    assert not any(name.startswith(("=", "+", "-", "@", "\t", "\r")) for name in found)
    assert list(map(Path, found)) == list(map(Path, names))


def test_tables_are_utf8_wherever_they_are_written(tmp_path):
    code = (
        "from clustering_common import files\n"
        f"files.write_csv({str(tmp_path / 'x.csv')!r}, ['file'], [{{'file': chr(0xe4)}}])\n"
    )
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert rows_of(tmp_path / "x.csv") == [{"file": "ä"}]


@pytest.fixture
def numbered(tmp_path):
    """A folder whose images' order, 0, 1, 10, 2, is not that of their numbers."""
    (tmp_path / "numbered").mkdir()
    for number in range(11):
        save(tmp_path / f"numbered/{number}.png", np.zeros((4, 4)))
    return tmp_path / "numbered"


def label_table(folder, header="file,label", names="{}.png", numbers=range(11)):
    """Write a table in which each file's label is its number."""
    lines = [header] if header else []
    lines += [
        ",".join([names.format(k), *[str(k)] * ("," in header or not header)]) for k in numbers
    ]
    path = folder.parent / "labels.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("header", ["file,label", "FileName , y", "photo,species", "", ",0"])
@pytest.mark.parametrize("names", ["{}.png", "./{}.png", ".\\{}.png", " {}.png "])
def test_labels_go_by_the_files_names(numbered, header, names):
    wanted = [0, 1, 10, *range(2, 10)]
    for numbers in (range(11), range(10, -1, -1)):
        data = load_user_data(numbered, label_table(numbered, header, names, numbers))
        assert data.labels.tolist() == wanted
    with pytest.raises(ValueError, match=r"none for '0\.png' and 1 more\. Correct"):
        load_user_data(numbered, label_table(numbered, header, names, range(1, 10)))


def test_labels_without_names_go_by_the_images_order(numbered):
    path = label_table(numbered, "label", "{}")
    assert load_user_data(numbered, path).labels.tolist() == list(range(11))
    path.write_text("id,label\n" + "".join(f"{k},{k}\n" for k in range(11)))
    assert load_user_data(numbered, path).labels.tolist() == list(range(11))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("11.png,3", "one line for each image of the folder; got one for '11.png', which is not"),
        ("3.png,3", "got two for '3.png'"),
        ("./3.png,4", "got two for '3.png'"),
    ],
)
def test_files_in_a_table_of_labels_that_do_not_fit(numbered, line, text):
    path = label_table(numbered)
    path.write_text(f"{path.read_text()}\n{line}\n")
    with pytest.raises(ValueError, match=text) as caught:
        load_user_data(numbered, path)
    assert "\n" not in str(caught.value) and str(caught.value).count("; got ") == 1
    # Names that can't be those of images are not passed over either.
    with pytest.raises(ValueError, match="got one for '0', which is not in it"):
        load_user_data(numbered, label_table(numbered, names="{}"))


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_our_own_table_of_clusters_is_one_of_labels(folder, tmp_path):
    for name in (b"=1.png", b"\xe9.png", b" a, b.png", b"c\\d.png", b"=\xe8.png"):
        (folder / "a.png").rename(os.fsdecode(os.fsencode(folder) + b"/" + name))
        save(folder / "a.png", np.zeros((8, 6)))
    names = load_images(folder)[1]
    labels = np.arange(len(names))
    path = write_samples(tmp_path, names, np.ones((len(names), len(names))), labels)
    content = path.read_text(encoding="utf-8").replace("cluster", "label", 1).splitlines()
    path.write_text("\n".join([content[0], *content[:0:-1]]), encoding="utf-8")
    np.testing.assert_array_equal(load_user_data(folder, path).labels, labels)


def test_messages_name_the_flag_of_the_size(folder, tmp_path, capsys):
    save(folder / "z.png", np.zeros((9, 6)))
    assert cli.run(main.command, ["--data", str(folder), *TINY, "-d", str(tmp_path / "o")]) == 2
    assert "got 9 x 6. Give --image-size; all are resized to it." in capsys.readouterr().err


def test_testing_tells_each_files_cluster_too(folder, tmp_path, handlers, capsys):
    argv = ["--data", str(folder), "--image-size", "8", "-v", "0"]
    assert cli.run(main.command, [*argv, *TINY, "-d", str(tmp_path / "out")]) == 0
    weights = ["-t", "-w", str(tmp_path / "out/model_final.h5"), *TINY]
    assert cli.run(main.command, [*argv, *weights, "-d", str(tmp_path / "new")]) == 0
    assert f"Written to {tmp_path / 'new/samples.csv'}." in capsys.readouterr().out
    assert rows_of(tmp_path / "new/samples.csv") == rows_of(tmp_path / "out/samples.csv")
    # Other files, and the folder of the run: its own samples.csv stays.
    before = (tmp_path / "out/samples.csv").read_bytes()
    (folder / "a.png").unlink()
    assert cli.run(main.command, [*argv, *weights, "-d", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "--save-dir must be a folder without another run's results" in err
    assert err.count("\n") == 1 and (tmp_path / "out/samples.csv").read_bytes() == before
    assert cli.run(main.command, [*argv, *weights, "-d", str(tmp_path / "new")]) == 0
    assert len(rows_of(tmp_path / "new/samples.csv")) == 3


def test_resuming_knows_the_files(folder, tmp_path, handlers, capsys):
    argv = ["--data", str(folder), "--image-size", "8", *TINY, "-v", "0", "-d", str(tmp_path / "o")]
    assert cli.run(main.command, argv) == 0
    before = (tmp_path / "o/samples.csv").read_bytes()
    (tmp_path / "o/samples.csv").unlink()
    assert cli.run(main.command, [*argv, "--resume"]) == 0
    assert (tmp_path / "o/samples.csv").read_bytes() == before
    (folder / "b.png").rename(folder / "bb.png")
    assert cli.run(main.command, [*argv, "--resume"]) == 2
    assert "whose run has names" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--image-size", "8"], ["--colour", "rgb"], ["--data", "x.npy", "--image-size", "8"]]
)
def test_flags_of_a_folder_want_one(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(main.command, [*argv, "--n-clusters", "2"])
    assert stop.value.code == 2 and "must come with a folder as --data" in capsys.readouterr().err
