"""A run's folder that was never trained, and a reader of its report."""

import html.parser

import numpy as np

from clustering_common import files, report
from clustering_common.report_files import read_results
from clustering_common.run_folder import RunFolder
from clustering_common.user_data import image_shape

HOSTILE = '<script>alert("1")</script>&\'.png'
VOID = {"meta", "link", "img", "br", "path"}


class Reader(html.parser.HTMLParser):
    """Check that tags are closed in order; keep ids, addresses and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag not in VOID or (tag == "path" and "/>" not in self.get_starttag_text()):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag == "path"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def make_fitted(X, labels, n_clusters=3, **changes):
    """Return what a report asks, of probabilities that grow with a sample's number."""

    def proba(rows):
        sure = 0.5 + rows.reshape(len(rows), -1)[:, 0] / 4
        q = np.repeat((1 - sure[:, None]) / (n_clusters - 1), n_clusters, axis=1)
        own = np.rint(rows.reshape(len(rows), -1)[:, 1] * 2).astype(int)
        q[np.arange(len(rows)), own] = sure
        return q

    given = {"proba": proba, "embed": lambda rows: rows.reshape(len(rows), -1)[:, :5]}
    return report.Fitted(labels, n_clusters, **{**given, "space": "embedding", **changes})


RECORD = {
    "method": "FcDEC-DA", "dataset": "photos", "seed": 4, "n_iter": 20,
    "termination_condition": "max_iter", "empty_clusters": "", "cluster_sizes": [10, 10, 10],
    "settings": {"batch_size": 5, "layer_sizes": [8, 2], "tol": 0.001},
    "data": {"shape": [30, 8, 8]}, "seconds": {"pretrain": 61.0, "total": 75.0},
    "metrics": {
        "final": {"acc": 0.87654, "nmi": 0.76543, "ari": 0.65432},
        "kmeans_pixels": {"acc": 0.51234, "nmi": 0.41234, "ari": 0.31234},
    },
}  # fmt: skip


def make_run(folder, samples=None, labels_true=None, names=None, fitted=None, **changes):
    place = RunFolder(folder)
    place.finish({**RECORD, **changes})
    rows = [{"epoch": i, "loss": 1 / i} for i in (1, 2, 4)]
    files.write_csv(folder / "pretrain_log.csv", ("epoch", "loss"), rows)
    rows = [{"iter": 0, "acc": 0.5, "nmi": 0.25, "ari": 0.125}]
    rows.append({"iter": 20, **RECORD["metrics"]["final"], "loss": 0.75})
    files.write_csv(folder / "log.csv", ("iter", "acc", "nmi", "ari", "loss"), rows)
    if samples is not None:
        X, labels = samples
        fitted = fitted or make_fitted(X, labels)
        shown = image_shape(X.shape)
        report.write_data(folder, read_results(folder)[1], X, fitted, labels_true, names, shown)
    return report.write_report(folder).read_text()


def make_samples():
    """30 images of 8x8; the second pixel tells the cluster, the first how sure."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(30, 8, 8)).astype(np.float32)
    labels = np.arange(30) % 3
    X[:, 0, 0], X[:, 0, 1] = np.arange(30) / 30, labels / 2
    return X, labels
