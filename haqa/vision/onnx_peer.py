"""ONNX Runtime's side of the tests of haqa/vision: onnx_peer.py FOLDER.

Reads images.safetensors {"images", ...} and every NAME.onnx of the folder, which onnx's own checker looks at first; a
model gets the images under its name, or else "images". Writes
logits.safetensors   {NAME: logits}
weights.safetensors  {"NAME LAYER": weights of each layer as floats}, from a run without any optimization
operations.json      {NAME: {operation: how many there are when ONNX Runtime has optimized the model, "notes": {...}}}
"""
import collections
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

folder = pathlib.Path(sys.argv[1])
images = load_file(folder / "images.safetensors")
WEIGHTS = ".weight.floats"


def session(model, level, optimized=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.add_session_config_entry("session.x64quantprecision", "1")  # right without VNNI too: docs/onnx.md
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def weights_of(model, some):
    names = [n.output[0] for n in model.graph.node if n.output[0].endswith(WEIGHTS)]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    plain = session(model.SerializeToString(), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    values = {n.name: onnx.numpy_helper.to_array(n) for n in model.graph.initializer if n.name.endswith(".weight")}
    values = {name: value for name, value in values.items() if value.dtype == np.float32}
    values.update(zip(names, plain.run(names, {"images": some})))
    return {name.removesuffix(WEIGHTS).removesuffix(".weight"): value for name, value in values.items()}


logits, weights, operations = {}, {}, {}
for file in sorted(folder.glob("*.onnx")):
    onnx.checker.check_model(str(file), full_check=True)
    given = images.get(file.stem, images["images"])
    # Extended, as what comes behind it depends on the processor and cannot be written down.
    optimized = folder / "optimized"
    session(str(file), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, optimized)
    operations[file.stem] = collections.Counter(node.op_type for node in onnx.load(optimized).graph.node)
    run = session(str(file), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    operations[file.stem]["notes"] = run.get_modelmeta().custom_metadata_map
    logits[file.stem] = run.run(["logits"], {"images": given})[0]
    for name, value in weights_of(onnx.load(file), given[:1]).items():
        weights[f"{file.stem} {name}"] = np.ascontiguousarray(value)
save_file(logits, folder / "logits.safetensors")
save_file(weights, folder / "weights.safetensors")
(folder / "operations.json").write_text(json.dumps(operations))
