#pragma once
#include <filesystem>
#include <functional>

#include "haqa/adapter/adapter.h"
#include "haqa/base/error.h"
#include "haqa/model/tensor_data.h"

namespace haqa {

/// An adapter that no weight of the model's type can hold.
class MergeRangeError : public Error {
  using Error::Error;
};

/// Writes the model with the adapter in its weights: W + scale · alpha / rank · B · A, computed in F32 and rounded to
/// W's type, F32, F16 or BF16. Of a quantized model all quantized tensors become F16, as a second rounding to a few
/// bits would lose what was learned. Other tensors and all keys stay as they are. All cores work; the memory used is
/// the adapter and a few MB for each of them. The file is there whole or not at all. progress: called with the share
/// done. Throws MergeRangeError (numbers beyond F16's range), Error (another model's adapter, no space).
void merge(const TensorData& base, const LoraAdapter& adapter, float scale, const std::filesystem::path& file,
           const std::function<void(double)>& progress = {});

}  // namespace haqa
