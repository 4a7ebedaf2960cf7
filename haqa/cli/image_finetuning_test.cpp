#include "haqa/cli/image_finetuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/make_images.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

// The prompt's code is that of the training which the task asks for, and no other.
TEST(ImageTrack, HasTheCodeOfItsTraining) {
  const TemporaryFolder folder;
  make_images(folder / "shapes", ImageForm::cifar10, {.training = 40, .test = 4, .classes = 2});
  write_file(folder / "space.yaml", "learning_rate: {type: float, low: 1e-3, high: 0.1}\n");
  const SearchSpace space = read_space(folder / "space.yaml");
  const std::string sgd = "weight = weight - rate * velocity\n",
                    nesterov = "weight = weight - rate * (gradient + momentum * velocity)\n",
                    adamw = "weight = weight - rate * (step + weight_decay * weight)\n",
                    range = "activations of the pretrained model are brought into the quantizer's range",
                    clips = "clip of each layer begins at the bound";
  const std::vector<std::string> all = {sgd, nesterov, adamw, range, clips};
  struct Case {
    const char* method;
    const char* optimizer;
    bool nesterov;
    LayerBits bits;
    std::vector<std::string> told;  ///< of all these, and none of the others
  };
  for (const Case& c :
       {Case{"dorefa", "sgd", false, {2, 2}, {sgd, range}}, Case{"dorefa", "sgd", true, {4, 4}, {nesterov, range}},
        Case{"dorefa", "adamw", true, {4, 32}, {adamw}}, Case{"pact", "adamw", false, {4, 4}, {adamw, clips}},
        Case{"pact", "sgd", false, {4, 32}, {sgd}}}) {
    ImageSetup setup;
    setup.images = folder / "shapes";
    setup.method = c.method, setup.optimizer = c.optimizer, setup.nesterov = c.nesterov, setup.bits = c.bits;
    const ImageObjective objective(setup, space, folder / "run");
    const std::string brief = image_track(objective, space, {}, {}).brief;
    for (const std::string& line : all) {
      const bool told = std::find(c.told.begin(), c.told.end(), line) != c.told.end();
      if (told) {
        EXPECT_THAT(brief, HasSubstr(line)) << c.method << c.optimizer;
      } else {
        EXPECT_THAT(brief, Not(HasSubstr(line))) << c.method << c.optimizer;
      }
    }
    EXPECT_THAT(brief, HasSubstr("\nfor epoch in 1 .. num_epochs:\n"));
    EXPECT_THAT(brief, HasSubstr("\n  if k == 32: return x\n")) << "activations in full precision are not cut";
  }
}

}  // namespace
}  // namespace haqa
