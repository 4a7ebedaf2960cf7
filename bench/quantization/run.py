"""Ours and bitsandbytes in turn on the same numbers and threads: run.py PROGRAM RESULTS.json

Before a time counts, both results are compared, but for those of "quantize", which the tests compare, and of the part of
a matrix, which is one of the whole. bitsandbytes is called as transformers and peft call it, which allocates
64 MB for every result of a layer; "kernel" is its own C function alone, into memory that is kept, as ours is.
"""
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import bitsandbytes
import bitsandbytes.functional as F
from bitsandbytes.cextension import lib
import numpy as np
import torch

ROWS = COLUMNS = 4096
TOKENS = 512
ROUNDS = 15


class Ours:
    def __init__(self, program, weights, x, folder):
        for name, tensor in (("weights", weights), ("x", x)):
            tensor.numpy().tofile(f"{folder}/{name}")
        self.folder = folder
        self.process = subprocess.Popen([program, f"{folder}/weights", f"{folder}/x", folder], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def seconds(self, task, threads):
        print(task, threads, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def result(self, task):
        if task == "bfloat16":
            return torch.from_numpy(np.fromfile(f"{self.folder}/{task}", np.int16)).view(torch.bfloat16)
        return torch.from_numpy(np.fromfile(f"{self.folder}/{task}", np.float32))


class Peer:
    def __init__(self, weights, x):
        self.weights, self.x = weights, x
        self.nf4 = {}
        for dtype in (torch.float32, torch.bfloat16):
            codes, state = F.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
            state.dtype = dtype  # of the result
            self.nf4[dtype] = codes, state
        self.int8, self.int8_absmax, _ = F.int8_vectorwise_quant(weights.clone())
        self.parameter = torch.nn.Parameter(torch.zeros(weights.numel()))
        self.parameter.grad = weights.flatten().clone()
        self.optimizer = bitsandbytes.optim.AdamW8bit([self.parameter])
        self.first_step = None

        codes, state = self.nf4[torch.float32]
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
        self.kept = {"float32": torch.zeros(ROWS, COLUMNS), "bfloat16": torch.zeros(ROWS, COLUMNS, dtype=torch.bfloat16)}
        self.kernel_inputs = codes, absmax

    def kernel(self, task):
        """Without the absmax of double quantization, which are dequantized beforehand."""
        dtype, _, part = task.partition("-")
        codes, absmax = self.kernel_inputs
        function = {"float32": lib.cdequantize_blockwise_cpu_nf4_fp32, "bfloat16": lib.cdequantize_blockwise_cpu_nf4_bf16}[dtype]
        function(F.get_ptr(codes), F.get_ptr(absmax), F.get_ptr(self.kept[dtype]), ctypes.c_longlong(64),
                 ctypes.c_longlong(256 if part else ROWS), ctypes.c_longlong(COLUMNS))
        return self.kept[dtype]

    def run(self, task):
        if task.endswith("-kernel"):
            return self.kernel(task[:-7])
        if task == "float32" or task == "bfloat16":
            return F.dequantize_4bit(*self.nf4[getattr(torch, task)])
        if task == "quantize":
            return F.quantize_4bit(self.weights, quant_type="nf4", compress_statistics=True)
        if task == "int8":
            codes, absmax, outliers = F.int8_vectorwise_quant(self.x, threshold=6.0)
            return torch.ops.bitsandbytes.int8_mixed_scaled_mm(self.x, codes, self.int8, absmax, self.int8_absmax, outliers)[0]
        self.optimizer.step()
        if self.first_step is None:
            self.first_step = self.parameter.data.clone()
        return self.first_step

    def seconds(self, task, threads):
        torch.set_num_threads(threads)
        begin = time.perf_counter()
        self.last = self.run(task)
        return time.perf_counter() - begin


def check(task, ours, theirs, weights):
    """Codes are the same; the second quantization of absmax and 1 / 127^2 are not to the last bit."""
    ours, theirs = ours.float().flatten(), theirs.float().flatten()
    if task.startswith(("float32", "bfloat16")):
        errors = [(result - weights.flatten()).square().mean().sqrt().item() for result in (ours, theirs)]
        assert abs(errors[0] / errors[1] - 1) < 1e-3, errors
        assert (ours - theirs).abs().max() <= 0.02 * weights.abs().max()
    else:
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max(), (ours - theirs).abs().max()


def summary(ours, theirs):
    ratios = sorted(t / o for o, t in zip(ours, theirs))
    return {"ours_s": ours, "bitsandbytes_s": theirs, "ours_median_s": statistics.median(ours),
            "bitsandbytes_median_s": statistics.median(theirs), "ratio_median": statistics.median(ratios),
            "ratio_95": [ratios[3], ratios[-4]]}  # of 15: the sign test's interval


def machine():
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    return {"processor": model, "cores": os.cpu_count(), "torch_uses": torch.backends.cpu.get_cpu_capability(),
            "load_before": os.getloadavg()[0]}


def main(program, results):
    torch.manual_seed(1)
    weights = torch.randn(ROWS, COLUMNS) * 0.02
    x = torch.randn(TOKENS, COLUMNS)
    x[:, [5, 700, 3000, 4001]] *= 10  # outliers
    record = {"machine": machine(), "bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__,
              "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
              "rows": ROWS, "columns": COLUMNS, "tokens": TOKENS, "rounds": ROUNDS, "tasks": {}}
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Ours(program, weights, x, folder), Peer(weights, x)
        for task in ("fill", "copy"):
            record[f"{task}_gb_per_s"] = max(4e-9 * weights.numel() / ours.seconds(task, 1) for _ in range(ROUNDS))
            print(f"{task:9} {record[f'{task}_gb_per_s']:6.1f} GB/s")
        for task in ("float32-kernel", "float32-part-kernel", "bfloat16-kernel", "float32", "bfloat16", "quantize", "int8", "adamw"):
            ours_task = task.removesuffix("-kernel")
            for threads in (1, 2):
                times = [(ours.seconds(ours_task, threads), peer.seconds(task, threads)) for _ in range(ROUNDS + 1)][1:]
                if task not in ("quantize", "float32-part-kernel"):
                    check(task, ours.result(ours_task), peer.last, weights)
                one = record["tasks"][f"{task}-{threads}"] = summary(*map(list, zip(*times)))
                written = {"float32": 4, "float32-part": 4 / 16, "bfloat16": 2}.get(ours_task)
                speed = f"{written * 1e-9 * weights.numel() / one['ours_median_s']:6.1f} GB/s written" if written else ""
                print(f"{task:19} {threads} threads: ours {1e3 * one['ours_median_s']:8.2f} ms, bitsandbytes "
                      f"{1e3 * one['bitsandbytes_median_s']:8.2f} ms, ratio {one['ratio_median']:.2f} "
                      f"[{one['ratio_95'][0]:.2f}, {one['ratio_95'][1]:.2f}] {speed}", flush=True)
        ours.process.stdin.close()
        ours.process.wait()
    record["machine"]["load_after"] = os.getloadavg()[0]
    pathlib.Path(results).write_text(json.dumps(record, indent=1) + "\n")


main(*sys.argv[1:])
