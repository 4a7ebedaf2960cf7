#include "haqa/model/trainable.h"

#include "haqa/base/error.h"
#include "haqa/model/gguf_file.h"

namespace haqa {

void check_trainable(const ModelInfo& model) {
  const std::string file = model.file.string();
  if (model.architecture != "llama")
    throw Error("{}: architecture '{}' cannot be fine-tuned; llama can", file, model.architecture);
  for (const TensorInfo& tensor : model.tensors)
    if (tensor.name.ends_with(".bias") || tensor.name.find("attn_qkv") != std::string::npos)
      throw Error("{}: tensor '{}' belongs to a variant of llama that cannot be fine-tuned yet; choose another model",
                  file, tensor.name);
  const GgufFile header(model.file);
  const int64_t tokens = gguf_find_key(header.context(), "tokenizer.ggml.tokens");
  if (tokens >= 0 && gguf_get_arr_n(header.context(), tokens) != static_cast<size_t>(model.n_vocab))
    throw Error("{}: its vocabulary has {} tokens and its embedding {} rows; convert the model again", file,
                gguf_get_arr_n(header.context(), tokens), model.n_vocab);
  const std::string scaling = header.text("llama.rope.scaling.type");
  if (!scaling.empty() && scaling != "none" && scaling != "linear")
    throw Error("{}: its rotary positions are scaled by '{}', which cannot be fine-tuned yet; none and linear can",
                file, scaling);
}

}  // namespace haqa
