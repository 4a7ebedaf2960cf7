#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/cli/commands.h"
#include "haqa/hardware/profile.h"
#include "haqa/report/findings.h"

namespace haqa {
void add_hardware(CLI::App& app) {
  struct Options {
    std::string device = "this-machine";
    bool json = false, again = false, list = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("hardware", "Show what this machine, or a known device, can do");
  command->add_option("--device", o->device, "this-machine, or a known device")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_flag("--again", o->again, "Measure anew (about two seconds) instead of reading the cache");
  command->add_flag("--list", o->list, "List the known devices");
  command->add_flag("--json", o->json, "Print JSON");
  command->footer("Examples:\n  haqa hardware\n  haqa hardware --device rtx-a6000 --json");
  command->callback([o] {
    if (o->list) {
      const std::vector<std::string> names = device_names();
      fmt::print("{}\n", o->json ? Json(names).dump() : fmt::format("{}", fmt::join(names, "\n")));
      return;
    }
    const HardwareProfile p = o->device == "this-machine" ? measure_hardware(o->again) : load_device(o->device);
    if (o->json) {
      fmt::print("{}\n", to_json(p).dump(2));
    } else {
      const Json summary = {{"hardware", to_json(p)}};
      for (const auto& [name, value] : device_facts(Part(summary))) fmt::print("{:<17} {}\n", name, value);
    }
  });
}

}  // namespace haqa
