#include "haqa/vision/weights.h"

#include <algorithm>
#include <fstream>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"
#include "haqa/vision/torch_file.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;

constexpr std::string_view kCount = ".num_batches_tracked", kClip = ".clip", kMean = ".running_mean",
                           kVariance = ".running_var";
constexpr std::string_view kZip = "PK\3\4";
constexpr const char* kNote = "haqa.quantization";  // beside the tensors of safetensors

std::string beginning_of(const fs::path& file) {
  if (!fs::is_regular_file(file)) throw Error("{}: no such file", file.string());
  std::ifstream in(file, std::ios::binary);
  std::string text(16, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

enum class Form { zip, pickle, safetensors };

Form form_of(const fs::path& file) {
  const std::string begin = beginning_of(file);
  // A file of safetensors begins with the length of its header, which may look like a pickle's beginning.
  if (begin.size() > 8 && begin[8] == '{') return Form::safetensors;
  if (begin.starts_with(kZip)) return Form::zip;
  const bool is_pickle = begin.size() > 1 && begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5;  // its protocol
  return is_pickle ? Form::pickle : Form::safetensors;
}

Tensors tensors_of(const SafetensorsFile& source) {
  Tensors tensors;
  for (const auto& [name, tensor] : source.tensors()) {
    if (name.ends_with(kCount)) continue;  // whole numbers, which nothing here needs
    const std::vector<float> values = source.floats(name);
    tensors[name] = at::empty(tensor.shape, at::kFloat);
    std::copy(values.begin(), values.end(), tensors[name].data_ptr<float>());
  }
  return tensors;
}

void replace_first(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// Takes away what wrappers put before it.
bool strip_prefix(std::string& name) {
  for (const std::string_view prefix : {"_orig_mod.", "module.", "model.", "net."})
    if (name.starts_with(prefix)) return name.erase(0, prefix.size()), true;
  return false;
}

/// A tensor's name as torchvision has it.
std::string our_name(std::string name) {
  while (strip_prefix(name)) continue;
  if (name.starts_with("linear.")) name.replace(0, 6, "fc");
  replace_first(name, ".shortcut.", ".downsample.");
  return name;
}

/// Everything that a file of weights has, by name.
Tensors all_of(const ResNet& network) {
  Tensors all = network.parameters();
  all.insert(network.buffers().begin(), network.buffers().end());
  return all;
}

std::vector<std::string> names_of(const Tensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(one_line(name, 100));
  return names;
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

/// Those of a file by the names that torchvision has for them.
Tensors by_our_names(const Tensors& given, const fs::path& file) {
  Tensors tensors;
  std::map<std::string, std::string> origins;
  for (const auto& [name, tensor] : given) {
    const std::string ours = our_name(name);
    const auto [origin, is_new] = origins.emplace(ours, name);
    if (!is_new)
      throw Error("{}: has {} and {}, which are both {}; leave one out", file.string(), one_line(origin->second, 100),
                  one_line(name, 100), one_line(ours, 100));
    tensors[ours] = tensor;
  }
  return tensors;
}

bool has_sense(const std::string& name, const Tensor& tensor) {
  return tensor.isfinite().all().item<bool>() && (!name.ends_with(kVariance) || tensor.ge(0).all().item<bool>());
}

Json as_json(const Quantization& q) {
  return {{"weight_bits", q.weight_bits},  {"activation_bits", q.activation_bits}, {"method", name_of(q.method)},
          {"scaling", name_of(q.scaling)}, {"first_layer", q.first_layer},         {"last_layer", q.last_layer}};
}

Quantization quantization_from(const std::string& text, const fs::path& file) {
  try {
    const Json json = Json::parse(text);
    const Quantization q = {.weight_bits = json.at("weight_bits"),
                            .activation_bits = json.at("activation_bits"),
                            .method = quantization_method_from(json.at("method").get<std::string>()),
                            .scaling = weight_scaling_from(json.at("scaling").get<std::string>()),
                            .first_layer = json.at("first_layer"),
                            .last_layer = json.at("last_layer")};
    check(q);
    return q;
  } catch (const std::exception& error) {
    throw Error("{}: its note {} is damaged: {}", file.string(), kNote, one_line(error.what(), 200));
  }
}

}  // namespace

Tensors read_tensors(const fs::path& file) {
  const Form form = form_of(file);
  const Tensors tensors =
      form == Form::safetensors ? tensors_of(SafetensorsFile(file)) : read_torch_file(file, form == Form::zip);
  if (tensors.empty()) throw Error("{}: holds no tensors by name", file.string());
  return tensors;
}

Weights read_weights(const fs::path& file) {
  Weights weights{.file = file};
  if (form_of(file) != Form::safetensors) {
    weights.tensors = by_our_names(read_tensors(file), file);
    return weights;
  }
  const SafetensorsFile source(file);
  weights.tensors = by_our_names(tensors_of(source), file);
  if (weights.tensors.empty()) throw Error("{}: holds no tensors by name", file.string());
  if (const auto note = source.notes().find(kNote); note != source.notes().end())
    weights.quantization = quantization_from(note->second, file);
  weights.images = trained_images_in(source.notes(), file);
  return weights;
}

ResNetOptions network_of(const Weights& weights) {
  const Tensors& tensors = weights.tensors;
  const auto has = [&](const std::string& name) { return tensors.contains(name); };
  if (!has("layer1.0.conv1.weight"))
    throw Error("{}: holds no ResNet that is known here; its tensors are {}", weights.file.string(),
                listed(names_of(tensors)));
  ResNetOptions options;
  options.kind = has("layer1.0.conv3.weight")   ? ResNetKind::resnet50
                 : has("layer1.4.conv1.weight") ? ResNetKind::resnet32
                                                : ResNetKind::resnet20;
  if (has("layer2.0.downsample.0.weight")) options.shortcut = Shortcut::b;
  if (has("fc.weight") && tensors.at("fc.weight").dim() == 2)
    options.classes = std::max<int64_t>(2, tensors.at("fc.weight").size(0));
  return options;
}

bool is_quantized(const Weights& weights) {
  const auto& q = weights.quantization;
  return q && (q->weight_bits != kFullPrecision || q->activation_bits != kFullPrecision);
}

bool has_clips(const Weights& weights) {
  return std::any_of(weights.tensors.begin(), weights.tensors.end(),
                     [](const auto& t) { return t.first.ends_with(kClip); });
}

void load_weights(ResNet& network, const fs::path& file) {
  load_weights(network, read_weights(file));
}

void load_weights(ResNet& network, const Weights& weights) {
  const Tensors& given = weights.tensors;
  std::vector<std::string> missing, extra, shapes, senseless;
  Tensors taken;
  const Tensors own = all_of(network);
  const bool without_clips = !has_clips(weights) && !is_quantized(weights);
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    if (found == given.end()) {
      if (!name.ends_with(kClip) || !without_clips) missing.push_back(name);
    } else if (found->second.sizes() != tensor.sizes()) {
      shapes.push_back(fmt::format("{} {} for {}", name, shape_of(found->second), shape_of(tensor)));
    } else {
      taken[name] = found->second;
      if (!has_sense(name, found->second)) senseless.push_back(name);
    }
  }
  for (const auto& [name, tensor] : given)
    if (!own.contains(name) && !name.ends_with(kCount)) extra.push_back(one_line(name, 100));
  std::string why;
  if (!missing.empty()) why += fmt::format("; it lacks {}", listed(missing));
  if (!extra.empty()) why += fmt::format("; it has {} that the network has not", listed(extra));
  if (!shapes.empty()) why += fmt::format("; of other shapes are {}", listed(shapes));
  if (!senseless.empty())
    why += fmt::format("; numbers that are not finite, or a variance below 0, are in {}", listed(senseless));
  if (!why.empty()) throw Error("{}: does not fit the network{}", weights.file.string(), why);
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : taken) own.at(name).copy_(tensor);
}

void save_weights(const ResNet& network, const fs::path& file, const std::optional<TrainedImages>& images) {
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
  std::map<std::string, std::string> notes = {{kNote, as_json(network.options().quantization).dump()}};
  if (images) notes[kImagesNote] = to_line(to_json(*images));
  write_safetensors(tensors, file, notes);
}

}  // namespace haqa
