"""How long ONNX Runtime takes for one image, by networks that take turns; run by haqa.

Reads {"files": [FILE, ...], "image": [channels, height, width], "threads": N} from standard input, threads of 0 being
all cores; writes {"runtime": "onnxruntime VERSION", "threads": N, "seconds": [[...] of each file]}.
"""
import json
import os
import sys
import time

import numpy
import onnxruntime

WARM_UP, LEAST, MOST = 3, 20, 200  # turns
SECONDS = 15  # after which no further turn is taken, once there are enough


def session(file, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Those of a session that waits for its turn would take the time of the one that has it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")  # right without VNNI too: docs/onnx.md
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def measure(sessions, image):
    seconds = [[] for _ in sessions]
    started = time.perf_counter()
    for turn in range(WARM_UP + MOST):
        if turn >= WARM_UP + LEAST and time.perf_counter() - started > SECONDS:
            break
        for one, times in zip(sessions, seconds):
            begin = time.perf_counter()
            one.run(None, {"images": image})
            times.append(time.perf_counter() - begin)
    return [times[WARM_UP:] for times in seconds]


request = json.load(sys.stdin)
threads = request["threads"] or len(os.sched_getaffinity(0))
image = numpy.random.default_rng(1).uniform(size=[1, *request["image"]]).astype(numpy.float32)
seconds = measure([session(file, threads) for file in request["files"]], image)
json.dump({"runtime": f"onnxruntime {onnxruntime.__version__}", "threads": threads, "seconds": seconds}, sys.stdout)
