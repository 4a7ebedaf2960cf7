#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace haqa {

/// A file that stays the one that was opened, whatever its name comes to mean.
class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& file);
  ~OpenFile();
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&& other) noexcept;
  /// Another name of it, for as long as it is open.
  std::filesystem::path name() const;
  /// FNV-1a, 64 bits, of its bytes, in 16 hexadecimal digits; empty where it cannot be read. It tells a damaged or
  /// replaced file, not a forged one: who can write the variants can write the tuning file too.
  std::string hash() const;

 private:
  int descriptor_ = -1;
};

/// A compiled variant that a tuning file names.
struct TunedKernel {
  std::string kernel;             ///< "matvec"
  std::string type;               ///< of the weights or the cache: "Q8_0"
  int64_t rows = 0, columns = 0;  ///< of the weights that it is for; 0 for any
  std::filesystem::path file;     ///< whole path
  OpenFile opened;                ///< that file, of the hash that is written there
};

/// What a tuning file says (docs/plugin.md). Made for one processor: another one's is not used.
struct Tuning {
  std::vector<TunedKernel> kernels;
  std::vector<std::string> stock;  ///< what stock code is faster for: "attention", "matvec-F16"
};

/// $HAQA_TUNING, else haqa-tuning.json beside the module.
std::filesystem::path tuning_file(const std::filesystem::path& module_folder);

/// Reads and checks a tuning file: its format, the processor that it was made on, and each variant's hash. What does
/// not fit is left out, with a line in the log; without a file everything is at its default. Variants lie in the file's
/// folder, or in folders within it.
Tuning read_tuning(const std::filesystem::path& file);

}  // namespace haqa
