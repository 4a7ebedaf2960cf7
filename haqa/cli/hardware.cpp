#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/base/bytes.h"
#include "haqa/cli/commands.h"
#include "haqa/hardware/profile.h"

namespace haqa {
namespace {

void row(std::string_view name, const std::string& value) {
  if (!value.empty()) fmt::print("{:<17} {}\n", name, value);
}

std::string rate(double operations_per_s) {
  return operations_per_s > 0 ? fmt::format("{:.4g} G/s", operations_per_s / 1e9) : "not native or not known";
}

std::string caches(const HardwareProfile& p) {
  std::vector<std::string> all;
  for (const Cache& c : p.caches) all.push_back(fmt::format("L{} {} x {}", c.level, c.count, format_bytes(c.bytes)));
  return fmt::format("{}", fmt::join(all, ", "));
}

std::string bandwidth(const HardwareProfile& p) {
  std::vector<std::string> all;
  for (const Bandwidth& b : p.bandwidth) {
    const std::string threads =
        b.threads > 0 ? fmt::format(" ({} thread{})", b.threads, b.threads == 1 ? "" : "s") : "";
    all.push_back(fmt::format("{:.1f} GB/s{}", b.bytes_per_s / 1e9, threads));
  }
  return fmt::format("{}", fmt::join(all, ", "));
}

void print_table(const HardwareProfile& p) {
  row("name", p.name);
  row("vendor", p.vendor);
  row("architecture", p.architecture);
  row("platform", p.platform);
  if (p.cores > 0) row("cores", fmt::format("{} ({} threads, {} NUMA node(s))", p.cores, p.threads, p.numa_nodes));
  row("caches", caches(p));
  row("instruction sets", fmt::format("{}", fmt::join(p.instruction_sets, " ")));
  row("matrix units", fmt::format("{}", fmt::join(p.matrix_units, ", ")));
  row("memory",
      format_bytes(p.memory_bytes) + (p.free_bytes > 0 ? fmt::format(" ({} free)", format_bytes(p.free_bytes)) : ""));
  row("read bandwidth", bandwidth(p));
  row("peak fp32", rate(p.peak.fp32));
  row("peak fp16", rate(p.peak.fp16));
  row("peak int8", rate(p.peak.int8));
  row("peak int4", rate(p.peak.int4));
  for (const Gpu& gpu : p.gpus)
    row("GPU", fmt::format("{} ({}, {}, {} units, {})", gpu.name, gpu.api, gpu.capability, gpu.compute_units,
                           format_bytes(gpu.memory_bytes)));
  for (const std::string& note : p.notes) row("note", note);
}

}  // namespace

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
      print_table(p);
    }
  });
}

}  // namespace haqa
