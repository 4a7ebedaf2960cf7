#include "haqa/vision/torch_file.h"

#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/train/torch_message.h"
#include "haqa/vision/pickle.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;
using Kind = PickleValue::Kind;

[[noreturn]] void fail(std::string_view why) {
  throw Error("{}", why);
}

constexpr size_t kMostDimensions = 64;  ///< as PyTorch has it

/// Of a storage's class: "torch.FloatStorage".
at::ScalarType type_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> kTypes = {
      {"torch.FloatStorage", at::kFloat}, {"torch.DoubleStorage", at::kDouble},
      {"torch.HalfStorage", at::kHalf},   {"torch.LongStorage", at::kLong},
      {"torch.IntStorage", at::kInt},     {"torch.BFloat16Storage", at::kBFloat16},
      {"torch.ShortStorage", at::kShort}, {"torch.CharStorage", at::kChar},
      {"torch.ByteStorage", at::kByte},   {"torch.BoolStorage", at::kBool}};
  const auto found = kTypes.find(name);
  if (found == kTypes.end()) fail(fmt::format("its numbers are in {}", one_line(name, 100)));
  return found->second;
}

/// What a tensor's numbers are a part of.
struct Storage {
  std::string key;
  at::ScalarType type = at::kFloat;
  int64_t count = 0;
};

/// ("storage", class, key, device, count), with what tells views apart in older files.
Storage storage_of(const PickleValue& value) {
  if (value.kind != Kind::outside || value.items.size() < 5) fail("a tensor has no storage");
  const auto& items = value.items;
  if (items.size() > 5 && items[5]->kind != Kind::none) fail("its storages are parts of others");
  return {items[2]->text, type_of(items[1]->text), items[4]->integer};
}

std::vector<int64_t> integers(const PickleValue& value) {
  if (value.items.size() > kMostDimensions) fail("a tensor has too many dimensions");
  std::vector<int64_t> all;
  for (const PickleValue* item : value.items) all.push_back(item->integer);
  return all;
}

/// The storages of a file, each read once, of which tensors are parts: a hostile file may name one again and again.
class Storages {
 public:
  using Reader = std::function<Tensor(const Storage&)>;
  /// `most`: bytes that all of them have at most.
  Storages(uint64_t most, Reader read) : left_(most), read_(std::move(read)) {}

  const Tensor& of(const Storage& storage) {
    const auto [found, is_new] = rows_.try_emplace(storage.key);
    Tensor& row = found->second;
    if (is_new) {
      const auto size = static_cast<uint64_t>(at::elementSize(storage.type));
      if (storage.count < 0 || static_cast<uint64_t>(storage.count) > left_ / size)
        fail("the numbers of a tensor are cut short");
      left_ -= static_cast<uint64_t>(storage.count) * size;
      row = read_(storage);
    }
    if (row.scalar_type() != storage.type || row.numel() != storage.count) fail("its tensors contradict each other");
    return row;
  }

 private:
  uint64_t left_;
  Reader read_;
  std::map<std::string, Tensor> rows_;
};

/// torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, ...).
Tensor rebuilt(const PickleValue& value, Storages& storages) {
  const auto& items = value.items;
  if (items.size() < 4) fail("a tensor has no shape");
  const Storage storage = storage_of(*items[0]);
  const int64_t offset = items[1]->integer;
  const std::vector<int64_t> sizes = integers(*items[2]), strides = integers(*items[3]);
  int64_t last = offset, count = 1;
  bool fits = offset >= 0 && sizes.size() == strides.size(), empty = false;
  for (size_t i = 0; fits && i < sizes.size(); ++i) {
    int64_t step = 0;
    fits = sizes[i] >= 0 && strides[i] >= 0 &&
           !__builtin_mul_overflow(std::max<int64_t>(sizes[i], 1) - 1, strides[i], &step) &&
           !__builtin_add_overflow(last, step, &last) &&
           !__builtin_mul_overflow(count, std::max<int64_t>(sizes[i], 1), &count);
    empty |= sizes[i] == 0;
  }
  // A stride of 0 makes many of few, which no weights are.
  if (!fits || (!empty && (last >= storage.count || count > storage.count)))
    fail("a tensor is larger than its numbers");
  if (empty) return at::empty(sizes, storage.type);
  return storages.of(storage).as_strided(sizes, strides, offset);
}

std::optional<Tensor> tensor_in(const PickleValue& value, Storages& storages) {
  const PickleValue* inner = &value;
  if (value.kind == Kind::object && value.text == "torch._utils._rebuild_parameter" && !value.items.empty())
    inner = value.items[0];  // a tensor: parameters of parameters are none of PyTorch's
  if (inner->kind != Kind::object || inner->text != "torch._utils._rebuild_tensor_v2") return std::nullopt;
  return rebuilt(*inner, storages);
}

/// Dictionaries within dictionaries: as deep as checkpoints have them.
constexpr int kDeepest = 4;

/// Finds the tensors in a pickle's value, which may hold itself.
class TensorSearch {
 public:
  explicit TensorSearch(Storages& storages) : storages_(storages) {}

  Tensors in(const PickleValue& value, int depth = 0) {
    if (depth == kDeepest || !seen_.insert(&value).second) return {};
    for (const char* wanted : {"state_dict", "model_state_dict", "model", "net", "weights"})
      for (const auto& [key, entry] : value.entries)
        if (key->kind == Kind::text && key->text == wanted)
          if (Tensors inner = in(*entry, depth + 1); !inner.empty()) return inner;
    Tensors tensors;
    for (const auto& [key, entry] : value.entries)
      if (key->kind == Kind::text)
        if (const auto tensor = tensor_in(*entry, storages_)) tensors[key->text] = *tensor;
    return tensors;
  }

 private:
  Storages& storages_;
  std::set<const PickleValue*> seen_;
};

/// Bytes as a row of numbers.
Tensor numbers(const void* bytes, size_t size, const Storage& storage) {
  if (size / at::elementSize(storage.type) < static_cast<size_t>(storage.count))
    fail("the numbers of a tensor are cut short");
  Tensor row = at::empty({storage.count}, storage.type);
  if (storage.count > 0) std::memcpy(row.data_ptr(), bytes, static_cast<size_t>(row.nbytes()));
  return row;
}

Tensors read_zip(const fs::path& file) {
  caffe2::serialize::PyTorchStreamReader reader(file.string());
  const uint64_t file_size = fs::file_size(file);
  const auto record = [&](const std::string& name) {
    // PyTorch compresses nothing: what says that it is larger than the file is none of its own.
    if (reader.getRecordSize(name) > file_size) fail("a part is larger than all of it");
    return reader.getRecord(name);
  };
  const auto [bytes, size] = record("data.pkl");
  const Pickle pickle(std::string_view(static_cast<const char*>(bytes.get()), size));
  Storages storages(file_size, [&](const Storage& storage) {
    const auto [data, length] = record("data/" + storage.key);
    return numbers(data.get(), length, storage);
  });
  return TensorSearch(storages).in(pickle.value());
}

/// Pickles one after another: a number that marks the form, its version, the machine, the object, the storages' keys;
/// then the storages in that order, each after its count.
Tensors read_legacy(const fs::path& file) {
  const std::string all = read_file(file);
  std::string_view rest = all;
  const auto next = [&] {
    Pickle pickle(rest);
    rest.remove_prefix(pickle.length());
    return pickle;
  };
  for (int i = 0; i < 3; ++i) next();
  const Pickle object = next(), keys = next();
  std::map<std::string, Storage> storages;
  for (const PickleValue& value : object.values())
    if (value.kind == Kind::outside) {
      const Storage storage = storage_of(value);
      storages[storage.key] = storage;
    }
  std::map<std::string, std::string_view> bytes;
  for (const PickleValue* key : keys.value().items) {
    const auto found = storages.find(key->text);
    uint64_t count = 0;
    if (found == storages.end() || rest.size() < sizeof count) fail("its storages are not those of its tensors");
    std::memcpy(&count, rest.data(), sizeof count);
    rest.remove_prefix(sizeof count);
    const uint64_t size = at::elementSize(found->second.type);
    if (count > rest.size() / size) fail("it is cut short");
    bytes[key->text] = rest.substr(0, count * size);
    rest.remove_prefix(count * size);
  }
  Storages rows(all.size(), [&](const Storage& storage) {
    const std::string_view data = bytes[storage.key];
    return numbers(data.data(), data.size(), storage);
  });
  return TensorSearch(rows).in(object.value());
}

}  // namespace

Tensors read_torch_file(const fs::path& file, bool zip) {
  try {
    return zip ? read_zip(file) : read_legacy(file);
  } catch (const c10::Error& error) {
    throw Error("{}: is no whole file of PyTorch ({}); copy or download it again", file.string(), first_line(error));
  } catch (const Error& error) {
    throw Error("{}: is no whole file of PyTorch ({}); copy or download it again", file.string(), error.what());
  }
}

}  // namespace haqa
