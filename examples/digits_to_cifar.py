#!/usr/bin/env python3
"""Writes the handwritten digits inside scikit-learn in CIFAR-10's binary format: `digits_to_cifar.py FOLDER`.

1,797 digits of 8 x 8 pixels become 32 x 32 by linear interpolation, three equal channels, white on black: 1,437 to
train on in data_batch_1.bin, 360 to test on in test_batch.bin, the names of the classes in batches.meta.txt. Which are
which is fixed, with nearly equal shares of each digit. They must not be mirrored in training.

Needs scikit-learn (`pip install scikit-learn`).
"""
import argparse
import pathlib
import sys

TEST = 360
SIDE, SMALL = 32, 8
NAMES = "zero one two three four five six seven eight nine".split()


def enlarged(images):
    """images: [n][8][8] from 0 to 16; each new pixel mixes the nearest two of each direction by the distance of its centre."""
    import numpy as np

    place = np.clip((np.arange(SIDE) + 0.5) * SMALL / SIDE - 0.5, 0, SMALL - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(SMALL)))  # [32][8]
    values = weights @ images @ weights.T
    return np.clip(np.rint(values * 255 / 16), 0, 255).astype(np.uint8)


def write_records(file, images, labels):
    with open(file, "wb") as out:
        for image, label in zip(images, labels):
            out.write(bytes([label]) + 3 * image.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="folder to make")
    folder = parser.parse_args().folder
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        sys.exit(f"{error}; pip install scikit-learn")
    digits = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        enlarged(digits.images), digits.target, test_size=TEST, random_state=0, stratify=digits.target)
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / "data_batch_1.bin", train, train_labels)
    write_records(folder / "test_batch.bin", test, test_labels)
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n")
    print(f"{folder}: {len(train)} digits to train on, {len(test)} to test on")


if __name__ == "__main__":
    main()
