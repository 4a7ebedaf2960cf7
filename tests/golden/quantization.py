"""Golden numbers for haqa/quantization/: writes quantization.json beside this file.

Ran with bitsandbytes 0.50.2 and torch 2.13.0 on the CPU, one thread. Arrays are hexadecimal bytes, little-endian.
Inputs that are not stored come from numbers(), which haqa/quantization/quantization_test_support.h repeats.
"""
import json
import pathlib

import bitsandbytes
import bitsandbytes.functional as F
import numpy as np
import torch

torch.set_num_threads(1)


def numbers(seed, count, exponent):
    """Products of two 12-bit integers times 2^exponent: exact in float32, and most of them near zero."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((((state >> 40) & 0xFFF) - 2048) * (((state >> 52) & 0xFFF) - 2048) * 2.0**exponent)
    return torch.tensor(out, dtype=torch.float32)


def hexed(tensor):
    tensor = tensor.contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy().tobytes().hex()


def four_bit(format, values, shape=None):
    values = values if shape is None else values.view(shape)
    codes, state = F.quantize_4bit(values, blocksize=64, quant_type=format)
    return {"codes": hexed(codes), "absmax": hexed(state.absmax)}


def neighbours(values):
    below = torch.nextafter(values, torch.tensor(-torch.inf))
    above = torch.nextafter(values, torch.tensor(torch.inf))
    return torch.cat([values, below, above])


def edges(format):
    """Values by name; the middles between two of the codebook, and one step beside them, in a block with absmax 1."""
    code = F.get_4bit_type(format, device="cpu").sort().values
    middles = (code[:-1] + code[1:]) / 2
    yield "ties", torch.cat([neighbours(middles), torch.ones(64 - 45)])
    yield "ties in a short block", torch.cat([neighbours(middles), torch.ones(1)])
    yield "scaled ties", torch.cat([neighbours(middles * 0.0123), torch.full((64 - 45,), 0.0123)])
    yield "scaled ties in a short block", torch.cat([neighbours(middles * 0.0123), torch.full((1,), 0.0123)])
    yield "zeros", torch.zeros(64)
    yield "zeros and a short block of zeros", torch.zeros(67)
    yield "negative zeros", -torch.zeros(64)
    yield "denormals", numbers(3, 64, -160)
    yield "denormals beside normals", torch.cat([numbers(4, 63, -160), torch.ones(1)])
    yield "below 1e-38", torch.cat([numbers(5, 63, -22) * 1e-38, torch.tensor([9e-39])])
    yield "denormals in a short block", numbers(6, 10, -160)
    yield "one", torch.tensor([-0.3])
    yield "one zero", torch.zeros(1)
    yield "odd", numbers(7, 63, -22)
    yield "a block and one", numbers(8, 65, -22)
    yield "huge", torch.cat([numbers(9, 62, -22) * 3e38, torch.tensor([3.4028234663852886e38, -3.4e38])])
    yield "one value large", torch.cat([numbers(10, 63, -30), torch.tensor([-1000.0])])


def four_bit_cases(format):
    result = {"codebook": hexed(F.get_4bit_type(format, device="cpu")), "edges": [], "matrices": []}
    for name, values in edges(format):
        result["edges"].append({"name": name, "values": hexed(values)} | four_bit(format, values))
    for seed, (rows, columns) in enumerate([(5, 64), (3, 128), (7, 192), (1, 640)]):
        values = numbers(seed + 20, rows * columns, -28).view(rows, columns)
        case = {"seed": seed + 20, "exponent": -28, "rows": rows, "columns": columns} | four_bit(format, values)
        for dtype in (torch.float32, torch.bfloat16):
            codes, state = F.quantize_4bit(values, blocksize=64, quant_type=format)
            state.dtype = dtype
            case[str(dtype)[6:]] = hexed(F.dequantize_4bit(codes, state))
        result["matrices"].append(case)
    result["double"] = double(format)
    return result


def double(format):
    """600 blocks, so three of the second quantization; the values of those around its first end."""
    values = numbers(40, 600 * 64, -28) * ((torch.arange(600) * 37 % 97 + 32) / 64).repeat_interleave(64)
    codes, state = F.quantize_4bit(values.view(600, 64), blocksize=64, quant_type=format, compress_statistics=True)
    absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    case = {"absmax": hexed(values.view(-1, 64).abs().max(1).values), "mean": hexed(state.offset),
            "absmax_codes": hexed(state.absmax), "absmax_absmax": hexed(state.state2.absmax),
            "dequantized_absmax": hexed(absmax), "first_block": 254, "blocks": 5,
            "codes": hexed(codes.flatten()[254 * 32:259 * 32])}
    for dtype in (torch.float32, torch.bfloat16):
        state.dtype = dtype
        case[str(dtype)[6:]] = hexed(F.dequantize_4bit(codes, state)[254:259])
    return case


def blockwise(signed):
    code = F.create_dynamic_map(signed)
    values = numbers(50, 1000, -22) if signed else numbers(51, 1000, -22).abs()
    codes, state = F.quantize_blockwise(values, code=code, blocksize=256)
    return {"map": hexed(code), "codes": hexed(codes), "absmax": hexed(state.absmax),
            "values": hexed(F.dequantize_blockwise(codes, state))}


def close_calls():
    """Rows [absmax, value] whose value lies so close to the middle of two codes that the last bit of the scale decides:
    torch computes 127.0 / absmax as the reciprocal times 127."""
    absmax = numbers(62, 4000, -28).abs() + 0.01
    twice, once = absmax.reciprocal() * 127, torch.full_like(absmax, 127) / absmax
    values = (torch.arange(4000) % 126 + 0.5) / twice
    found = torch.round(values * twice) != torch.round(values * once)
    rows = torch.stack([absmax, values], 1)[found][:40]
    assert len(rows) == 40
    codes, _, _ = F.int8_vectorwise_quant(rows.clone())
    return {"rows": hexed(rows), "codes": hexed(codes)}


def int8():
    weights = numbers(60, 12 * 96, -28).view(12, 96)
    weights[3] = 0
    weights[4, :4] = torch.tensor([127.0, 0.5, 1.5, -2.5])  # ties go to the even one
    codes, absmax, _ = F.int8_vectorwise_quant(weights)
    dequantized = F.int8_vectorwise_dequant(codes, absmax)
    x = numbers(61, 5 * 96, -19).view(5, 96)
    x_codes, x_absmax, outliers = F.int8_vectorwise_quant(x.clone(), threshold=6.0)
    assert 0 < len(outliers) < 30
    out, _ = torch.ops.bitsandbytes.int8_mixed_scaled_mm(x, x_codes, codes, x_absmax, absmax, outliers)
    plain_codes, plain_absmax, _ = F.int8_vectorwise_quant(x)
    plain = torch.ops.bitsandbytes.int8_scaled_mm(plain_codes, codes, plain_absmax, absmax, dtype=torch.float32)
    return {"close_calls": close_calls(), "rows": 12, "columns": 96, "tokens": 5, "codes": hexed(codes), "absmax": hexed(absmax), "weights": hexed(weights),
            "dequantized": hexed(dequantized), "x_codes": hexed(x_codes), "x_absmax": hexed(x_absmax),
            "outliers": outliers.tolist(), "out": hexed(out), "out_without_outliers": hexed(plain)}


def adamw():
    """AdamW8bit as its users call it; it keeps full states below 4,096 values unless told otherwise."""
    weights = torch.nn.Parameter(numbers(70, 700, -22))
    hyperparameters = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    optimizer = bitsandbytes.optim.AdamW8bit([weights], min_8bit_size=1, **hyperparameters)
    steps = []
    for step in range(6):
        weights.grad = numbers(80 + step, 700, -30)
        weights.grad[500:560] = 0
        optimizer.step()
        state = optimizer.state[weights]
        steps.append({"weights": hexed(weights.data), "m": hexed(state["state1"]), "v": hexed(state["state2"]),
                      "m_absmax": hexed(state["absmax1"]), "v_absmax": hexed(state["absmax2"])})
    return {"values": 700, "zeros": [500, 560], "steps": steps}


golden = {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__, "numbers": hexed(numbers(1, 8, -28)),
          "nf4": four_bit_cases("nf4"), "fp4": four_bit_cases("fp4"), "signed": blockwise(True),
          "unsigned": blockwise(False), "int8": int8(), "adamw": adamw()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
