"""The same epoch by PyTorch from Python: peer.py REQUEST.json, as steps.cpp has it, and "compile": whether by
torch.compile. The images are in memory; a batch is cropped, mirrored and normalized at once."""
import json
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "haqa" / "vision"))
from vision_peer import dorefa_activation, dorefa_weight  # noqa: E402: what the tests compare with


def activation(x, bits):
    return F.relu(x) if bits == 32 else dorefa_activation(x, bits)


class Convolution(nn.Conv2d):
    def __init__(self, into, out, stride, bits):
        super().__init__(into, out, 3, stride, 1, bias=False)
        self.bits = bits

    def forward(self, x):
        return F.conv2d(x, dorefa_weight(self.weight, self.bits, "pretrained"), None, self.stride, self.padding)


class Block(nn.Module):
    def __init__(self, into, out, stride, weight_bits, activation_bits):
        super().__init__()
        self.conv1, self.bn1 = Convolution(into, out, stride, weight_bits), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = Convolution(out, out, 1, weight_bits), nn.BatchNorm2d(out)
        self.bits, self.stride, self.padding = activation_bits, stride, (out - into) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(activation(self.bn1(self.conv1(x)), self.bits)))
        if self.padding:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return activation(y + x, self.bits)


class ResNet(nn.Module):
    def __init__(self, depth, classes, weight_bits, activation_bits):
        super().__init__()
        self.conv1, self.bn1, self.bits = Convolution(3, 16, 1, 32), nn.BatchNorm2d(16), activation_bits
        into = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for i in range(depth):
                blocks.append(Block(into, width, 2 if stage and i == 0 else 1, weight_bits, activation_bits))
                into = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = activation(self.bn1(self.conv1(x)), self.bits)
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def read_cifar(folder):
    files = sorted(pathlib.Path(folder).glob("data_batch_*.bin"))
    records = np.concatenate([np.fromfile(file, dtype=np.uint8) for file in files]).reshape(-1, 3073)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images.to(memory_format=torch.channels_last), torch.from_numpy(records[:, 0].astype(np.int64))


class Batches:
    """Windows of padded images, half of them mirrored, normalized: by indexing, the fastest way that was found."""

    def __init__(self, request):
        self.images, self.labels = read_cifar(request["images"])
        self.augment, self.batch = request["augment"], request["batch"]
        self.mean = torch.tensor(request["mean"]).view(1, 3, 1, 1)
        self.deviation = torch.tensor(request["deviation"]).view(1, 3, 1, 1)
        self.padded = F.pad(self.images.permute(0, 2, 3, 1), (0, 0, 4, 4, 4, 4)) if self.augment else None

    def __iter__(self):
        count = len(self.labels)
        order = torch.randperm(count) if self.augment else torch.arange(count)
        for first in range(0, count - self.batch + 1, self.batch):
            chosen = order[first:first + self.batch]
            yield self.normalized(self.cut(chosen) if self.augment else self.images[chosen]), self.labels[chosen]

    def cut(self, chosen):
        n, side = len(chosen), torch.arange(32)
        rows = (torch.randint(0, 9, (n, 1)) + side).view(n, 32, 1)
        columns = torch.randint(0, 9, (n, 1)) + torch.where(torch.rand(n, 1) < 0.5, side, 31 - side)
        return self.padded[chosen.view(n, 1, 1), rows, columns.view(n, 1, 32)].permute(0, 3, 1, 2)

    def normalized(self, images):
        return ((images.float() / 255 - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)


def main():
    request = json.load(open(sys.argv[1]))
    torch.set_num_threads(request["threads"])
    depth = {"resnet20": 3, "resnet32": 5}[request["network"]]
    weights = load_file(request["weights"])
    model = ResNet(depth, len(weights["fc.bias"]), request["weight_bits"], request["activation_bits"])
    model.load_state_dict(weights)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=request["learning_rate"], momentum=request["momentum"],
                                weight_decay=request["weight_decay"])
    forward = torch.compile(model) if request["compile"] else model
    batches, losses, seconds = Batches(request), [], []
    start = time.perf_counter()
    for images, labels in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=request["compute"] == "bf16"):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        end = time.perf_counter()
        seconds.append(end - start)
        start = end
    print(json.dumps({"losses": losses, "seconds": seconds}))


if __name__ == "__main__":
    main()
