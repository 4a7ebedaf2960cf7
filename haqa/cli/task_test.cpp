#include "haqa/cli/task.h"

#include <gtest/gtest.h>

#include <set>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

// What a run keeps of its task is the task: every key of a section for images, given another value than the default.
TEST(Task, OfImagesIsReadBackAsItWasWritten) {
  const TemporaryFolder folder;
  for (const char* file : {"model", "mine.yaml", "space.yaml"}) write_file(folder / file, "");
  make_folder(folder / "images");
  write_file(folder / "plain.yaml", "model: model\nfinetune: {method: dorefa, images: images}\n");
  const Json plain = to_json(read_task(folder / "plain.yaml"))["finetune"];
  const std::map<std::string, std::string> changed = {{"method", "pact"},
                                                      {"network", "resnet32"},
                                                      {"shortcut", "b"},
                                                      {"bit_width", "w3a5"},
                                                      {"scaling", "original"},
                                                      {"first_layer", "true"},
                                                      {"last_layer", "true"},
                                                      {"validation_share", "0.25"},
                                                      {"flip", "false"},
                                                      {"padding", "2"},
                                                      {"normalization", "imagenet"},
                                                      {"optimizer", "adamw"},
                                                      {"schedule", "step"},
                                                      {"nesterov", "true"},
                                                      {"decay_norms", "false"},
                                                      {"warmup_epochs", "1.5"},
                                                      {"label_smoothing", "0.1"},
                                                      {"ema_decay", "0.99"},
                                                      {"device", "cuda"},
                                                      {"compute", "bf16"},
                                                      {"memory_limit", "3GB"},
                                                      {"timeout_s", "77"},
                                                      {"threads", "3"},
                                                      {"space", "space.yaml"},
                                                      {"rounds", "7"},
                                                      {"sampler", "human:mine.yaml"}};
  for (const auto& [key, value] : changed) {
    std::string text = "model: model\nfinetune:\n  images: images\n  " + key + ": " + value + "\n";
    if (key != "method") text += "  method: dorefa\n";
    write_file(folder / "task.yaml", text);
    const Json once = to_json(read_task(folder / "task.yaml"));
    EXPECT_NE(once["finetune"], plain) << key;
    write_file(folder / "kept.yaml", once.dump());
    EXPECT_EQ(to_json(read_task(folder / "kept.yaml")), once) << key;
  }
  for (const auto& [key, value] : plain.items())
    EXPECT_TRUE(changed.contains(key) || key == "images") << "the test lacks " << key;
}

}  // namespace
}  // namespace haqa
