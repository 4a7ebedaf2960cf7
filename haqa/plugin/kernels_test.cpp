#include "haqa/plugin/kernels.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/processor_levels.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(HAQA_BIN_DIR) / "kernels";

ggml_tensor weights(ggml_type type, int64_t columns, int64_t rows) {
  ggml_tensor t = {};
  t.type = type;
  t.ne[0] = columns, t.ne[1] = rows, t.ne[2] = t.ne[3] = 1;
  t.nb[0] = ggml_type_size(type), t.nb[1] = ggml_row_size(type, columns);
  t.nb[2] = t.nb[3] = t.nb[1] * static_cast<size_t>(rows);
  return t;
}

/// Whatever their order in the file: the one for both numbers, then those for one, then the one for any.
TEST(KernelsTest, TheMostExactEntryServes) {
  const TemporaryFolder copies;
  const fs::path shipped = default_variants(kFolder, "matvec", "F16").at(0);
  Tuning tuning;
  for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {0, 96}, {48, 96}}) {
    const fs::path copy = copies.path() / (std::to_string(tuning.kernels.size()) + ".so");
    fs::copy_file(shipped, copy);
    tuning.kernels.push_back({"matvec", "F16", rows, columns, copy, OpenFile(copy)});
  }
  const Kernels kernels(kFolder, tuning);
  const auto serves = [&](int64_t columns, int64_t rows) {
    return kernels.of_weights(weights(GGML_TYPE_F16, columns, rows))->compute;
  };
  std::vector<decltype(KernelFunctions::compute)> of_entry;
  for (const TunedKernel& k : tuning.kernels) {
    std::string why;
    of_entry.push_back(open_kernel(k.opened.name(), why, "matvec-F16").compute);
  }
  EXPECT_EQ(serves(96, 48), of_entry[2]);
  EXPECT_EQ(serves(96, 50), of_entry[1]);
  EXPECT_EQ(serves(64, 48), of_entry[0]);
}

TEST(KernelsTest, StockCodeOfANormIsThatOfBothItsSteps) {
  for (const char* name : {"rms_norm_mul", "rms_norm_mul-F32"}) {
    Tuning tuning;
    tuning.stock = {name};
    const Kernels kernels(kFolder, tuning);
    EXPECT_FALSE(kernels.find("rms_norm_mul-F32") || kernels.find("rms_norm-F32"));
    EXPECT_TRUE(kernels.find("swiglu-F32"));
  }
  Tuning tuning;
  tuning.stock = {"rms_norm"};
  EXPECT_TRUE(Kernels(kFolder, tuning).find("rms_norm_mul-F32"));
}

}  // namespace
}  // namespace haqa
