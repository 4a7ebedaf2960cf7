"""What ONNX Runtime takes for one image: how long, by networks that take turns, and how much memory; run by haqa.

Reads {"files": [FILE, ...], "image": [channels, height, width], "threads": N} from standard input, threads of 0 being
all cores; writes {"runtime": "onnxruntime VERSION", "threads": N, "seconds": [[...] of each file],
"memory_bytes": [...]}: by how much a process that has ONNX Runtime grows, at most, to load a file and run it.
"""
import json
import os
import subprocess
import sys
import time

import numpy
import onnxruntime

WARM_UP, LEAST, MOST = 3, 20, 200  # turns
MEMORY = "memory"  # the argument of the processes that tell what one file takes
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


def resident(what):
    """Bytes of this process in memory: VmRSS now, VmHWM at most so far."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(what + ":"))


def grown(file, threads, image):
    """By how many bytes this process grows, at most, while it loads the file and runs it."""
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # the most so far is what is there now
    before = resident("VmRSS")
    one = session(file, threads)
    for _ in range(WARM_UP):
        one.run(None, {"images": image})
    return resident("VmHWM") - before


def memory(request):
    """Of each file, in a process of its own."""
    found = []
    for file in request["files"]:
        own = json.dumps({**request, "files": [file]})
        done = subprocess.run([sys.executable, __file__, MEMORY], input=own, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout))
    return found


request = json.load(sys.stdin)
threads = request["threads"] or len(os.sched_getaffinity(0))
image = numpy.random.default_rng(1).uniform(size=[1, *request["image"]]).astype(numpy.float32)
if sys.argv[1:] == [MEMORY]:
    json.dump(grown(request["files"][0], threads, image), sys.stdout)
else:
    seconds = measure([session(file, threads) for file in request["files"]], image)
    json.dump({"runtime": f"onnxruntime {onnxruntime.__version__}", "threads": threads, "seconds": seconds,
               "memory_bytes": memory(request)}, sys.stdout)
