"""Golden images of haqa/images: what Pillow decodes and resizes.

    python3 images.py

writes, into images/ beside this script, small JPEGs of many kinds, the pixels that Pillow gives for them (.rgb: three
bytes a pixel, row by row), and images.json, which lists them.

Written with Pillow 13.0.0 and its libjpeg-turbo 3.2.0.
"""
import json
import pathlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent / "images"
HEIGHT, WIDTH = 45, 61


def scene():
    """Smooth colours, an edge, and some noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [128 + 100 * np.sin(x / 7), 128 + 100 * np.cos(y / 9 + x / 20), np.where(x + y > 50, 220, 30)]
    noise = np.random.default_rng(3).normal(0, 8, (HEIGHT, WIDTH, 3))
    return Image.fromarray(np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8))


def write_pixels(name, image):
    (HERE / f"{name}.rgb").write_bytes(image.tobytes())
    return {"pixels": f"{name}.rgb", "height": image.height, "width": image.width}


def decoded(name, image, **options):
    image.save(HERE / f"{name}.jpg", quality=85, **options)
    return {"file": f"{name}.jpg", **write_pixels(name, Image.open(HERE / f"{name}.jpg").convert("RGB"))}


def as_ycck(name, of):
    """The same numbers, said to be YCCK by the last byte of Adobe's segment."""
    content = bytearray((HERE / f"{of}.jpg").read_bytes())
    content[content.index(b"Adobe") + 11] = 2
    (HERE / f"{name}.jpg").write_bytes(content)
    return {"file": f"{name}.jpg", **write_pixels(name, Image.open(HERE / f"{name}.jpg").convert("RGB"))}


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, which is not followed
    return exif


def resized(name, box, size):
    """box: left, top, right, bottom, as Pillow wants it."""
    image = Image.open(HERE / "plain.jpg").resize(size, Image.Resampling.BILINEAR, box=box)
    return {"box": box, **write_pixels(name, image)}


def middle(size, resize):
    """torchvision's Resize and CenterCrop."""
    image = Image.open(HERE / "plain.jpg")
    short = min(image.size)
    image = image.resize([resize * side // short for side in image.size], Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return {"size": size, "resize": resize,
            **write_pixels(f"middle-{size}", image.crop((left, top, left + size, top + size)))}


HERE.mkdir(exist_ok=True)
plain = scene()
golden = {
    "decode": [
        decoded("plain", plain),
        decoded("full-chroma", plain, subsampling=0),
        decoded("half-chroma", plain, subsampling=1),
        decoded("progressive", plain, progressive=True),
        decoded("restarts", plain, restart_marker_blocks=2),
        decoded("exif", plain, exif=turned()),
        decoded("rgb", plain, keep_rgb=True),
        decoded("gray", plain.convert("L")),
        decoded("cmyk", plain.convert("CMYK")),
        as_ycck("ycck", "cmyk"),
    ],
    "resize": [
        resized("whole", (0, 0, WIDTH, HEIGHT), (20, 17)),
        resized("larger", (0, 0, WIDTH, HEIGHT), (70, 50)),
        resized("part", (3, 5, 40, 31), (16, 16)),
        resized("fractions", (3.25, 5.5, 50.75, 44.1), (9, 30)),
        resized("tiny", (0, 0, WIDTH, HEIGHT), (2, 1)),
    ],
    "middle": [middle(24, 28), middle(45, 45), middle(50, 64)],
}
(HERE / "images.json").write_text(json.dumps(golden, indent=1) + "\n")
