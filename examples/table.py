"""A table of measurements to clusters, scaled in a scikit-learn pipeline."""

from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clustering_common.metrics import accuracy, ari, nmi
from dec_da import FcDEC

table = load_wine()
model = make_pipeline(
    StandardScaler(),
    FcDEC(
        n_clusters=3,
        layer_sizes=(50, 50, 5),
        pretrain_optimizer="adam",  # the paper's SGD of rate 1.0 wants values of 0 to 1
        pretrain_epochs=100,
        batch_size=32,
        max_iter=140,
        random_state=0,
    ),
)
labels = model.fit_predict(table.data)

print(f"{'mean in cluster':<30}" + "".join(f"{cluster:>8}" for cluster in range(3)))
for name, values in zip(table.feature_names, table.data.T, strict=True):
    means = (values[labels == cluster].mean() for cluster in range(3))
    print(f"{name:<30}" + "".join(f"{mean:8.1f}" for mean in means))
# The truth, where there is one, is for scores alone; fit has not seen it.
scores = (measure(table.target, labels) for measure in (accuracy, nmi, ari))
print("acc={:.3f}, nmi={:.3f}, ari={:.3f}".format(*scores))
