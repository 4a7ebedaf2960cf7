#include "haqa/adapter/merge.h"

#include <ggml.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "haqa/base/error.h"
#include "haqa/base/parallel.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace {

using Matrix = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
using ConstMatrix = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

constexpr float kLargestHalf = 65504;
constexpr int64_t kChunk = 1 << 20;  // numbers that a thread works on at once

bool is_quantized(const TensorInfo& tensor) {
  return ggml_is_quantized(ggml_type_named(tensor.type));
}

std::vector<TensorInfo> merged_tensors(const TensorData& base) {
  std::vector<TensorInfo> tensors = base.tensors();
  for (TensorInfo& tensor : tensors) {
    if (!is_quantized(tensor)) continue;
    tensor.type = "F16";
    tensor.bytes = tensor_bytes(tensor.shape, tensor.type);
  }
  return tensors;
}

GgufPtr merged_header(const TensorData& base, const std::vector<TensorInfo>& tensors) {
  GgufPtr header(gguf_init_empty());
  gguf_set_kv(header.get(), base.header().context());
  gguf_remove_key(header.get(), "general.alignment");  // the new file has ggml's own
  if (std::any_of(base.tensors().begin(), base.tensors().end(), is_quantized))
    gguf_set_val_u32(header.get(), "general.file_type", 1);  // mostly F16
  add_tensors(header.get(), tensors);
  return header;
}

/// Some rows of a tensor.
struct Chunk {
  size_t tensor;
  int64_t first, rows;
};

class Merger {
 public:
  Merger(const TensorData& base, const LoraAdapter& adapter, float scale, const std::filesystem::path& file)
      : base_(base),
        tensors_(merged_tensors(base)),
        rank_(adapter.rank),
        factor_(scale * adapter.scale()),
        writer_(merged_header(base, tensors_), file, "the merged model") {
    for (const LoraPair& pair : adapter.pairs) pairs_.emplace(pair.tensor, &pair);
  }

  void run(const std::function<void(double)>& progress) {
    std::vector<Chunk> chunks;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].elements() == 0) continue;
      const int64_t rows = tensors_[i].elements() / tensors_[i].shape[0];
      const int64_t at_once = std::max<int64_t>(1, kChunk / tensors_[i].shape[0]);
      for (int64_t first = 0; first < rows; first += at_once)
        chunks.push_back({i, first, std::min(at_once, rows - first)});
    }
    parallel_for(
        chunks.size(), [&](size_t i) { work(chunks[i]); }, progress);
    writer_.commit();
  }

 private:
  void work(const Chunk& chunk) const {
    const TensorInfo& tensor = tensors_[chunk.tensor];
    const uint64_t row_bytes = tensor_bytes({tensor.shape[0]}, tensor.type);
    const auto offset = static_cast<uint64_t>(chunk.first) * row_bytes;
    const auto found = pairs_.find(tensor.name);
    if (found == pairs_.end() && tensor.type == base_.info(tensor.name).type) {
      const auto bytes = base_.bytes(tensor.name).subspan(offset, static_cast<uint64_t>(chunk.rows) * row_bytes);
      return writer_.write(chunk.tensor, offset, bytes);
    }
    std::vector<float> numbers(static_cast<size_t>(chunk.rows * tensor.shape[0]));
    base_.read_rows(tensor.name, chunk.first, chunk.rows, numbers);
    if (found != pairs_.end()) add_product(*found->second, chunk, tensor.shape[0], numbers);
    write(tensor, chunk.tensor, offset, numbers);
  }

  void add_product(const LoraPair& pair, const Chunk& chunk, int64_t in, std::vector<float>& numbers) const {
    const ConstMatrix a(pair.a.data(), rank_, in);
    const ConstMatrix b(pair.b.data() + chunk.first * rank_, chunk.rows, rank_);
    Matrix(numbers.data(), chunk.rows, in).noalias() += factor_ * b * a;
  }

  void write(const TensorInfo& tensor, size_t index, uint64_t offset, const std::vector<float>& numbers) const {
    const ggml_type type = ggml_type_named(tensor.type);
    check_range(tensor.name, numbers, type == GGML_TYPE_F16 ? kLargestHalf : std::numeric_limits<float>::max());
    if (type == GGML_TYPE_F32) return writer_.write(index, offset, std::as_bytes(std::span(numbers)));
    if (type != GGML_TYPE_F16 && type != GGML_TYPE_BF16)
      throw Error("tensor \"{}\" has type {}, which cannot be merged into; convert the model to F16", tensor.name,
                  tensor.type);
    std::vector<uint16_t> halves(numbers.size());
    const auto n = static_cast<int64_t>(numbers.size());
    if (type == GGML_TYPE_F16) ggml_fp32_to_fp16_row(numbers.data(), halves.data(), n);
    if (type == GGML_TYPE_BF16) ggml_fp32_to_bf16_row(numbers.data(), reinterpret_cast<ggml_bf16_t*>(halves.data()), n);
    writer_.write(index, offset, std::as_bytes(std::span(halves)));
  }

  static void check_range(const std::string& tensor, const std::vector<float>& numbers, float largest) {
    // As "<=", so that undefined numbers fail.
    const auto fits = [largest](float value) { return std::abs(value) <= largest; };
    if (!std::all_of(numbers.begin(), numbers.end(), fits))
      throw MergeRangeError(
          "merging makes numbers in \"{}\" that its type cannot hold (above {}); choose a smaller --scale, or train it "
          "with a smaller learning rate",
          tensor, largest);
  }

  const TensorData& base_;
  const std::vector<TensorInfo> tensors_;
  const int64_t rank_;
  const float factor_;
  std::unordered_map<std::string, const LoraPair*> pairs_;
  GgufWriter writer_;
};

}  // namespace

void merge(const TensorData& base, const LoraAdapter& adapter, float scale, const std::filesystem::path& file,
           const std::function<void(double)>& progress) {
  check_matches(adapter, read_model(base.header().file()));
  if (!std::isfinite(scale)) throw UsageError("a scale of {} is no number to merge with; 1 is usual", scale);
  Merger(base, adapter, scale, file).run(progress);
}

}  // namespace haqa
