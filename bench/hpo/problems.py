"""Objectives with a known search space: a family each of synthetic functions, fine-tuning-like functions, measured
kernels, measured compiler flags and real small trainings.

A Problem has a space in the form of data/spaces (so that every method reads the same descriptions, units and
defaults), and evaluate(configuration, instance, dice) -> Result. `instance` is a number: problems that can be drawn
are drawn anew for each, so that no method can be tuned to one function. `dice` is a random generator that depends on
problem, instance and trial number alone: every method meets the same noise.
"""
import dataclasses
import functools
import gzip
import json
import math
import pathlib
import warnings
import zlib

import numpy
import scipy.optimize
import yaml

HERE = pathlib.Path(__file__).parent
SPACES = HERE.parent.parent / "data" / "spaces"


@dataclasses.dataclass
class Result:
    value: float | None  # what a method hears; None: the trial failed
    truth: float | None = None  # what it is judged by: free of noise, or on held-out data
    failed: str = ""  # why


@dataclasses.dataclass
class Problem:
    name: str
    family: str
    direction: str
    space: dict
    evaluate: object  # (configuration, instance, dice) -> Result
    optimum: object = None  # (instance) -> the best truth, where it is known
    brief: str = ""


def real(low, high, default, log=False, description="", unit="", when=None):
    return entry("float", low=low, high=high, log=log, default=default, description=description, unit=unit, when=when)


def integer(low, high, default, log=False, description="", unit="", when=None, step=0):
    return entry("int", low=low, high=high, log=log, step=step, default=default, description=description, unit=unit,
                 when=when)


def choice(choices, default, description="", unit="", when=None):
    return entry("categorical", choices=list(choices), default=default, description=description, unit=unit, when=when)


def flag(default, description="", when=None):
    return entry("bool", default=default, description=description, when=when)


def entry(kind, **fields):
    return {"type": kind} | {k: v for k, v in fields.items() if v or k in ("default", "low", "high")}


def dice_of(problem, instance, trial):
    return numpy.random.default_rng([zlib.crc32(problem.encode()), instance, trial])


def instance_random(name, instance):
    return numpy.random.default_rng([zlib.crc32(name.encode()), instance, 10**6])


# ---- the unit cube: for functions that are defined by places, and for searching optima


def unit_of(p, value):
    """The place of a number in its range, 0 to 1."""
    if p.get("log"):
        return (math.log(value) - math.log(p["low"])) / (math.log(p["high"]) - math.log(p["low"]))
    return (value - p["low"]) / (p["high"] - p["low"])


def value_at(p, u):
    u = min(max(u, 0.0), 1.0)
    if p["type"] == "bool":
        return u >= 0.5
    if p["type"] == "categorical":
        return p["choices"][min(int(u * len(p["choices"])), len(p["choices"]) - 1)]
    if p.get("log"):
        value = math.exp(math.log(p["low"]) + u * (math.log(p["high"]) - math.log(p["low"])))
    else:
        value = p["low"] + u * (p["high"] - p["low"])
    if p["type"] == "int":
        step = p.get("step") or 1
        value = p["low"] + step * round((value - p["low"]) / step)
    return min(max(value, p["low"]), p["high"])


def parameters_of(space):
    return {name: p for name, p in space.items() if name != "constraints"}


def search_optimum(space, direction, truth, starts=6):
    """The best value of a smooth function without conditions, by differential evolution from several seeds."""
    parameters = parameters_of(space)
    sign = -1 if direction == "maximize" else 1

    def cost(units):
        value = truth({name: value_at(p, u) for (name, p), u in zip(parameters.items(), units)})
        return 1e9 if value is None else sign * value

    bounds = [(0, 1)] * len(parameters)
    best = min(scipy.optimize.differential_evolution(cost, bounds, seed=s, maxiter=150, popsize=8, tol=1e-8).fun
               for s in range(starts))
    return sign * best


# ---- 1: synthetic functions with known optima


def branin(x, y):
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


BRANIN_OPTIMUM = 0.39788735772973816
HARTMANN_OPTIMUM = -3.32236801141551
HARTMANN_ALPHA = numpy.array([1.0, 1.2, 3.0, 3.2])
HARTMANN_A = numpy.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
                          [17, 8, 0.05, 10, 0.1, 14]])
HARTMANN_P = 1e-4 * numpy.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                                 [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])


def hartmann6(x):
    return -float(HARTMANN_ALPHA @ numpy.exp(-(HARTMANN_A * (numpy.asarray(x) - HARTMANN_P) ** 2).sum(axis=1)))


def xs(configuration, count):
    return [configuration[f"x{i + 1}"] for i in range(count)]


def plain(function, *, noise=0.0):
    """An objective that is a function of the configuration and its instance, with normal noise."""

    def evaluate(configuration, instance, dice):
        value = function(configuration, instance)
        return Result(value + noise * dice.standard_normal(), value)

    return evaluate


def synthetic_problems():
    branin_space = {"x1": real(-5, 10, -1.0), "x2": real(0, 15, 3.0)}
    yield Problem("branin", "synthetic", "minimize", branin_space,
                  plain(lambda c, _: branin(c["x1"], c["x2"])), lambda _: BRANIN_OPTIMUM)

    cube = {f"x{i + 1}": real(0, 1, 0.5) for i in range(6)}
    yield Problem("hartmann6", "synthetic", "minimize", cube, plain(lambda c, _: hartmann6(xs(c, 6))),
                  lambda _: HARTMANN_OPTIMUM)
    yield Problem("hartmann6-noisy", "synthetic", "minimize", cube,
                  plain(lambda c, _: hartmann6(xs(c, 6)), noise=0.3), lambda _: HARTMANN_OPTIMUM)

    def rosenbrock(c, _):
        x = xs(c, 5)
        return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:]))

    yield Problem("rosenbrock5", "synthetic", "minimize", {f"x{i + 1}": real(-2, 2, -0.5) for i in range(5)},
                  plain(rosenbrock), lambda _: 0.0)

    def ackley(c, instance):  # its optimum moves with the instance: the middle of the range is no secret
        x = numpy.array(xs(c, 10)) - instance_random("ackley10", instance).uniform(-4, 4, 10)
        return float(20 + math.e - 20 * math.exp(-0.2 * math.sqrt((x**2).mean())) -
                     math.exp(numpy.cos(2 * math.pi * x).mean()))

    yield Problem("ackley10", "synthetic", "minimize", {f"x{i + 1}": real(-5, 5, 4.0) for i in range(10)},
                  plain(ackley), lambda _: 0.0)
    yield mixed_problem()
    yield conditional_problem()
    yield cliff_problem()


def mixed_problem():
    space = {"scale": real(1e-4, 1.0, 1e-1, log=True), "count": integer(1, 64, 32, log=True),
             "width": integer(2, 20, 4), "kind": choice(["red", "green", "blue", "black"], "red"),
             "size": choice([8, 16, 32, 64, 128], 8), "smooth": flag(False), "offset": real(-1, 1, 0.8)}
    kinds = {"red": 0.6, "green": 0.0, "blue": 0.25, "black": 1.0}  # distance from the best

    def function(c, instance):
        target = instance_random("mixed", instance).uniform(0.1, 0.9, 5)
        # The best scale depends on the kind, and offset counts only where it is smooth.
        scale = unit_of(space["scale"], c["scale"]) - target[0] + 0.15 * (c["kind"] == "blue")
        count = unit_of(space["count"], c["count"]) - target[1]
        width = unit_of(space["width"], c["width"]) - target[2]
        size = space["size"]["choices"].index(c["size"]) / 4 - target[3]
        offset = (c["offset"] + 1) / 2 - target[4]
        return (4 * scale**2 + 2 * (count + 0.5 * scale) ** 2 + width**2 + size**2 + 0.5 * kinds[c["kind"]] +
                (0.6 * offset**2 if c["smooth"] else 0.3))

    @functools.lru_cache(None)
    def optimum(instance):
        return search_optimum(space, "minimize", lambda c: function(c, instance), starts=2)

    return Problem("mixed7", "synthetic", "minimize", space, plain(function), optimum)


def conditional_problem():
    space = {"method": choice(["plain", "momentum", "adaptive"], "plain"),
             "rate": real(1e-5, 1.0, 1e-3, log=True),
             "momentum": real(0.0, 0.99, 0.5, when="method == 'momentum'"),
             "beta": real(0.8, 0.999, 0.9, when="method == 'adaptive'"),
             "epsilon": real(1e-10, 1e-2, 1e-4, log=True, when="method == 'adaptive'"),
             "decay": real(1e-6, 1e-1, 1e-2, log=True)}

    def function(c, instance):
        t = instance_random("conditional", instance).uniform(0.1, 0.9, 6)
        decay = 0.5 * (unit_of(space["decay"], c["decay"]) - t[5]) ** 2
        rate = unit_of(space["rate"], c["rate"])
        if c["method"] == "plain":
            return 0.5 + (rate - t[0]) ** 2 + decay
        if c["method"] == "momentum":  # less rate with more momentum
            m = c["momentum"] / 0.99
            return 0.2 + 2 * (rate + 0.3 * m - t[0] - 0.2) ** 2 + (m - t[1]) ** 2 + decay
        return (3 * (rate - t[2]) ** 2 + (unit_of(space["beta"], c["beta"]) - t[3]) ** 2 +
                0.5 * (unit_of(space["epsilon"], c["epsilon"]) - t[4]) ** 2 + decay)

    return Problem("conditional6", "synthetic", "minimize", space, plain(function), lambda _: 0.0)


def cliff_problem():
    """Half of the space fails, and the optimum stands at the edge."""
    space = {f"x{i + 1}": real(0, 1, 0.2) for i in range(5)}

    def geometry(instance):
        r = instance_random("cliff", instance)
        normal = numpy.abs(r.normal(size=5)) + 0.1
        normal /= normal.sum()
        while True:
            target = r.uniform(0, 1, 5)
            if normal @ target > 0.6:
                return normal, target

    def truth(c, instance):
        normal, target = geometry(instance)
        x = numpy.array(xs(c, 5))
        return None if normal @ x > 0.5 else float(((x - target) ** 2).sum())

    def evaluate(c, instance, dice):
        value = truth(c, instance)
        return Result(None, None, "out_of_memory") if value is None else Result(value, value)

    def optimum(instance):  # the target's projection onto the edge
        normal, target = geometry(instance)
        solution = scipy.optimize.minimize(lambda x: ((x - target) ** 2).sum(), numpy.full(5, 0.2), method="SLSQP",
                                           bounds=[(0, 1)] * 5, options={"ftol": 1e-12},
                                           constraints={"type": "ineq", "fun": lambda x: 0.5 - normal @ x})
        return float(solution.fun)

    return Problem("cliff5", "synthetic", "minimize", space, evaluate, functools.lru_cache(None)(optimum))


# ---- 2: functions that behave as fine-tuning does
#
# Written from what is generally known of training: the best learning rate grows with the batch (linearly to by its
# square root) and falls with momentum; beyond a threshold training diverges, later with warm-up and clipping; rank
# adds capacity with diminishing returns; more samples help until the model overfits, which dropout and decay delay;
# large batches do not fit into memory. Every number that could be somebody's guess is drawn for each instance.
# Conventional: best values as often reported, spread as widely as reports are. Moved: drawn from the whole range, at
# least 0.3 of it away from those. No sampler's priors may be tuned to them, nor they to any priors.


def moved_place(r, conventional):
    """A place in [0, 1] that is not near the conventional one."""
    while True:
        place = r.uniform(0.02, 0.98)
        if abs(place - conventional) >= 0.3:
            return place


def best_value(r, p, center, spread, moved):
    """The value at which a parameter works best: around `center` (spread in decades or in units), or far from it."""
    if moved:
        return value_at({**p, "type": "float"}, moved_place(r, min(max(unit_of(p, center), 0), 1)))
    value = center * 10 ** r.normal(0, spread) if p.get("log") else center + r.normal(0, spread)
    return min(max(value, p["low"]), p["high"])


def bump(distance, width):
    """A loss from 0 to 1 that is quadratic near the best and flat far away."""
    return 1 - 1 / (1 + (distance / width) ** 2)


def read_space(name):
    space = yaml.safe_load((SPACES / f"{name}.yaml").read_text())
    number = lambda v: float(v) if isinstance(v, str) else v  # PyYAML takes 1e-5 for a text
    return {n: {k: number(v) if k in ("low", "high", "default") else v for k, v in p.items()} for n, p in space.items()}


def qlora_problem(kind):
    space = read_space("llama")
    moved = kind == "moved"

    @functools.lru_cache(None)
    def drawn(instance):
        r = instance_random(f"qlora-{kind}", instance)
        best = lambda name, center, spread: best_value(r, space[name], center, spread, moved)
        return dict(
            rate=best("learning_rate", 2e-4, 0.3), batch_power=r.uniform(0.4, 0.9), scale_power=r.uniform(0.1, 0.5),
            rate_weight=r.uniform(0.04, 0.08), rate_width=r.uniform(0.35, 0.6),
            batch=best_batch(r, moved), batch_weight=r.uniform(0.01, 0.03),
            decay=best("weight_decay", 0.01, 0.5), decay_weight=r.uniform(0.003, 0.012),
            samples=10 ** (r.uniform(3.6, 5.5) if moved else r.uniform(4, 4.6)),
            overfit=r.uniform(0.01, 0.03), under=r.uniform(0.03, 0.07),
            clip=best("max_grad_norm", 0.4, 0.2), clip_weight=r.uniform(0.002, 0.01),
            rank=best("lora_r", 24, 12), rank_weight=r.uniform(0.008, 0.025),
            alpha=best("lora_alpha", 18, 6), alpha_weight=r.uniform(0.005, 0.02),
            dropout=best("lora_dropout", 0.07, 0.03), dropout_weight=r.uniform(0.004, 0.015),
            dropout_shift=r.uniform(0, 0.05), warmup=best("warmup_ratio", 0.035, 0.015),
            warmup_weight=r.uniform(0.002, 0.01), diverges=10 ** (r.uniform(0.6, 1.1) + 0.6 * moved),
            memory=r.uniform(10, 22),
            top=r.uniform(0.72, 0.82), strength=r.uniform(1.5, 2.5), noise=r.uniform(0.001, 0.003))

    def best_batch(r, moved):
        return 16 * 32 ** moved_place(r, 0.4) if moved else 64 * 2 ** r.normal(0, 0.7)  # 16 to 512

    def truth(c, instance):
        d = drawn(instance)
        if c["per_device_train_batch_size"] * (1 + c["lora_r"] / 256) > d["memory"]:
            return None
        batch = c["per_device_train_batch_size"] * c["gradient_accumulation_steps"]
        samples = batch * c["max_steps"]
        scale = c["lora_alpha"] / c["lora_r"]  # the adapters' updates count as much more
        best_rate = d["rate"] * (batch / 64) ** d["batch_power"] * (scale * 1.5) ** -d["scale_power"]
        rate = math.log10(c["learning_rate"] / best_rate)
        too_fast = rate - math.log10(d["diverges"]) - 4 * c["warmup_ratio"] + 0.15 * math.log10(c["max_grad_norm"])
        seen = math.log10(samples / d["samples"])
        over = max(seen, 0)  # overfitting wants dropout
        loss = d["rate_weight"] * bump(rate, d["rate_width"])
        loss += d["batch_weight"] * bump(math.log2(batch / d["batch"]), 2)
        loss += d["decay_weight"] * bump(math.log10(c["weight_decay"] / d["decay"]), 0.8)
        loss += d["under"] * bump(min(seen, 0), 0.5) + d["overfit"] * bump(over, 0.5)
        loss += d["clip_weight"] * bump(c["max_grad_norm"] - d["clip"], 0.4)
        loss += d["rank_weight"] * bump(math.log2(c["lora_r"] / d["rank"]), 1.5)
        loss += d["alpha_weight"] * bump(math.log2(c["lora_alpha"] / d["alpha"]), 1.5)
        loss += d["dropout_weight"] * bump(c["lora_dropout"] - d["dropout"] - d["dropout_shift"] * over, 0.08)
        loss += d["warmup_weight"] * bump(c["warmup_ratio"] - d["warmup"], 0.03)
        ruin = 1 / (1 + math.exp(-12 * too_fast))  # diverged: chance
        return (d["top"] - d["strength"] * loss) * (1 - ruin) + 0.35 * ruin

    return fine_tuning_problem(f"qlora-{kind}", f"fine-tuning, {kind}", space, truth, drawn,
                               "QLoRA fine-tuning of LLaMA-2-7B in int4; accuracy on a validation set.")


def resnet_problem(kind):
    space = read_space("resnet")
    moved = kind == "moved"

    @functools.lru_cache(None)
    def drawn(instance):
        r = instance_random(f"resnet-{kind}", instance)
        best = lambda name, center, spread: best_value(r, space[name], center, spread, moved)
        return dict(
            rate=best("learning_rate", 0.015, 0.35), batch_power=r.uniform(0.5, 1.0), rate_weight=r.uniform(0.1, 0.3),
            rate_width=r.uniform(0.5, 0.9), momentum=best("momentum", 0.9, 0.03), momentum_power=r.uniform(0.7, 1.0),
            momentum_weight=r.uniform(0.01, 0.03), batch=best("batch_size", 110, 0.2),
            batch_weight=r.uniform(0.01, 0.03), decay=best("weight_decay", 3e-4, 0.4), decay_power=r.uniform(0, 0.5),
            decay_weight=r.uniform(0.02, 0.05),
            epochs=r.uniform(0.005, 0.02) * (-1 if moved and r.random() < 0.5 else 1),
            diverges=10 ** (r.uniform(0.9, 1.3) + 1.2 * moved), memory=r.choice([180, 220, 1000]),
            top=r.uniform(0.86, 0.93),
            # A rate far too high loses everything, or just the pretraining.
            floor=r.uniform(0.5, 0.7) if moved else 0.1, noise=r.uniform(0.001, 0.004))

    def truth(c, instance):
        d = drawn(instance)
        if c["batch_size"] > d["memory"]:
            return None
        best_rate = (d["rate"] * (c["batch_size"] / 128) ** d["batch_power"] *
                     ((1 - c["momentum"]) / (1 - d["momentum"])) ** d["momentum_power"])
        rate = math.log10(c["learning_rate"] / best_rate)
        # Decay works by its product with the rate, more or less.
        decay = math.log10(c["weight_decay"] / d["decay"]) + d["decay_power"] * rate
        loss = d["rate_weight"] * bump(rate, d["rate_width"])
        loss += d["momentum_weight"] * bump(math.log10((1 - c["momentum"]) / (1 - d["momentum"])), 0.5)
        loss += d["batch_weight"] * bump(math.log2(c["batch_size"] / d["batch"]), 1)
        loss += d["decay_weight"] * bump(decay, 0.9)
        late = (12 - c["num_epochs"]) / 4
        loss += d["epochs"] * (late if d["epochs"] > 0 else late - 1)
        ruin = 1 / (1 + math.exp(-10 * (rate - math.log10(d["diverges"]))))
        return (d["top"] - loss) * (1 - ruin) + d["floor"] * ruin

    return fine_tuning_problem(f"resnet-{kind}", f"fine-tuning, {kind}", space, truth, drawn,
                               "DoReFa quantization-aware training of ResNet-20 on CIFAR-10 in 4 bits.")


def fine_tuning_problem(name, family, space, truth, drawn, brief):
    def evaluate(c, instance, dice):
        value = truth(c, instance)
        if value is None:
            return Result(None, None, "out_of_memory")
        return Result(value + drawn(instance)["noise"] * dice.standard_normal(), value)

    @functools.lru_cache(None)
    def optimum(instance):
        return search_optimum(space, "maximize", lambda c: truth(c, instance), starts=2)

    return Problem(name, family, "maximize", space, evaluate, optimum, brief)


# ---- 3: kernels and compiler flags whose whole grid was measured (make_grids.py)


GRID_NOISE = 0.02  # of a measurement on a machine that does nothing else


def grid_problem(file):
    with gzip.open(file, "rt") as f:
        grid = json.load(f)
    choices = {n: p.get("choices", [False, True]) for n, p in parameters_of(grid["space"]).items()}
    best = min(t for t in grid["times"] if isinstance(t, float))

    def evaluate(c, instance, dice):
        number = 0  # the last parameter varies fastest
        for name, values in choices.items():
            number = number * len(values) + values.index(c[name])
        time = grid["times"][number]
        if not isinstance(time, float):
            return Result(None, None, time or "crashed")
        return Result(time * math.exp(GRID_NOISE * dice.standard_normal()), time)

    return Problem(grid["name"], grid["family"], "minimize", grid["space"], evaluate, lambda _: best, grid["brief"])


# ---- 4: real small trainings; chosen on validation data, judged on test data


def split(x, y, instance, *sizes):
    order = instance_random("split", instance).permutation(len(y))
    starts = numpy.cumsum((0,) + sizes)
    return [(x[order[a:b]], y[order[a:b]]) for a, b in zip(starts, starts[1:])]


@functools.lru_cache(None)
def digits(instance):
    import sklearn.datasets
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    train, valid, test = split(x.astype(numpy.float32) / 16, y, instance, 400, 600, 797)
    r = instance_random("labels", instance)
    noisy = numpy.where(r.random(400) < 0.1, r.integers(0, 10, 400), train[1])  # else all is learnt at once
    return (train[0], noisy), valid, test


def softmax(z):
    e = numpy.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def train_mlp(c, data, dice):
    """A hidden layer of ReLUs with dropout by SGD with momentum; returns its prediction."""
    x, y = data
    hidden, m = c["hidden_width"], numpy.float32(c["momentum"])
    w = [dice.normal(0, math.sqrt(2 / 64), (64, hidden)), numpy.zeros(hidden),
         dice.normal(0, math.sqrt(1 / hidden), (hidden, 10)), numpy.zeros(10)]
    w = [a.astype(numpy.float32) for a in w]
    v = [numpy.zeros_like(a) for a in w]
    rate, decay, keep = numpy.float32(c["learning_rate"]), numpy.float32(c["weight_decay"]), 1 - c["dropout"]
    targets = numpy.eye(10, dtype=numpy.float32)[y]
    for _ in range(c["epochs"]):
        order = dice.permutation(len(y))
        for begin in range(0, len(y), c["batch_size"]):
            rows = order[begin:begin + c["batch_size"]]
            a = x[rows] @ w[0] + w[1]
            mask = (a > 0) * (dice.random(a.shape, dtype=numpy.float32) < keep) / numpy.float32(keep)
            h = a * mask
            d = (softmax(h @ w[2] + w[3]) - targets[rows]) / len(rows)
            dh = (d @ w[2].T) * mask
            for i, g in enumerate((x[rows].T @ dh, dh.sum(0), h.T @ d, d.sum(0))):
                v[i] = m * v[i] + g + decay * w[i]
                w[i] = w[i] - rate * v[i]
        if not numpy.isfinite(w[2]).all():
            return None
    return lambda z: (numpy.maximum(z @ w[0] + w[1], 0) @ w[2] + w[3]).argmax(axis=1)


def mlp_problem():
    space = {"learning_rate": real(1e-4, 1.0, 1e-2, log=True, description="Learning rate of SGD."),
             "batch_size": integer(8, 256, 32, log=True, description="Samples of one training step.", unit="samples"),
             "momentum": real(0.0, 0.99, 0.9, description="Momentum of SGD."),
             "weight_decay": real(1e-6, 1e-1, 1e-4, log=True, description="L2 regularization coefficient."),
             "epochs": integer(2, 16, 8, description="Passes over the training data.", unit="epochs"),
             "hidden_width": integer(8, 96, 32, log=True, description="Units of the hidden layer.", unit="units"),
             "dropout": real(0.0, 0.7, 0.0, description="Dropout probability of the hidden layer.")}

    def evaluate(c, instance, dice):
        train, valid, test = digits(instance)
        with numpy.errstate(all="ignore"):
            predict = train_mlp(c, train, dice)
        if predict is None:
            return Result(None, None, "wrong_result")
        return Result(float((predict(valid[0]) == valid[1]).mean()), float((predict(test[0]) == test[1]).mean()))

    return Problem("mlp-digits", "real training", "maximize", space, evaluate,
                   brief="A multilayer perceptron on 8 x 8 images of digits; accuracy on a validation set.")


@functools.lru_cache(None)
def ratings(instance):
    r = instance_random("ratings", instance)
    users, items, rank = 80, 60, 4
    full = r.normal(size=(users, rank)) @ r.normal(size=(rank, items)) / math.sqrt(rank)
    full += 0.5 * r.normal(size=users)[:, None]
    pairs = numpy.stack(numpy.unravel_index(r.permutation(users * items)[:3000], full.shape), axis=1)
    values = full[pairs[:, 0], pairs[:, 1]] + 0.3 * r.normal(size=3000)
    return [(pairs[a:b], values[a:b]) for a, b in ((0, 1200), (1200, 2000), (2000, 3000))]


def factorize(c, data, dice):
    """Rows and columns' factors and offsets by AdamW; returns its prediction."""
    pairs, values = data
    rank, sizes = c["rank"], (80, 60)
    w = [numpy.hstack([dice.normal(0, c["init_scale"], (n, rank)), numpy.zeros((n, 1))]) for n in sizes]
    first, second = [numpy.zeros_like(a) for a in w], [numpy.zeros_like(a) for a in w]
    b1, b2, t = c["beta1"], 0.999, 0

    def predict(p):
        u, v = w[0][p[:, 0]], w[1][p[:, 1]]
        return (u[:, :rank] * v[:, :rank]).sum(1) + u[:, rank] + v[:, rank]

    steps = c["epochs"] * -(-len(values) // c["batch_size"])
    for _ in range(c["epochs"]):
        order = dice.permutation(len(values))
        for begin in range(0, len(values), c["batch_size"]):
            rows = order[begin:begin + c["batch_size"]]
            p, t = pairs[rows], t + 1
            error = ((predict(p) - values[rows]) / len(rows))[:, None]
            rate = c["learning_rate"] * min(1, t / max(1, c["warmup_ratio"] * steps))
            other = [w[1][p[:, 1]], w[0][p[:, 0]]]
            for i in (0, 1):
                other[i] = numpy.hstack([other[i][:, :rank], numpy.ones((len(rows), 1))])
                g = numpy.zeros_like(w[i])
                numpy.add.at(g, p[:, i], error * other[i])
                first[i] = b1 * first[i] + (1 - b1) * g
                second[i] = b2 * second[i] + (1 - b2) * g * g
                step = (first[i] / (1 - b1**t)) / (numpy.sqrt(second[i] / (1 - b2**t)) + 1e-8)
                w[i] = w[i] - rate * (step + c["weight_decay"] * w[i])
    return predict


def factorization_problem():
    space = {"learning_rate": real(1e-4, 1.0, 1e-2, log=True, description="Learning rate of AdamW."),
             "weight_decay": real(1e-3, 10.0, 1e-2, log=True, description="Weight decay of AdamW."),
             "batch_size": integer(32, 512, 256, log=True, description="Ratings of one training step.", unit="samples"),
             "epochs": integer(2, 20, 10, description="Passes over the training data.", unit="epochs"),
             "rank": integer(1, 16, 8, log=True, description="Rank of the factorization."),
             "beta1": real(0.5, 0.99, 0.9, description="AdamW's first moment, which acts as momentum."),
             "init_scale": real(1e-3, 1.0, 0.1, log=True, description="Standard deviation of the first factors."),
             "warmup_ratio": real(0.0, 0.3, 0.0,
                                  description="Share of the steps in which the learning rate rises to its value.")}

    def evaluate(c, instance, dice):
        train, valid, test = ratings(instance)
        with numpy.errstate(all="ignore"):
            predict = factorize(c, train, dice)
            rmse = lambda part: float(numpy.sqrt(((predict(part[0]) - part[1]) ** 2).mean()))
            value, truth = rmse(valid), rmse(test)
        if not math.isfinite(value) or value > 100:
            return Result(None, None, "wrong_result")
        return Result(value, truth)

    return Problem("factorization", "real training", "minimize", space, evaluate,
                   brief="Matrix factorization of ratings; root mean square error on a validation set.")


def pipeline_problem():
    space = {"model": choice(["logistic", "knn", "svm", "tree"], "logistic", description="Kind of classifier."),
             "scaling": choice(["none", "standard", "minmax"], "none", description="How features are scaled first."),
             "logistic_c": real(1e-4, 100, 1.0, log=True, description="Inverse of the regularization.",
                                when="model == 'logistic'"),
             "neighbours": integer(1, 40, 5, log=True, description="Neighbours that vote.", when="model == 'knn'"),
             "weights": choice(["uniform", "distance"], "uniform", description="How neighbours' votes count.",
                               when="model == 'knn'"),
             "svm_c": real(1e-2, 1000, 1.0, log=True, description="Inverse of the regularization.",
                           when="model == 'svm'"),
             "gamma": real(1e-5, 10, 1e-2, log=True, description="Width of the radial basis functions.",
                           when="model == 'svm'"),
             "depth": integer(1, 20, 10, description="Deepest level of the tree.", when="model == 'tree'"),
             "leaf": integer(1, 20, 5, description="Fewest samples of a leaf.", when="model == 'tree'")}

    def evaluate(c, instance, dice):
        import sklearn.linear_model, sklearn.neighbors, sklearn.pipeline, sklearn.preprocessing, sklearn.svm, sklearn.tree
        scaling = {"none": None, "standard": sklearn.preprocessing.StandardScaler(),
                   "minmax": sklearn.preprocessing.MinMaxScaler()}[c["scaling"]]
        if c["model"] == "logistic":
            model = sklearn.linear_model.LogisticRegression(C=c["logistic_c"], max_iter=40)
        elif c["model"] == "knn":
            model = sklearn.neighbors.KNeighborsClassifier(c["neighbours"], weights=c["weights"])
        elif c["model"] == "svm":
            model = sklearn.svm.SVC(C=c["svm_c"], gamma=c["gamma"])
        else:
            model = sklearn.tree.DecisionTreeClassifier(max_depth=c["depth"], min_samples_leaf=c["leaf"],
                                                        random_state=int(dice.integers(2**31)))
        train, valid, test = digits(instance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = sklearn.pipeline.make_pipeline(scaling or "passthrough", model).fit(*train)
        return Result(float(model.score(*valid)), float(model.score(*test)))

    return Problem("pipeline-digits", "real training", "maximize", space, evaluate,
                   brief="A classifier of 8 x 8 images of digits; accuracy on a validation set.")


@functools.lru_cache(None)
def all_problems():
    problems = list(synthetic_problems())
    for kind in ("conventional", "moved"):
        problems += [qlora_problem(kind), resnet_problem(kind)]
    problems += [grid_problem(file) for file in sorted((HERE / "grids").glob("*.json.gz"))]
    problems += [mlp_problem(), factorization_problem(), pipeline_problem()]
    return {p.name: p for p in problems}
