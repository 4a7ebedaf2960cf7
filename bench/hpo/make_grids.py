#!/usr/bin/env python3
"""Measures every point of small tuning spaces, for the problems of the families "kernel" and "compiler flags".

  make_grids.py [NAME...]        matmul, transpose, flags; all without a name. Best on a machine that does nothing else.

Compiles every variant, checks its output, and times them in turn, round after round, by the thread's processor time;
the least of the rounds counts. Writes grids/NAME.json.gz: the space, and for each point of the product of its choices,
the last parameter varying fastest: microseconds, null where the constraints forbid it, or why it failed.
"""
import argparse
import ctypes
import gzip
import itertools
import json
import pathlib
import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy

from problems import choice, flag, parameters_of

HERE = pathlib.Path(__file__).parent
ROUNDS = 9
UNROLLED = """#define PRAGMA(text) _Pragma(#text)
#define UNROLLED(count) PRAGMA(GCC unroll count)
"""
TIMER = """
#include <time.h>
typedef void (*Run)(const float*, const float*, float*);
double time_us(Run run, const float* a, const float* b, float* c) {
  struct timespec begin, end;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
  run(a, b, c);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  return 1e6 * (double)(end.tv_sec - begin.tv_sec) + 1e-3 * (double)(end.tv_nsec - begin.tv_nsec);
}
"""


def tiles(values, default, what, unit="elements"):
    return choice(values, default, f"{what} of a tile.", unit)


class Matmul:
    family, size = "kernel", 256
    brief = "Product of two float matrices, 256 x 256, on one core; time of a run in microseconds."
    space = {"tile_m": tiles([8, 32, 256], 32, "Rows", "rows"),
             "tile_n": tiles([16, 64, 256], 64, "Columns", "columns"),
             "tile_k": tiles([8, 32, 256], 32, "Depth"),
             "vector_width": choice([4, 8, 16], 4, "SIMD lanes of one instruction.", "lanes"),
             "rows": choice([1, 2, 4, 8], 1, "Rows whose sums are kept in registers at once.", "rows"),
             "unroll": choice([1, 4], 1, "Iterations of the inner loop written out.", "iterations"),
             "loop_order": choice(["mnk", "nkm", "kmn"], "mnk",
                                  "Order of the loops over tiles; the last is innermost."),
             "packing": flag(False, "Whether a tile of the second matrix is copied together first."),
             "constraints": ["rows * vector_width <= 64", "(tile_m + tile_n) * tile_k * 4 <= 393216"]}

    @staticmethod
    def defines(c):
        loops = {f"LOOP_{i + 1}": f"LOOP_{axis.upper()}" for i, axis in enumerate(c["loop_order"])}
        return {"TILE_M": c["tile_m"], "TILE_N": c["tile_n"], "TILE_K": c["tile_k"], "ROWS": c["rows"],
                "VECTOR_WIDTH": c["vector_width"], "UNROLL": c["unroll"], "PACKING": int(c["packing"]),
                "PACKED_FLOATS": 32768} | loops

    @staticmethod
    def options(c):
        return ["-O2", "-march=native"]

    @staticmethod
    def right(a, b, c):
        return numpy.abs(c - a.astype(float) @ b.astype(float)).max() < 1e-3


class Transpose:
    family, size = "kernel", 512
    brief = "Transposition of a float matrix, 512 x 512, on one core; time of a run in microseconds."
    space = {"block_x": choice([4, 8, 16, 32, 64, 128, 256], 32, "Columns of a block.", "columns"),
             "block_y": choice([4, 8, 16, 32, 64, 128, 256], 32, "Rows of a block.", "rows"),
             "unroll": choice([1, 2, 4, 8], 1, "Iterations of the inner loop written out.", "iterations"),
             "prefetch_distance": choice([0, 1, 4], 0, "How many rows ahead data is fetched into the cache.", "rows"),
             "write_rows": flag(False, "Whether the result is written along its rows, instead of the source read so."),
             "buffered": flag(False, "Whether a block is copied to a buffer first."),
             "constraints": ["unroll <= block_x", "unroll <= block_y"]}

    @staticmethod
    def defines(c):
        return {"BLOCK_X": c["block_x"], "BLOCK_Y": c["block_y"], "UNROLL": c["unroll"],
                "PREFETCH": c["prefetch_distance"], "WRITE_ROWS": int(c["write_rows"]), "BUFFERED": int(c["buffered"]),
                "BUFFER_FLOATS": 16384}

    @staticmethod
    def options(c):
        return ["-O2", "-march=native"]

    @staticmethod
    def right(a, b, c):
        return (c == a.T).all()


class Flags:
    family, size = "compiler flags", 256
    brief = "A small C program (bodies, a sort, hashes, a sum) by the flags of its compiler; time in microseconds."
    space = {"level": choice(["-O1", "-O2", "-O3"], "-O2", "Optimization level of GCC."),
             "architecture": choice(["x86-64", "x86-64-v3", "native"], "x86-64",
                                    "Instructions that may be used (-march)."),
             "fast_math": flag(False, "Whether floating-point sums may be reordered (-ffast-math)."),
             "unroll_loops": flag(False, "Whether loops are unrolled (-funroll-loops)."),
             "vectorize": choice(["default", "yes", "no"], "default", "Loop vectorization (-ftree-vectorize)."),
             "inline": choice(["default", "no", "much"], "default", "Inlining of functions."),
             "if_conversion": flag(True, "Whether branches may become moves (-fif-conversion).")}

    @staticmethod
    def defines(c):
        return {}

    @staticmethod
    def options(c):
        some = {"fast_math": {True: "-ffast-math"}, "unroll_loops": {True: "-funroll-loops"},
                "vectorize": {"yes": "-ftree-vectorize", "no": "-fno-tree-vectorize"},
                "inline": {"no": "-fno-inline", "much": "-finline-limit=10000"},
                "if_conversion": {False: "-fno-if-conversion"}}
        chosen = [options[c[name]] for name, options in some.items() if c[name] in options]
        return [c["level"], f"-march={c['architecture']}"] + chosen

    @classmethod
    def right(cls, a, b, c):
        want = numpy.array([9.27e-7, numpy.sort(a.ravel()[:4096])[2048], 0, (a.ravel()[:16384].astype(float)**2).sum()])
        got = c.ravel()[:4]
        return got[1] == numpy.float32(want[1]) and abs(got[3] - want[3]) < 1e-2 * want[3] and got[0] > 0 and got[2] > 0


KERNELS = {"matmul": Matmul, "transpose": Transpose, "flags": Flags}


def points(space):
    parameters = parameters_of(space)
    choices = [p.get("choices", [False, True]) for p in parameters.values()]
    for values in itertools.product(*choices):
        yield dict(zip(parameters, values))


def allowed(space, c):
    return all(eval(rule, {}, dict(c)) for rule in space.get("constraints", []))


def compile_variants(name, kernel, variants, folder):
    """Those of the same options in shared libraries of a few dozen. Returns {number: (library, symbol) or why not}."""
    source = (HERE / "kernels" / f"{name}.c").resolve()
    batches = []
    options_of = lambda variant: kernel.options(variant[1])
    for options, group in itertools.groupby(sorted(variants, key=options_of), options_of):
        group = list(group)
        batches += [(options, group[i:i + 32]) for i in range(0, len(group), 32)]
    libraries = {}

    def build(batch):
        options, group = batch
        if attempt(options, group):
            return
        for variant in group:  # one of them does not compile
            if not attempt(options, [variant]):
                libraries[variant[0]] = "crashed"

    def attempt(options, group):
        text = []
        for number, c in group:
            defines = kernel.defines(c) | {"SIZE": kernel.size, "NAME(x)": f"x##_{number}"}
            text += [f"#define {k} {v}" for k, v in defines.items()] + [f'#include "{source}"']
            text += [f"#undef {k.split('(')[0]}" for k in defines]
        stem = folder / f"{name}-{group[0][0]}-{len(group)}"
        stem.with_suffix(".c").write_text(UNROLLED + "\n".join(text) + TIMER)
        command = ["gcc", "-shared", "-fPIC", *options, stem.with_suffix(".c"), "-o", stem.with_suffix(".so"), "-lm"]
        if subprocess.run(command, capture_output=True).returncode:
            return False
        library = ctypes.CDLL(stem.with_suffix(".so"))
        library.time_us.restype = ctypes.c_double
        for number, _ in group:
            libraries[number] = library, getattr(library, f"run_{number}")
        return True

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, batches))
    return libraries


def measure(name):
    kernel = KERNELS[name]
    every = list(points(kernel.space))
    variants = [(i, c) for i, c in enumerate(every) if allowed(kernel.space, c)]
    random = numpy.random.default_rng(1)
    a, b = (random.uniform(-1, 1, (kernel.size, kernel.size)).astype(numpy.float32) for _ in range(2))
    pointer = lambda x: x.ctypes.data_as(ctypes.c_void_p)
    with tempfile.TemporaryDirectory() as folder:
        libraries = compile_variants(name, kernel, variants, pathlib.Path(folder))
        times = [None] * len(every)
        for number, _ in variants:
            if isinstance(libraries[number], str):
                times[number] = libraries[number]
                continue
            library, run = libraries[number]
            c = numpy.zeros_like(a)
            library.time_us(run, pointer(a), pointer(b), pointer(c))
            if not kernel.right(a, b, c):
                times[number] = "wrong_result"
        running = [n for n, _ in variants if times[n] is None]
        samples = {n: [] for n in running}
        c = numpy.zeros_like(a)
        for _ in range(ROUNDS):
            random.shuffle(running)
            for n in running:
                library, run = libraries[n]
                samples[n].append(library.time_us(run, pointer(a), pointer(b), pointer(c)))
        for n in running:
            times[n] = float(f"{min(samples[n]):.4g}")
    spread = numpy.median([numpy.median(s) / min(s) - 1 for s in samples.values()])
    grid = {"name": f"grid-{name}", "family": kernel.family, "brief": kernel.brief, "space": kernel.space,
            "machine": machine(), "rounds": ROUNDS, "median_above_least": round(float(spread), 3), "times": times}
    (HERE / "grids").mkdir(exist_ok=True)
    with open(HERE / "grids" / f"{name}.json.gz", "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as f:
        f.write(json.dumps(grid).encode())
    describe(grid, every)


def machine():
    cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    compiler = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    return {"cpu": cpu[0] if cpu else platform.processor(), "cores": len(cpu), "system": platform.system(),
            "gcc": compiler}


def describe(grid, every):
    good = {i: t for i, t in enumerate(grid["times"]) if isinstance(t, float)}
    failed = sum(isinstance(t, str) for t in grid["times"])
    best = min(good, key=good.get)
    default = {n: p["default"] for n, p in parameters_of(grid["space"]).items()}
    print(f"{grid['name']}: {len(every)} points, {len(good)} measured, {failed} failed")
    print(f"  us: default {grid['times'][every.index(default)]}, quantiles 0 .01 .1 .5 1: "
          f"{numpy.quantile(list(good.values()), [0, .01, .1, .5, 1])}, best {every[best]}")
    print(f"  medians {100 * grid['median_above_least']:.0f} % above the least of {grid['rounds']} rounds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KERNELS))
    for name in parser.parse_args().names or KERNELS:
        measure(name)


if __name__ == "__main__":
    main()
