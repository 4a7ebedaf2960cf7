#include "haqa/images/make_images.h"

#include <fmt/format.h>

#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/worker/process.h"

namespace haqa {

void add_make_images(CLI::App& data) {
  struct Options {
    std::string form;
    std::filesystem::path folder;
    MadeImages made;
    bool quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = data.add_subcommand(
      "make-images", "Generate small sets of images that can be learnt: shapes in warm and cool colours, with noise");
  command->add_option("form", o->form, "cifar10, cifar100 (binary files) or folder (JPEGs in train/ and val/)")
      ->type_name("FORM")
      ->required();
  command->add_option("folder", o->folder, "Folder to make")->type_name("FOLDER")->required()->check(not_empty);
  command->add_option("--train", o->made.training, "Images to train on")->type_name("N")->capture_default_str();
  command->add_option("--test", o->made.test, "Images to test on")->type_name("N")->capture_default_str();
  command->add_option("--classes", o->made.classes, "From 2 to 20")->type_name("K")->capture_default_str();
  command->add_option("--seed", o->made.seed, "Seed of all that is random")->type_name("S")->capture_default_str();
  command->add_option("--noise", o->made.noise, "Deviation of each value, of 1: how hard it is")
      ->type_name("X")
      ->capture_default_str();
  command->add_option("--side", o->made.side, "Pixels of a JPEG's shortest side")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer("Example:\n  haqa data make-images cifar10 shapes --train 5000 --test 1000");
  command->callback([o] {
    const ImageForm form = image_form_from(o->form);
    Progress progress(o->quiet);
    progress.step("generating " + o->folder.string());
    make_images(o->folder, form, o->made, [&](double share) {
      check_interrupted();
      progress.update(share);
    });
    progress.done();
    fmt::print("{}: {} images to train on, {} to test on, {} classes\n", o->folder.string(), o->made.training,
               o->made.test, o->made.classes);
  });
}

}  // namespace haqa
