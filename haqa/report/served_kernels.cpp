#include "haqa/report/served_kernels.h"

#include <fmt/format.h>

namespace haqa {
namespace {

std::string ratio_text(const Part& comparison) {
  const Part s = comparison["speedup"];
  const auto median = s["median"].positive(), low = s["low"].positive(), high = s["high"].positive();
  return median && low && high ? text_of(Interval{*median, *low, *high}) : "";
}

std::string stock_note(const Part& stock) {
  if (!stock["message"].text().empty()) return "failed";
  return stock["faster"].is(true) ? "serves, where no variant is faster" : "";
}

std::string round_note(const Part& kernel, const Round& r) {
  if (r.failed) return "failed" + (r.reason.empty() ? "" : ": " + r.reason);
  const Part confirmed = kernel["confirmed"];
  if (!confirmed["trial"].count() || *confirmed["trial"].count() + 1 != r.number) return "";
  if (!confirmed["message"].text().empty()) return "best, not confirmed";
  return fmt::format("{}: {}", confirmed["faster"].is(true) ? "confirmed" : "not confirmed", ratio_text(confirmed));
}

}  // namespace

Table served_kernels_table(const Part& kernels) {
  Table t{{"kernel", "round", "changed", "speed-up", "tokens/s", "proposed by", "note"}, "lrlrrll", {}};
  for (const Part& kernel : kernels["kernels"].list()) {
    const std::string name = kernel["name"].text();
    const Part stock = kernel["stock"];
    if (!stock.is_missing())
      t.rows.push_back({name, "", "stock code", ratio_text(stock),
                        figure(stock["tried"]["tokens_per_s"].positive(), ""), "", stock_note(stock)});
    for (const Round& r : read_rounds(kernel)) {
      const std::string value = !r.value ? "" : r.interval ? text_of(*r.interval) : ratio(*r.value);
      t.rows.push_back({name, std::to_string(r.number), r.number == 1 ? "the defaults, compiled here" : r.changes,
                        value, figure(r.tokens_per_s, ""), r.proposed_by, round_note(kernel, r)});
    }
  }
  return t.shown();
}

std::vector<std::string> served_kernels_reasons(const Part& kernels) {
  std::vector<std::string> all;
  for (const Part& kernel : kernels["kernels"].list()) {
    if (!kernel["stock"].is_missing()) all.push_back(kernel["stock"]["message"].text());
    for (const Round& r : read_rounds(kernel))
      all.push_back(joined({r.thought, r.message}, r.message.empty() ? "" : " "));
  }
  return all;
}

std::vector<std::string> served_kernels_answer(const Part& kernels) {
  std::vector<std::string> all;
  for (const Part& kernel : kernels["kernels"].list()) {
    const std::string serves = kernel["serves"].text(), why = kernel["why"].text();
    if (serves.empty()) continue;
    const std::string what = serves == "variant" ? "a variant serves"
                             : serves == "stock" ? "stock code serves"
                                                 : "the kernel that ships serves";
    all.push_back(fmt::format("{}: {}, as {}.", kernel["name"].text(), what, why));
  }
  std::vector<std::string> left;
  for (const Part& name : kernels["left_out"].list()) left.push_back(name.text());
  if (!left.empty()) all.push_back(fmt::format("The time was used up before {}.", joined(left)));
  return all;
}

}  // namespace haqa
