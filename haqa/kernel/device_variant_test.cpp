#include "haqa/kernel/device_variant.h"

#include <gtest/gtest.h>

#include <memory>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/checks.h"

namespace haqa {
namespace {

DeviceVariant example() {
  DeviceVariant v;
  v.source = "text";
  v.macros = {"block_size_x=8", "tile=3"};
  v.parameters = {{"block_size_x", 8}, {"tile", 3}};
  v.sizes = {{"k", "m"}, {"k", "n"}, {"m", "n"}};
  v.problem_size = {"(m + tile - 1) // tile", "n"};
  v.block = {"block_size_x", "1", "1"};
  return v;
}

std::unique_ptr<Control> control_of(int64_t m, int64_t n, int64_t k) {
  auto control = std::make_unique<Control>();
  control->inputs = 2;
  control->in[0] = {{k, m, 1}, {4, 4 * k, 4 * k * m}, 4 * k};
  control->in[1] = {{k, n, 1}, {4, 4 * k, 4 * k * n}, 4 * k};
  control->out = {{m, n, 1}, {4, 4 * m, 4 * m * n}, 4 * m};
  return control;
}

TEST(DeviceVariant, GeometryIsWholeBlocksOfWhatTheProblemNeeds) {
  const Geometry g = geometry_of(example(), *control_of(100, 5, 7));
  EXPECT_EQ(g.global[0], 40u);  // 34 items
  EXPECT_EQ(g.block[0], 8u);
  EXPECT_EQ(g.global[1], 5u);
  EXPECT_EQ(g.global[2], 1u);
  EXPECT_EQ(g.block_items(), 8u);
}

TEST(DeviceVariant, GeometryThatIsNoNumberIsAnError) {
  for (const char* wrong : {"m - m", "m / 3", "unknown"}) {
    DeviceVariant v = example();
    v.problem_size[0] = wrong;
    EXPECT_THROW(geometry_of(v, *control_of(100, 5, 7)), Error) << wrong;
  }
}

TEST(DeviceVariant, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  write_device_variant(example(), folder / "variant.json");
  const DeviceVariant back = read_device_variant(folder / "variant.json");
  EXPECT_EQ(back.source, "text");
  EXPECT_EQ(back.macros, example().macros);
  EXPECT_EQ(back.sizes, example().sizes);
  EXPECT_EQ(back.parameters, example().parameters);
}

TEST(DeviceVariant, RangesHoldAllLaunchesAndTheMargins) {
  const auto control = control_of(100, 5, 7);
  control->launches = 2;
  control->places[0] = {{0, 9000}, kOutputsAt + 20000, 0};
  control->places[1] = {{0, 5000}, kOutputsAt + 8192, 0};
  const MemoryRange in = input_range(*control, 1);
  EXPECT_EQ(in.from, 4096u);
  EXPECT_EQ(in.from + in.bytes, 9000u + 4 * 7 * 5);
  const MemoryRange out = output_range(*control);
  EXPECT_LE(out.from, kOutputsAt + 8192 - kMargin);
  EXPECT_EQ(out.from % 4096, 0u);
  EXPECT_EQ(out.from + out.bytes, kOutputsAt + 20000 + 4 * 100 * 5 + kMargin);
}

TEST(DeviceVariant, MessagesLoseTheirFolders) {
  EXPECT_EQ(build_messages("error: /a/b-c/d.e/source.cl:3:5: no\n\n"), "error: source.cl:3:5: no");
  EXPECT_EQ(build_messages("a / b // c"), "a / b // c");
  EXPECT_LT(build_messages(std::string(5000, 'x')).size(), 1000u);
}

}  // namespace
}  // namespace haqa
