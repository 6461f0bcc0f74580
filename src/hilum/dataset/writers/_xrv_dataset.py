"""This folder as a data set of TorchXRayVision: `Exported(part="train")`.

Written by Hilum; needs torchxrayvision and no Hilum.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torchxrayvision as xrv


class Exported(xrv.datasets.Dataset):
    """The images and labels of one part, or of all where `part` is None."""

    def __init__(self, folder=Path(__file__).parent, part=None, transform=None, data_aug=None):
        super().__init__()
        self.imgpath, self.csvpath = Path(folder), Path(folder) / "labels.csv"
        table = pd.read_csv(self.csvpath, dtype={"patientid": str, "part": str})
        columns = list(table.columns)
        self.pathologies = columns[columns.index("part") + 1 :]
        self.csv = table if part is None else table[table["part"] == part].reset_index(drop=True)
        self.labels = self.csv[self.pathologies].to_numpy(np.float32)
        self.transform, self.data_aug, self.views = transform, data_aug, ["*"]

    def string(self):
        """Return a one-line description."""
        return f"Exported num_samples={len(self)} views={self.views} data_aug={self.data_aug}"

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = xrv.utils.load_image(str(self.imgpath / self.csv["image"].iloc[idx]))
        sample = {"idx": idx, "lab": self.labels[idx], "img": image}
        sample = xrv.datasets.apply_transforms(sample, self.transform)
        return xrv.datasets.apply_transforms(sample, self.data_aug)
