#pragma once
#include "haqa/tasks/request_tokens.h"
#include "haqa/tokenizer/tokenizer.h"

namespace haqa {

/// How requests become tokens of a model, as lm-eval has it. The tokenizer must outlive it.
RequestEncoder request_encoder(const Tokenizer& tokenizer, int max_length);

}  // namespace haqa
