"""The same steps by transformers, peft and bitsandbytes: peer.py REQUEST.json ADAPTER, as steps.cpp has it.

ADAPTER is the PEFT folder that our side wrote, so that both begin with the same numbers. The model is read from the same
GGUF file, its rows of q and k brought into Hugging Face's order.
"""
import json
import resource
import sys
import time

import numpy as np
import torch
from gguf import GGUFReader
from peft import PeftModel, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def field(reader, name):
    return reader.get_field(name).contents()


def unpermuted(weight, heads):
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def hugging_face_folder(gguf, folder):
    """Writes the model as a Hugging Face folder."""
    reader = GGUFReader(gguf)
    heads, kv = field(reader, "llama.attention.head_count"), field(reader, "llama.attention.head_count_kv")
    state = {}
    for tensor in reader.tensors:
        array = np.array(tensor.data, dtype=np.float32)
        array = array.reshape(list(reversed([int(n) for n in tensor.shape])))
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] == "attn_q":
                array = unpermuted(array, heads)
            if parts[2] == "attn_k":
                array = unpermuted(array, kv)
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight",
                    "output": "lm_head.weight"}[parts[0]]
        state[name] = torch.from_numpy(np.ascontiguousarray(array))
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0], hidden_size=field(reader, "llama.embedding_length"),
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"), num_attention_heads=heads, num_key_value_heads=kv,
        max_position_embeddings=field(reader, "llama.context_length"), rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings="lm_head.weight" not in state)
    model = LlamaForCausalLM(config)
    model.load_state_dict(state, strict="lm_head.weight" in state)
    model.save_pretrained(folder)


def load(request):
    compute = {"fp32": torch.float32, "bf16": torch.bfloat16}[request["compute"]]
    quantization = None
    if request["base"].startswith("nf4"):
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute,
                                          bnb_4bit_use_double_quant=request["base"] == "nf4_double")
    model = LlamaForCausalLM.from_pretrained(request["folder"], quantization_config=quantization, dtype=compute,
                                             device_map="cpu")
    if quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=request["checkpointing"])
    elif request["checkpointing"]:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    return model


def padded(batch):
    longest = max(len(sequence["tokens"]) for sequence in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, sequence in enumerate(batch):
        tokens = torch.tensor(sequence["tokens"])
        ids[row, :len(tokens)] = tokens
        mask[row, :len(tokens)] = 1
        labels[row, sequence["scored_from"]:len(tokens)] = tokens[sequence["scored_from"]:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main():
    request = json.load(open(sys.argv[1]))
    torch.set_num_threads(request["threads"])
    model = PeftModel.from_pretrained(load(request), sys.argv[2] + "/adapter", is_trainable=True)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=request["learning_rate"], weight_decay=request["weight_decay"])
    losses, seconds = [], []
    for batch in request["batches"]:
        inputs = padded(batch)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=request["compute"] == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, request["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"losses": losses, "seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    if sys.argv[1] == "--convert":
        hugging_face_folder(sys.argv[2], sys.argv[3])
    else:
        main()
