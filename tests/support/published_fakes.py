"""Tiny ImageNet and Caltech-256 in their published layouts, with one small image or two in each class."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np

WNIDS = [f"n{10_000_000 + 37 * i}" for i in range(200)]  # ascending


def write_jpeg(path: Path, seed: int, size: tuple[int, int], gray: bool) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    shade = np.random.default_rng(seed).integers(0, 256, 3)
    image = np.full((*size, 3), shade, np.uint8)
    cv2.imwrite(str(path), image[:, :, 0] if gray else image)


def write_tiny_imagenet(folder: Path) -> Path:
    """tiny-imagenet-200: two training images of a class and one for validation; every fifth file is grayscale."""
    for number, wnid in enumerate(WNIDS):
        for i in range(2):
            name = f"{wnid}_{i}.JPEG"
            write_jpeg(folder / "train" / wnid / "images" / name, 2 * number + i, (64, 64), number % 5 == 0)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
        write_jpeg(folder / "val" / "images" / f"val_{number}.JPEG", 1000 + number, (64, 64), number % 5 == 1)
    lines = [f"val_{number}.JPEG\t{WNIDS[-1 - number]}\t0\t32\t44\t62\n" for number in range(200)]  # not in order
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    write_jpeg(folder / "test" / "images" / "test_0.JPEG", 1, (64, 64), False)
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS[::-1]))
    (folder / "words.txt").write_text("".join(f"{wnid}\tthing, object\n" for wnid in WNIDS))
    return folder


def write_caltech256(folder: Path) -> Path:
    """256_ObjectCategories: one image of a class, two of clutter; many sizes, every fourth grayscale."""
    for number in range(1, 258):
        name = "clutter" if number == 257 else "ak47" if number == 1 else f"thing-{number}"
        for i in range(1, 3 if number == 257 else 2):
            path = folder / f"{number:03}.{name}" / f"{number:03}_{i:04}.jpg"
            write_jpeg(path, number, (20 + number % 7, 90 - number % 11), number % 4 == 0)
    (folder / "198.thing-198" / "RENAME2").write_text("the published folder has such a file")
    return folder


def pack(folder: Path, form: str, directory: Path) -> Path:
    """The folder as "zip", "tar", "tar.gz" or "folder" in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (folder.name if form == "folder" else f"{folder.name}.{form}")
    if form == "folder":
        shutil.copytree(folder, path)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in [folder, *sorted(folder.rglob("*"))]:
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as tar:
            tar.add(folder, folder.name)
    return path
