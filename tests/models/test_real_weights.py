"""Real ImageNet weights: they are loaded into networks, and the networks see with them."""

import numpy as np
import pandas as pd
import pytest
import torch
from real_weights import EFFICIENTNET, MOBILENET, write_real_weights
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.transforms import v2

from mura_skorch import MuraClassifier, StudyNetwork, read_studies

# ImageNet's classes of scikit-learn's sample photographs: a Chinese summer palace, and a flower
# like a daisy, which is a dahlia.
PALACE, DAISY = 698, 985
# GRAZPEDWRI-DX's name of a projection, at the end of "..._WRI-L2_F009": after the side.
PROJECTION = r"_WRI-[LR](\d)"
FRONTAL, LATERAL = "1", "2"
IMAGE_SIZE = 96  # pixels: seconds on one core
SEEDS = range(5)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (
            EFFICIENTNET,
            "245 of 247 tensors of timm:tf_efficientnet_lite0; the last layer, of 1,000",
        ),
        (MOBILENET, "260 of 262 tensors of mobilenet_v2; the last layer, missing, is replaced"),
    ],
)
def test_real_weights_are_loaded_with_counts(backbone, said, weights_folder):
    net = StudyNetwork(write_real_weights(backbone, weights_folder), backbone=backbone)
    assert net.loaded.startswith(said)


def test_photographs_are_classified_rightly(weights_folder):
    path = write_real_weights(EFFICIENTNET, weights_folder)
    net = StudyNetwork(path, backbone=EFFICIENTNET).eval()
    head = torch.load(path)
    crop = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True)])
    photographs = np.stack(load_sample_images().images)  # china.jpg, flower.jpg
    views = crop(torch.from_numpy(photographs).permute(0, 3, 1, 2))
    with torch.no_grad():
        features = net.network((views - net.mean) / net.std)
    logits = features @ head["classifier.weight"].T + head["classifier.bias"]
    assert logits.argmax(dim=1).tolist() == [PALACE, DAISY]


@pytest.fixture(scope="module")
def wrists(real_root):
    """Frontal and lateral radiographs of wrists, one a row, and whether they are lateral."""
    studies = read_studies(real_root)
    mapping = pd.read_csv(real_root / "mapping.csv")
    projections = mapping["source_name"].str.extract(PROJECTION)[0]
    places = mapping["path"].str.partition("/")[2]  # without the name of the folder
    of_place = dict(zip(places, projections, strict=True))
    views = studies.drop(columns="study").explode("views", ignore_index=True)
    found = views["views"].map(lambda path: of_place["/".join(path.split("/")[-5:])])
    views["views"] = views["views"].map(lambda path: (path,))
    is_known = found.isin([FRONTAL, LATERAL])
    return views[is_known], (found == LATERAL)[is_known].to_numpy()


def auroc_of_probe(backbone, weights, seed, wrists):
    """Return how well frozen features tell lateral from frontal views of other patients."""
    views, is_lateral = wrists
    clf = MuraClassifier(
        module__backbone=backbone,
        module__weights=weights,
        dataset__image_size=IMAGE_SIZE,
        precision="float32",
        random_state=seed,
        verbose=0,
        callbacks__mlflow=None,
    ).initialize()
    clf.study_types_ = ["XR_WRIST"]
    return cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        clf.embed(views),
        is_lateral,
        groups=views["patient"],
        cv=GroupKFold(5),
        scoring="roc_auc",
    ).mean()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [EFFICIENTNET, MOBILENET])
def test_frozen_features_tell_frontal_from_lateral_wrists_better_than_random_ones(
    backbone, wrists, weights_folder
):
    real = auroc_of_probe(backbone, write_real_weights(backbone, weights_folder), 0, wrists)
    random = np.mean([auroc_of_probe(backbone, None, seed, wrists) for seed in SEEDS])
    assert real >= 0.95
    assert real >= random + 0.10
