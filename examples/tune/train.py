#!/usr/bin/env python3
"""A small trainer without dependencies to be tuned: linear regression by gradient descent. docs/tune.md uses it."""
import argparse
import json
import random

parser = argparse.ArgumentParser()
parser.add_argument("--optimizer", choices=["sgd", "momentum"], default="sgd")
parser.add_argument("--learning-rate", type=float, default=1e-3)
parser.add_argument("--momentum", type=float, default=0)
parser.add_argument("--batch-size", type=int, default=32)
options = parser.parse_args()

WEIGHTS = [3, -2, 0.5, 1]
SCALES = [1, 3, 0.2, 1]  # badly scaled inputs, so that the step length matters
generator = random.Random(1)


def sample():
    x = [generator.gauss(0, scale) for scale in SCALES]
    return x, sum(w * v for w, v in zip(WEIGHTS, x)) + generator.gauss(0, 0.1)


def error(weights, x, y):
    return sum(w * v for w, v in zip(weights, x)) - y


train, validation = [sample() for _ in range(512)], [sample() for _ in range(256)]
weights, velocity = [0.0] * 4, [0.0] * 4
for epoch in range(1, 9):
    generator.shuffle(train)
    for begin in range(0, len(train), options.batch_size):
        batch = [(error(weights, x, y), x) for x, y in train[begin:begin + options.batch_size]]
        for k in range(4):
            gradient = sum(e * x[k] for e, x in batch) / len(batch)
            velocity[k] = options.momentum * velocity[k] - options.learning_rate * gradient
        weights = [w + v for w, v in zip(weights, velocity)]
    errors = [error(weights, x, y) for x, y in validation]
    loss = sum(e * e for e in errors) / len(errors)
    print(json.dumps({"event": "intermediate", "step": epoch, "value": loss}), flush=True)  # for --pruner
print(f"loss={loss:.6g}")
