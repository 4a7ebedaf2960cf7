// Any bytes are a file of PyTorch, or the pickle in one, or an Error. Tensors that are read can be read to their ends,
// and have no more numbers than the file has bytes.
#include <caffe2/serialize/inline_container.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/vision/pickle.h"
#include "haqa/vision/torch_file.h"

namespace {

using namespace std::string_literals;

void check_file(std::string_view bytes, bool zip) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);  // a file in memory has a path while it is open
  if (fd < 0 || write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  try {
    for (const auto& [name, tensor] : haqa::read_torch_file("/proc/self/fd/" + std::to_string(fd), zip)) {
      if (tensor.numel() > static_cast<int64_t>(bytes.size())) std::abort();
      if (tensor.numel() > 0 && tensor.dim() < 20) tensor.clone().sum();
    }
  } catch (const haqa::Error&) {
  }
  close(fd);
}

const std::string kHeader = "\x80\x02N."s + "\x80\x02N." + "\x80\x02N.";

/// A dictionary with a tensor of two numbers, in a dictionary.
std::string some_pickle() {
  return "\x80\x02}q\x00X\x05\x00\x00\x00modelccollections\nOrderedDict\n)R(X\x01\x00\x00\x00wctorch._utils\n"
         "_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00"
         "0X\x03\x00\x00\x00"
         "cpuK\x02NtQK\x00K\x01K\x02\x86K\x02K\x01\x86\x89}tRX\x01\x00\x00\x00pctorch._utils\n"
         "_rebuild_parameter\nh\x00N\x86Rus."s;
}

/// Behind the pickle: which storages follow, and one of two numbers.
std::string some_storages() {
  return "\x80\x02](X\x01\x00\x00\x00"
         "0e.\x02\x00\x00\x00\x00\x00\x00\x00"s +
         std::string(8, 'x');
}

void write_zip(const std::filesystem::path& file) {
  caffe2::serialize::PyTorchStreamWriter writer(file.string());
  const std::string pickle = some_pickle(), numbers(8, 'x');
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  writer.writeRecord("data/0", numbers.data(), numbers.size());
  writer.writeEndOfFile();
}

}  // namespace

/// libtorch's reader of zip files leaks what it has read of a damaged one.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:mz_zip_reader";
}

/// Leaves files of both forms in the corpus, and pickles of every instruction.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    write_zip(folder / "seed-zip");
    std::ofstream(folder / "seed-legacy", std::ios::binary) << kHeader << some_pickle() << some_storages();
    std::ofstream(folder / "seed-object", std::ios::binary) << some_pickle() << some_storages();
    std::ofstream(folder / "seed-4", std::ios::binary) << "\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94("
                                                          "K\x01\x8c\x01x\x94\x8c\x01y\x93)\x81G12345678J1234\x8a\x02"
                                                          "12e\x94\x8f(\x88\x90"
                                                          "0h\x00."s;
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const haqa::Pickle pickle(bytes);
    if (pickle.length() > size) std::abort();
  } catch (const haqa::Error&) {
  }
  check_file(bytes, bytes.starts_with("PK"));
  check_file(kHeader + std::string(bytes), false);
  return 0;
}
