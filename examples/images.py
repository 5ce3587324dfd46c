"""A folder of images to clusters: python examples/images.py [FOLDER], else digits made here."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from clustering_common.image_files import load_images
from dec_da import FcDEC


def make_folder(folder):
    """Write 500 handwritten digits as PNG files."""
    for number, pixels in enumerate(load_digits().images[:500]):
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / f"{number:03}.png")


with tempfile.TemporaryDirectory() as temporary:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
    if len(sys.argv) < 2:
        make_folder(folder)
    X, names = load_images(folder, image_size=8)

model = FcDEC(
    n_clusters=10,
    layer_sizes=(300, 300, 10),
    aug_pretrain=True,
    aug_cluster=True,
    pretrain_epochs=150,
    batch_size=32,
    max_iter=140,
    random_state=0,
    verbose=1,
)
labels = model.fit_predict(X)
probability = model.predict_proba(X).max(axis=1)

for cluster in range(model.n_clusters):
    members = np.flatnonzero(labels == cluster)
    surest = members[np.argsort(-probability[members])][:5]
    print(f"cluster {cluster}: {len(members)} images, such as {[names[i] for i in surest]}")
