"""The well-known blog's loop, for comparison: one study a step, float32, as its scripts do it."""

import os

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

IMAGENET = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class BlogDataset(Dataset):
    """One study at a time, each view opened as RGB and prepared by a Compose."""

    def __init__(self, studies, *, training, image_size=224):
        self.studies = studies
        varied = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)]
        self.transform = transforms.Compose(
            [
                transforms.Resize((image_size, image_size)),
                *(varied if training else []),
                transforms.ToTensor(),
                IMAGENET,
            ]
        )

    def __len__(self):
        return len(self.studies)

    def __getitem__(self, index):
        row = self.studies.iloc[index]
        views = [self.transform(Image.open(path).convert("RGB")) for path in row["views"]]
        return {"images": torch.stack(views), "label": float(row["label"])}


class BlogLoop:
    """Network, optimizer, and the loops over a table of studies.

    Parameters
    ----------
    studies : DataFrame
        The table whose labels weigh the loss.
    image_size : int, default=224
        Pixels.
    device : str, default="cpu"
        Where the network runs.
    """

    def __init__(self, studies, image_size=224, device="cpu"):
        self.image_size = image_size
        self.device = device
        self.network = models.densenet169(num_classes=1).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        n_views = studies["views"].map(len)
        n_abnormal = n_views[studies["label"] == 1].sum()
        n_normal = n_views[studies["label"] == 0].sum()
        self.weight = {1: n_normal / n_views.sum(), 0: n_abnormal / n_views.sum()}

    def _loader(self, studies, *, training):
        dataset = BlogDataset(studies, training=training, image_size=self.image_size)
        return DataLoader(dataset, batch_size=1, shuffle=True)

    def _probability(self, images):
        return torch.sigmoid(self.network(images.to(self.device))).mean()

    def train_epoch(self, studies):
        """Train one epoch; return its loss."""
        self.network.train()
        running = 0.0
        for sample in self._loader(studies, training=True):
            label = int(sample["label"])
            self.optimizer.zero_grad()
            p = self._probability(sample["images"][0])
            loss = -self.weight[label] * (label * p.log() + (1 - label) * (1 - p).log())
            loss.backward()
            self.optimizer.step()
            running += loss.item()
        return running / len(studies)

    def prepare(self, studies):
        """Keep prepared studies, for the arithmetic alone."""
        dataset = BlogDataset(studies, training=False, image_size=self.image_size)
        self.prepared = [
            (sample["images"].to(self.device), sample["label"])
            for sample in (dataset[i] for i in range(len(dataset)))
        ]

    def train_tensors(self):
        """Train a step for each prepared study."""
        self.network.train()
        for images, label in self.prepared:
            self.optimizer.zero_grad()
            p = self._probability(images)
            (-(label * p.log() + (1 - label) * (1 - p).log())).backward()
            self.optimizer.step()
        self._wait()

    @torch.no_grad()
    def predict_tensors(self):
        """Read each prepared study."""
        self.network.eval()
        for images, _ in self.prepared:
            self._probability(images)
        self._wait()

    def _wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def predict(self, studies):
        """Return the probabilities, in the loader's random order."""
        self.network.eval()
        return [
            self._probability(sample["images"][0]).item()
            for sample in self._loader(studies, training=False)
        ]


def start_blog(studies, image_size, device):
    """Make the loop of this process."""
    global LOOP
    torch.set_num_threads(os.cpu_count())
    torch.backends.cudnn.allow_tf32 = False  # as it was then
    LOOP = BlogLoop(studies, image_size=image_size, device=device)
    LOOP.prepare(studies.iloc[:8])


def run_blog(job, *args):
    """Run a method of this process's loop, by its name; "ready" returns once it is made."""
    return None if job == "ready" else getattr(LOOP, job)(*args)
