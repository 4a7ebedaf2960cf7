#include "haqa/vision/weights.h"

#include <fstream>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/vision/torch_file.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;

constexpr std::string_view kCount = ".num_batches_tracked", kClip = ".clip", kMean = ".running_mean";

std::string beginning_of(const fs::path& file) {
  if (!fs::is_regular_file(file)) throw Error("{}: no such file", file.string());
  std::ifstream in(file, std::ios::binary);
  std::string text(16, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

Tensors read_safetensors(const fs::path& file) {
  const SafetensorsFile source(file);
  Tensors tensors;
  for (const auto& [name, tensor] : source.tensors()) {
    if (name.ends_with(kCount)) continue;  // whole numbers, which nothing here needs
    const std::vector<float> values = source.floats(name);
    tensors[name] = at::empty(tensor.shape, at::kFloat);
    std::copy(values.begin(), values.end(), tensors[name].data_ptr<float>());
  }
  return tensors;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// A tensor's name as torchvision has it.
std::string our_name(std::string name) {
  for (const std::string_view prefix : {"_orig_mod.", "module.", "model.", "net."})  // wrappers', outermost first
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  if (name.starts_with("linear.")) name.replace(0, 6, "fc");
  replace_all(name, ".shortcut.", ".downsample.");
  return name;
}

/// Everything that a file of weights has, by name.
Tensors all_of(const ResNet& network) {
  Tensors all = network.parameters();
  all.insert(network.buffers().begin(), network.buffers().end());
  return all;
}

std::string shape_of(const Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

/// At most twenty, as hundreds would hide the reason.
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 20;
  if (names.size() <= kMost) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kMost, ", "), names.size() - kMost);
}

}  // namespace

Tensors read_tensors(const fs::path& file) {
  const std::string begin = beginning_of(file);
  const bool zip = begin.starts_with("PK"), pickle = begin.starts_with("\x80\x02");
  const Tensors tensors = zip || pickle ? read_torch_file(file, zip) : read_safetensors(file);
  if (tensors.empty()) throw Error("{}: holds no tensors by name", file.string());
  return tensors;
}

void load_weights(ResNet& network, const fs::path& file, bool new_classes) {
  Tensors given;
  for (auto& [name, tensor] : read_tensors(file)) given[our_name(name)] = tensor;
  std::vector<std::string> missing, extra, shapes;
  Tensors taken;
  const Tensors own = all_of(network);
  for (const auto& [name, tensor] : own) {
    if (new_classes && name.starts_with("fc.")) continue;
    const auto found = given.find(name);
    if (found == given.end()) {
      if (!name.ends_with(kClip)) missing.push_back(name);
    } else if (found->second.sizes() != tensor.sizes()) {
      shapes.push_back(fmt::format("{} {} for {}", name, shape_of(found->second), shape_of(tensor)));
    } else {
      taken[name] = found->second;
    }
  }
  for (const auto& [name, tensor] : given)
    if (!own.contains(name) && !name.ends_with(kCount)) extra.push_back(name);
  std::string why;
  if (!missing.empty()) why += fmt::format("; it lacks {}", listed(missing));
  if (!extra.empty()) why += fmt::format("; it has {} that the network has not", listed(extra));
  if (!shapes.empty()) why += fmt::format("; of other shapes are {}", listed(shapes));
  if (!why.empty()) throw Error("{}: does not fit the network{}", file.string(), why);
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : taken) own.at(name).copy_(tensor);
}

void save_weights(const ResNet& network, const fs::path& file) {
  std::vector<Tensor> values;  // which outlive the spans
  std::vector<TensorToSave> tensors;
  for (const auto& [name, tensor] : all_of(network)) {
    values.push_back(tensor.detach().to(at::kCPU, at::kFloat).contiguous());
    const Tensor& last = values.back();
    tensors.push_back({name, last.sizes().vec(), {last.data_ptr<float>(), static_cast<size_t>(last.numel())}});
  }
  const float none = 0;  // of the counts of batches, which PyTorch's modules insist on
  for (const auto& [name, tensor] : network.buffers())
    if (name.ends_with(kMean))
      tensors.push_back({name.substr(0, name.size() - kMean.size()) + std::string(kCount), {}, {&none, 1}});
  write_safetensors(tensors, file);
}

}  // namespace haqa
