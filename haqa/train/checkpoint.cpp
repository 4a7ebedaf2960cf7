#include "haqa/train/checkpoint.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include "haqa/base/file.h"
#include "haqa/base/file_name.h"

namespace haqa {
namespace {

/// The first line of a checkpoint: libtorch 2.13 reads beyond the end of one that is cut short.
std::string checksum(std::string_view body) {
  return fmt::format("haqa checkpoint {:016x}\n", fnv1a_64(body));
}

}  // namespace

CheckpointEntries empty_checkpoint() {
  return CheckpointEntries(c10::StringType::get(), c10::AnyType::get());
}

c10::IValue as_entry(const std::map<std::string, torch::Tensor>& tensors) {
  c10::Dict<std::string, torch::Tensor> dict;
  for (const auto& [name, tensor] : tensors) dict.insert(name, tensor.detach().cpu());
  return dict;
}

std::map<std::string, torch::Tensor> tensors_of(const c10::IValue& entry) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& pair : c10::impl::toTypedDict<std::string, torch::Tensor>(entry.toGenericDict()))
    tensors[pair.key()] = pair.value();
  return tensors;
}

void write_checkpoint(const CheckpointEntries& checkpoint, const std::filesystem::path& file) {
  std::vector<char> bytes = torch::jit::pickle_save(checkpoint);
  const std::string sum = checksum({bytes.data(), bytes.size()});
  bytes.insert(bytes.begin(), sum.begin(), sum.end());
  write_file(file, {bytes.data(), bytes.size()});
}

void read_checkpoint(const std::filesystem::path& file, const std::function<void(const CheckpointEntries&)>& take) {
  std::string text = read_file(file);
  const std::string_view body = std::string_view(text).substr(std::min(text.size(), checksum("").size()));
  const std::string damaged = checkpoint_error(file, "is no whole checkpoint");
  if (!text.starts_with(checksum(body))) throw DamagedCheckpoint(damaged);
  try {
    std::vector<char> bytes(body.begin(), body.end());
    text = {};  // as large as the model and its optimizer's states, as is each of its kin
    const CheckpointEntries checkpoint = torch::jit::pickle_load(bytes).toGenericDict();
    bytes = {};
    take(checkpoint);
  } catch (const c10::Error&) {
    throw Error(damaged);
  } catch (const std::out_of_range&) {
    throw Error(damaged);
  }
}

std::string checkpoint_error(const std::filesystem::path& file, std::string_view what) {
  return fmt::format("{}: {}; delete it to train from the beginning", file.string(), what);
}

}  // namespace haqa
