#pragma once
#include <gguf.h>

#include <cstdint>
#include <filesystem>

namespace haqa {

/// Makes a SentencePiece BPE vocabulary smaller: of the pieces that are merged of others the first `merges` to be
/// merged stay, which are those of the highest scores, and all that are not merged: control and byte pieces and single
/// characters. What a piece is merged of is merged before it, so that encoding works as before, with longer results.
/// header: has tokenizer.ggml.* keys; tokens, scores and types are cut alike, and the numbers of special tokens follow.
/// file: where they come from, for the message. More merges than there are: all stay.
/// Throws Error where the vocabulary is of another kind, such as GPT-2's BPE, or is damaged.
void cut_vocabulary(gguf_context* header, int merges, const std::filesystem::path& file);

}  // namespace haqa
